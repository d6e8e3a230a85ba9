"""Where answers come from: the interface of both engines, `local` and `forward`. Votes never pass through here."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dpo_pipeline.core.answers import Answer, Ask
from dpo_pipeline.core.votes import Sampling
from dpo_pipeline.request_errors import NotReady, UnknownModel


@dataclass(frozen=True)
class Adapter:
    """A version's adapter: its sha256 and its folder."""

    sha: str
    directory: Path


@dataclass(frozen=True)
class ServerState:
    """A server that answers are forwarded to, as of the last look at it.

    `holds` are the names there of what it should hold and does; null: it does not say. `lost` counts requests for an
    adapter that it had lost.
    """

    url: str
    reachable: bool
    holds: tuple[str, ...] | None
    trouble: str | None
    lost: int


class Engine(ABC):
    """Answers of served models, whole or as they grow. A second engine forwards to another server."""

    models: Mapping[str, str]
    """Served model names and the sha256 of their adapters."""

    @property
    def ready(self) -> bool:
        return bool(self.models)

    @property
    def servers(self) -> Sequence[ServerState]:
        """Those that answers are forwarded to; none where this machine generates."""
        return ()

    @abstractmethod
    def serve(self, adapters: Mapping[str, Adapter]) -> None:
        """Serve exactly these models from now on; blocks until they are loaded.

        Raises:
            ArtifactError, AdapterRefused, UpstreamFailed: one cannot be served; what was served before stays.
        """

    @abstractmethod
    async def answers(self, asks: Sequence[Ask]) -> list[Answer]:
        """Answers in order, generated together where there is room.

        Raises:
            NotReady, UnknownModel, QueueFull, DeadlineExceeded, InvalidRequest, EngineFailed
        """

    @abstractmethod
    def stream(self, ask: Ask) -> AsyncIterator[str | Answer]:
        """Pieces of text as they come, and last the whole answer. Closing the iterator frees its place.

        Raises: as `answers`, before the first piece or between two.
        """

    @property
    @abstractmethod
    def load(self) -> tuple[int, int]:
        """(requests that wait, requests that are being answered)."""

    @abstractmethod
    async def close(self) -> None: ...

    async def generate(self, model_id: str, prompt: str, sampling: Sampling | None = None) -> Answer:
        """One model's answer to one question."""
        [answer] = await self.answers([Ask(model_id, (("user", prompt),), sampling or Sampling(0.8, 0.95, None))])
        return answer

    def check_served(self, asks: Iterable[Ask]) -> None:
        if not self.ready:
            raise NotReady("The first version is being built or loaded. Try again in a moment; /readyz tells when.")
        for ask in asks:
            if ask.model_id not in self.models:
                served = ", ".join(sorted(self.models))
                raise UnknownModel(f"Model {ask.model_id!r} is not served. Ask for one of {served}, or for 'chat'.")
