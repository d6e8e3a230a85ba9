"""The next comparison in the background: taken once, bounded, cancelled when nobody comes."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from dpo_pipeline.request_errors import QueueFull
from dpo_pipeline.serving.services.comparison_views import ComparisonView, PartialView
from dpo_pipeline.serving.services.prefetch import Prefetch, Preparing

SHOWN = ComparisonView("cmp-1", "token", "Why?", "other", "left", "right", "2026-01-01T00:00:00Z")


class Source:
    """Comparisons that end when the test says so."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.begun = self.cancelled = 0

    def begin(self) -> Preparing:
        self.begun += 1
        return Preparing(self._events())

    async def _events(self) -> AsyncIterator[PartialView | ComparisonView]:
        try:
            yield PartialView("le", "ri")
            await self.go.wait()
            yield SHOWN
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_one_that_is_under_way_goes_on_where_it_stands() -> None:
    async def run() -> None:
        prefetch, source = Prefetch(), Source()
        prefetch.prepare("visit", "plan", source.begin, 2)
        prefetch.prepare("visit", "plan", source.begin, 2)
        await settle()
        taken = prefetch.take("visit", "plan")
        assert taken and source.begun == 1 and prefetch.take("visit", "plan") is None
        seen = taken.follow()
        assert await anext(seen) == PartialView("le", "ri")
        source.go.set()
        assert await anext(seen) == SHOWN

    asyncio.run(run())


@pytest.mark.parametrize("how", ["another plan", "closed tab", "expiry", "too many"])
def test_what_nobody_comes_for_is_cancelled(how: str) -> None:
    async def run() -> None:
        prefetch, source = Prefetch(keep_s=0.01 if how == "expiry" else 60), Source()
        prefetch.prepare("visit", "plan", source.begin, 2)
        await settle()
        if how == "another plan":
            assert prefetch.take("visit", "other plan") is None
        elif how == "closed tab":
            prefetch.drop("visit")
        elif how == "expiry":
            await asyncio.sleep(0.05)
        else:
            prefetch.prepare("second", "plan", source.begin, 2)
            prefetch.prepare("third", "plan", source.begin, 2)
        await settle()
        assert source.cancelled == 1
        assert prefetch.take("visit", "plan") is None

    asyncio.run(run())


def test_a_failure_in_the_background_is_nobodys_trouble() -> None:
    async def refused() -> AsyncIterator[PartialView | ComparisonView]:
        raise QueueFull("full")
        yield  # pragma: no cover

    async def run() -> None:
        prefetch = Prefetch()
        prefetch.prepare("visit", "plan", lambda: Preparing(refused()), 2)
        await settle()
        assert prefetch.take("visit", "plan") is None
        with pytest.raises(QueueFull):
            async for _ in Preparing(refused()).follow():
                pass

    asyncio.run(run())
