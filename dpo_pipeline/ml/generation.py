"""Answers of several versions over one base model: from messages to tokens and back to text.

Which rows decode together is `decoding`'s; what to ask and whom belongs to serving and evaluation.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpo_pipeline.core.answers import Answer
from dpo_pipeline.errors import AdapterRefused, ModelUnavailable
from dpo_pipeline.ml.adapters import check_adapter
from dpo_pipeline.ml.base_model import BaseModel, load_base
from dpo_pipeline.ml.chat_template import ChatTemplate
from dpo_pipeline.ml.compute import compute_of, may_decode_in_eight_bits
from dpo_pipeline.request_errors import InvalidRequest
from dpo_pipeline.settings import ModelSettings

if TYPE_CHECKING:  # both load torch, and definitions that only name a Generator must not
    from dpo_pipeline.ml.row import Row

HALF_A_CHARACTER = "\ufffd"
"""What tokens that end in the middle of a character are decoded to."""


@dataclass(frozen=True)
class GenerationRequest:
    """`adapter` is an adapter's sha256, or null for the bare base model. Temperature 0 is greedy."""

    messages: tuple[tuple[str, str], ...]
    adapter: str | None
    temperature: float
    top_p: float
    max_tokens: int
    seed: int


@dataclass(frozen=True)
class ScoredAnswer:
    """An answer whose likelihood is wanted under an adapter, or under the bare base model (null)."""

    messages: tuple[tuple[str, str], ...]
    answer: str
    adapter: str | None


class Generator:
    """One base model and the adapters loaded on it. Not thread-safe: one thread generates.

    Args:
        eight_bit: where that is sooner, few answers at once are decoded with weights of 8 bits (see `ml.eight_bit`).
    """

    def __init__(self, base: BaseModel, model: ModelSettings, eight_bit: bool = False):
        from dpo_pipeline.ml.decoding import DecodeBatch
        from dpo_pipeline.ml.eight_bit import decode_in_eight_bits
        from dpo_pipeline.ml.fused_norm import fuse_norms
        from dpo_pipeline.ml.lm_head import has_plain_head
        from dpo_pipeline.ml.mixed_lora import MixedLora

        self.base = base
        self.settings = model
        self._model, self.tokenizer = load_base(base.directory, model)
        self.template = ChatTemplate(self.tokenizer)
        _check_attention(self._model.config, model.max_length)
        self._stop_ids = _stop_ids(self._model, self.tokenizer, self.template.turn_end)
        self._plain_head = has_plain_head(self._model)
        fuse_norms(self._model)
        if eight_bit and may_decode_in_eight_bits(self._model, compute_of(model)):
            decode_in_eight_bits(self._model)
        self._adapters = MixedLora(self._model, model.lora_targets)
        self.batch = DecodeBatch(self._model, self._adapters.select, self._stop_ids, self.tokenizer.pad_token_id)

    @property
    def loaded(self) -> set[str]:
        """The sha256 of every adapter that can be asked for."""
        return self._adapters.names

    def load(self, sha: str, directory: Path) -> None:
        """Verify and load an adapter under its hash; does nothing where it is loaded.

        Raises:
            ArtifactCorrupt, AdapterRefused: it must not be served.
        """
        if sha in self.loaded:
            return
        manifest = check_adapter(directory, self.base.sha, self.settings)
        if manifest["sha256"] != sha:
            raise AdapterRefused(
                f"{directory} holds adapter {manifest['sha256'][:12]}; the ledger names {sha[:12]}. "
                "Restore the folder or materialize `trained_adapter` for that version again."
            )
        self._adapters.add(sha, directory)
        self.batch.settle()

    def drop(self, sha: str) -> None:
        """Forget an adapter that no row uses any more."""
        self._adapters.remove(sha)
        self.batch.settle()

    def row(self, request: GenerationRequest) -> "Row":
        """A request made ready to join the batch.

        Raises:
            InvalidRequest: the template cannot take the messages, they leave no room for an answer, or the adapter
                is not loaded.
        """
        from dpo_pipeline.ml.row import Row

        if request.adapter and request.adapter not in self.loaded:
            raise InvalidRequest(f"Adapter {request.adapter[:12]} is not loaded.")
        prompt = self.template.prompt_ids(request.messages)
        if len(prompt) + 1 > self.settings.max_length:
            raise InvalidRequest(
                f"The prompt has {len(prompt)} tokens; at most {self.settings.max_length - 1} fit (model.max_length). "
                "Shorten it."
            )
        return Row(prompt, request.adapter, request.temperature, request.top_p, request.max_tokens, request.seed)

    def generate(
        self, requests: Sequence[GenerationRequest], finished: Callable[[int], None] = lambda count: None
    ) -> list[Answer]:
        """One answer per request, in order; all rows decode together.

        Args:
            finished: told how many answers are whole, each time that it grows.

        Raises:
            InvalidRequest: a prompt leaves no room for an answer, or names an adapter that is not loaded.
        """
        rows = [self.row(request) for request in requests]
        ready = len(self.batch.join(rows))
        while self.batch.rows:
            ended = len(self.batch.step())
            ready += ended
            if ended:
                finished(ready)
        return [self.answer(row) for row in rows]

    def logprobs(self, rows: Sequence[ScoredAnswer], batch: int = 64) -> list[list[float]]:
        """Log-probability of each token of every answer, its end token last, under the adapter named with it.

        Between generations only: it tells the model other adapters than the running batch has. What lies beyond
        `max_length` is not scored.
        """
        import torch

        from dpo_pipeline.ml.lm_head import token_logprobs

        found: list[list[float]] = []
        device = self._model.device
        for start in range(0, len(rows), batch):
            some = rows[start : start + batch]
            encoded = [self._scored_ids(row) for row in some]
            longest = max(len(ids) for ids, _ in encoded)
            ids = torch.full((len(some), longest), self.tokenizer.pad_token_id, dtype=torch.long, device=device)
            mask = torch.zeros_like(ids)
            for i, (tokens, _) in enumerate(encoded):
                ids[i, : len(tokens)] = torch.tensor(tokens)
                mask[i, : len(tokens)] = 1
            self._adapters.select([row.adapter for row in some])
            try:
                with torch.inference_mode():
                    spans = [
                        (i * longest + begin - 1, len(tokens) - begin) for i, (tokens, begin) in enumerate(encoded)
                    ]
                    source = torch.tensor([at + n for at, length in spans for n in range(length)], device=device)
                    picked = token_logprobs(self._model, ids, mask, source, ids.flatten()[source + 1], self._plain_head)
            finally:
                self.batch.settle()
            found += [part.tolist() for part in picked.split([length for _, length in spans])]
        return found

    def _scored_ids(self, row: ScoredAnswer) -> tuple[list[int], int]:
        """Tokens of prompt and answer, cut to `max_length`, and where the answer begins; at least one is of it."""
        prompt = self.template.prompt_ids(row.messages)
        said = self.template.said(row.answer)
        answer = self.tokenizer.backend_tokenizer.encode(said, add_special_tokens=False).ids
        longest = self.settings.max_length
        prompt = prompt[-(longest - 1) :]
        end = self.tokenizer.eos_token_id if self.template.turn_end is None else self.template.turn_end
        return (prompt + answer + [end])[:longest], len(prompt)

    def answer(self, row: "Row") -> Answer:
        """What a row has said so far."""
        text = self.tokenizer.decode(row.tokens, skip_special_tokens=True)
        if not row.stopped:
            text = text.rstrip(HALF_A_CHARACTER)  # where `max_tokens` cut one of several tokens
        text = text.strip()
        return Answer(text, len(row.prompt), len(row.tokens), row.stopped, row.adapter)

    def text_stream(self, row: "Row") -> "TextStream":
        return TextStream(self.tokenizer.backend_tokenizer, row)


