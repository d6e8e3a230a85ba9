"""The answers of a comparison: one of each version, or the most telling two of some samples of one."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

import pytest

from dpo_pipeline.core.answers import Answer, Ask
from dpo_pipeline.core.votes import Sampling
from dpo_pipeline.request_errors import QueueFull
from dpo_pipeline.serving.engines.engine import Adapter, Engine
from dpo_pipeline.serving.services.comparison_prompt import ComparisonPrompt
from dpo_pipeline.serving.services.paired_answers import PairedAnswers, PartialAnswers
from dpo_pipeline.settings import QualityCriteria
from dpo_pipeline_tests.examples import LONG, SHORT

MESSAGES = (("user", "What is the capital of France?"),)
SAMPLING = Sampling(0.9, 0.95, 24, 100)
TEXTS = {100: SHORT, 101: SHORT, 102: f"{SHORT} ", 103: LONG}
TEXTS |= {1100: LONG, 1101: LONG, 2100: LONG, 2101: LONG, 3100: SHORT, 3101: LONG}
"""By seed: of the first four only the last sample makes a pair with the first; drawn again, the fourth time differs."""


class Scripted(Engine):
    """Answers by seed; `waiting` requests are in its queue."""

    def __init__(self, waiting: int = 0) -> None:
        self.models, self.waiting, self.asked = {"v1.0": "a", "v1.1": "b"}, waiting, list[Ask]()

    @property
    def load(self) -> tuple[int, int]:
        return self.waiting, 0

    def serve(self, adapters: Mapping[str, Adapter]) -> None: ...

    async def answers(self, asks: Sequence[Ask]) -> list[Answer]:
        self.asked += asks
        return [Answer(TEXTS[ask.sampling.seed or 0], 8, 8, True, "a") for ask in asks]

    async def stream(self, ask: Ask) -> AsyncIterator[str | Answer]:
        [whole] = await self.answers([ask])
        yield whole.text
        yield whole

    async def close(self) -> None: ...


def paired(engine: Engine) -> PairedAnswers:
    return PairedAnswers(engine, samples=4, queue=256, quality=QualityCriteria())


def test_two_versions_answer_once_each() -> None:
    engine = Scripted()
    answered = asyncio.run(paired(engine).answer(["v1.0", "v1.1"], MESSAGES, SAMPLING, "never"))
    assert [ask.model_id for ask, _ in answered] == ["v1.0", "v1.1"] and len(engine.asked) == 2


def test_of_one_version_the_sample_that_makes_a_pair_stands_beside_the_first() -> None:
    engine = Scripted()
    first, second = asyncio.run(paired(engine).answer(["v1.0", "v1.0"], MESSAGES, SAMPLING, "never"))
    assert (first[1].text, second[1].text) == (SHORT, LONG)
    assert (first[0].sampling.seed, second[0].sampling.seed) == (100, 103) and len(engine.asked) == 4


@pytest.mark.parametrize(("waiting", "asked"), [(0, 4), (253, 3), (256, 2)])
def test_with_a_full_queue_two_samples_are_enough(waiting: int, asked: int) -> None:
    engine = Scripted(waiting)
    asyncio.run(paired(engine).answer(["v1.0", "v1.0"], MESSAGES, SAMPLING, "never"))
    assert len(engine.asked) == asked


def test_the_first_grows_and_its_partner_comes_when_it_is_chosen() -> None:
    async def read() -> list[object]:
        return [each async for each in paired(Scripted()).streaming(("v1.0", "v1.0"), MESSAGES, SAMPLING, "never")]

    *growing, (first, second) = asyncio.run(read())  # type: ignore[misc]
    assert growing and all(each == PartialAnswers(SHORT, "") for each in growing)
    assert (first[1].text, second[1].text) == (SHORT, LONG)


def test_two_equal_answers_are_drawn_again_and_then_warmer() -> None:
    engine = Scripted()
    first, second = asyncio.run(paired(engine).answer(["v1.0", "v1.1"], MESSAGES, SAMPLING, "warmer"))
    assert (first[1].text, second[1].text) == (SHORT, LONG)
    assert [(ask.sampling.seed, ask.sampling.temperature) for ask in engine.asked] == [
        (100, 0.9), (101, 0.9), (1100, 0.9), (1101, 0.9), (2100, 0.9), (2101, 0.9), (3100, 1.1), (3101, 1.1),
    ]  # fmt: skip
    assert first[0].sampling.temperature == 1.1, "what is recorded is how they were drawn"

    async def read() -> list[object]:
        events = paired(Scripted()).streaming(("v1.0", "v1.1"), MESSAGES, SAMPLING, "warmer")
        return [each async for each in events]

    *_, (first, second) = asyncio.run(read())  # type: ignore[misc]
    assert (first[1].text, second[1].text) == (SHORT, LONG)


def test_a_temperature_that_was_asked_for_stays() -> None:
    engine = Scripted()
    first, second = asyncio.run(paired(engine).answer(["v1.0", "v1.1"], MESSAGES, SAMPLING, "alike"))
    assert first[1].text == second[1].text and {ask.sampling.temperature for ask in engine.asked} == {0.9}
    cold = Scripted()
    asyncio.run(paired(cold).answer(["v1.0", "v1.1"], MESSAGES, Sampling(0.0, 0.95, 24, 100), "alike"))
    assert len(cold.asked) == 2, "greedy answers come out the same"


def test_two_equal_answers_are_better_than_none() -> None:
    class Full(Scripted):
        async def answers(self, asks: Sequence[Ask]) -> list[Answer]:
            if self.asked:
                raise QueueFull("full")
            return await super().answers(asks)

    found = asyncio.run(paired(Full()).answer(["v1.0", "v1.1"], MESSAGES, SAMPLING, "warmer"))
    assert [each.text for _, each in found] == [SHORT, SHORT]

    class Refusing(Full):
        async def answers(self, asks: Sequence[Ask]) -> list[Answer]:
            raise QueueFull("full")

    with pytest.raises(QueueFull):
        asyncio.run(paired(Refusing()).answer(["v1.0", "v1.1"], MESSAGES, SAMPLING, "warmer"))


def test_who_asks_for_one_drawing_gets_it() -> None:
    assert ComparisonPrompt("Why?", "other").drawn_again == "warmer"
    assert ComparisonPrompt("Why?", "other", sampling=Sampling(seed=1)).drawn_again == "never"
    assert ComparisonPrompt("Why?", "other", sampling=Sampling(temperature=0.3)).drawn_again == "alike"
