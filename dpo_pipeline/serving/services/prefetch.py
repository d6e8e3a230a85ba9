"""The next comparison, generated while the person still reads this one.

At most one a visit, and a bounded number in all. What nobody comes for is cancelled, so that its
place in the batch is free again. Nothing here knows what a question is or who asks it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from dpo_pipeline.serving.services.comparison_views import ComparisonView, PartialView

KEEP_S = 600.0
FRAME_S = 0.05
"""Between two looks at answers that grow: 20 pictures a second read as flowing."""


class Preparing:
    """One comparison under way. It goes on whether or not somebody looks, until it is closed."""

    def __init__(self, events: AsyncIterator[PartialView | ComparisonView]):
        self._latest = PartialView("", "")
        self._work = asyncio.ensure_future(self._read(events))
        self._work.add_done_callback(_look_at)

    async def _read(self, events: AsyncIterator[PartialView | ComparisonView]) -> ComparisonView:
        async for event in events:
            if isinstance(event, ComparisonView):
                return event
            self._latest = event
        raise AssertionError("a comparison ended without an end")

    @property
    def failed(self) -> bool:
        return self._work.done() and (self._work.cancelled() or self._work.exception() is not None)

    async def follow(self) -> AsyncIterator[PartialView | ComparisonView]:
        """What is there, then what comes, and last the comparison; nothing more once it is closed.

        Raises: whatever stopped the generation.
        """
        sent: PartialView | None = None
        while not self._work.done():
            if self._latest is not sent:
                sent = self._latest
                yield sent
            await asyncio.wait([self._work], timeout=FRAME_S)
        if not self._work.cancelled():
            yield self._work.result()

    def close(self) -> None:
        self._work.cancel()


@dataclass(frozen=True)
class _Kept:
    plan: Any
    preparing: Preparing
    expiry: asyncio.TimerHandle


class Prefetch:
    """Prepared comparisons by visit."""

    def __init__(self, keep_s: float = KEEP_S):
        self._keep_s = keep_s
        self._kept: dict[str, _Kept] = {}

    def prepare(self, visit: str, plan: Any, begin: Callable[[], Preparing], most: int) -> None:
        """Begin a comparison for a visit unless one by the same plan is there; one by another plan is dropped.

        Args:
            most: how many may be kept for all visits; the oldest makes room.
        """
        kept = self._kept.get(visit)
        if kept and kept.plan == plan and not kept.preparing.failed:
            return
        self.drop(visit)
        if len(self._kept) >= most:
            self.drop(next(iter(self._kept)))
        expiry = asyncio.get_running_loop().call_later(self._keep_s, self.drop, visit)
        self._kept[visit] = _Kept(plan, begin(), expiry)

    def take(self, visit: str, plan: Any) -> Preparing | None:
        """The one prepared by this plan, whole or still under way; it belongs to the caller from now on."""
        kept = self._kept.get(visit)
        if kept is None or kept.plan != plan or kept.preparing.failed:
            self.drop(visit)
            return None
        del self._kept[visit]
        kept.expiry.cancel()
        return kept.preparing

    def drop(self, visit: str) -> None:
        kept = self._kept.pop(visit, None)
        if kept:
            kept.expiry.cancel()
            kept.preparing.close()


def _look_at(work: "asyncio.Future[ComparisonView]") -> None:
    """A failure that nobody waits for is no news; whoever takes it is told."""
    with suppress(asyncio.CancelledError):
        work.exception()