class TextStream:
    """A row's text as it grows. The pieces together are the answer's text, stripped like it."""

    def __init__(self, tokenizer: Any, row: "Row"):
        from tokenizers.decoders import DecodeStream

        self._tokenizer, self._row = tokenizer, row
        self._decoder = DecodeStream(skip_special_tokens=True)
        self._read = 0
        self._begun = False
        self._held = ""

    def piece(self) -> str:
        """The text added since the last call; whitespace waits for what follows it."""
        text = self._held
        for token in self._row.tokens[self._read :]:
            text += self._decoder.step(self._tokenizer, token) or ""
        self._read = len(self._row.tokens)
        if not self._begun:
            text = text.lstrip()
        kept = text.rstrip()
        self._begun = self._begun or bool(kept)
        self._held = text[len(kept) :]
        return kept


def _check_attention(config: Any, max_length: int) -> None:
    """The batch has one mask for all layers, which a sliding window shorter than a row would need two of."""
    window = getattr(config, "sliding_window", None)
    if window and "sliding_attention" in (getattr(config, "layer_types", None) or []) and window < max_length:
        raise ModelUnavailable(
            f"The base model attends over a window of {window} tokens, model.max_length is {max_length}. "
            f"Set DPO_MODEL__MAX_LENGTH={window} or choose a base model with full attention."
        )


def _stop_ids(model: Any, tokenizer: Any, turn_end: int | None) -> list[int]:
    configured = model.generation_config.eos_token_id
    ids = configured if isinstance(configured, list) else [configured] if configured is not None else []
    if tokenizer.eos_token_id is not None and tokenizer.eos_token_id not in ids:
        ids = [tokenizer.eos_token_id, *ids]
    return list(ids) if turn_end is None or turn_end in ids else [*ids, turn_end]
