"""What an event answers at once, what comes after, and what becomes of what nobody comes for."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from dpo_pipeline.serving.pages.in_parts import SOON_S, InParts, Part

LONG_S = 50 * SOON_S


async def parts(ended: list[str], *steps: Part | float | Exception) -> AsyncGenerator[Part]:
    """These, with waits between; notes how it ended."""
    try:
        for step in steps:
            if isinstance(step, Exception):
                raise step
            if isinstance(step, float):
                await asyncio.sleep(step)
            else:
                yield step
        ended.append("whole")
    except asyncio.CancelledError:
        ended.append("cancelled")
        raise
    except GeneratorExit:
        ended.append("closed")
        raise


async def rest_of(waiting: InParts, key: str = "tab") -> list[Part]:
    return [part async for part in waiting.rest(key)]


def test_what_is_there_at_once_is_one_answer() -> None:
    async def ask() -> None:
        waiting, ended = InParts(), list[str]()
        there, more = await waiting.begun("tab", parts(ended, {"a": 1, "b": 1}, {"b": 2}))
        assert (there, more, ended) == ({"a": 1, "b": 2}, False, ["whole"])
        assert await waiting.begun("tab", parts(ended)) == ({}, False)
        assert await rest_of(waiting) == []

    asyncio.run(ask())


def test_what_takes_time_comes_after() -> None:
    async def ask() -> None:
        waiting, ended = InParts(), list[str]()
        assert await waiting.begun("tab", parts(ended, {"a": 1}, LONG_S, {"a": 2}, {"a": 3})) == ({"a": 1}, True)
        assert await rest_of(waiting, "another tab") == []
        assert await rest_of(waiting) == [{"a": 2}, {"a": 3}] and ended == ["whole"]
        assert await rest_of(waiting) == [], "once"

    asyncio.run(ask())


def test_the_first_part_is_waited_for() -> None:
    async def ask() -> None:
        assert await InParts().begun("tab", parts([], LONG_S, {"a": 1})) == ({"a": 1}, False)

    asyncio.run(ask())


@pytest.mark.slow
@pytest.mark.parametrize("how", ["a later one has a rest", "the tab is gone", "whoever reads leaves"])
def test_what_nobody_comes_for_is_ended(how: str) -> None:
    async def ask() -> None:
        waiting, ended = InParts(), list[str]()
        await waiting.begun("tab", parts(ended, {"a": 1}, LONG_S, {"a": 2}, 60.0, {"a": 3}))
        if how == "a later one has a rest":
            assert await waiting.begun("tab", parts([], {"b": 1}, LONG_S)) == ({"b": 1}, True)
        elif how == "the tab is gone":
            await waiting.drop("tab")
        else:
            async for part in (reading := waiting.rest("tab")):
                assert part == {"a": 2}
                break
            await reading.aclose()
        assert len(ended) == 1 and ended[0] in ("cancelled", "closed")
        assert await rest_of(waiting) == []

    asyncio.run(ask())


def test_an_event_that_comes_to_nothing_leaves_alone_what_waits() -> None:
    async def ask() -> None:
        waiting, ended = InParts(), list[str]()
        await waiting.begun("tab", parts(ended, {"a": 1}, LONG_S, {"a": 2}))
        assert await waiting.begun("tab", parts([])) == ({}, False), "the second press of two"
        assert await rest_of(waiting) == [{"a": 2}] and ended == ["whole"]

    asyncio.run(ask())


def test_what_belongs_to_an_earlier_pair_does_not_come_after_a_later_one() -> None:
    async def ask() -> None:
        waiting, ended, turn = InParts(), list[str](), 1
        await waiting.begun("tab", parts(ended, {"a": 1}, LONG_S, {"a": 2}, {"a": 3}), lambda: turn)
        reading = waiting.rest("tab", lambda: turn)
        assert await anext(reading) == {"a": 2}
        # While the queue still brings parts, a later event's go over it too: only so is there an order.
        there, more = await waiting.begun("tab", parts([], {"b": 1}, {"b": 2}), lambda: turn)
        assert (there, more) == ({"b": 1}, True)
        turn = 2
        assert [part async for part in reading] == [] and len(ended) == 1

    asyncio.run(ask())


def test_an_error_is_told_wherever_it_comes() -> None:
    async def ask() -> None:
        waiting = InParts()
        with pytest.raises(ValueError, match="at once"):
            await waiting.begun("tab", parts([], ValueError("at once")))
        with pytest.raises(ValueError, match="soon"):
            await waiting.begun("tab", parts([], {"a": 1}, ValueError("soon")))
        assert await waiting.begun("tab", parts([], {"a": 1}, LONG_S, ValueError("late"))) == ({"a": 1}, True)
        with pytest.raises(ValueError, match="late"):
            await rest_of(waiting)
        assert await rest_of(waiting) == []

    asyncio.run(ask())
