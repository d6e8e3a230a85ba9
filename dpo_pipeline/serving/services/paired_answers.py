"""The answers of a comparison, from the engine: of each version one, or the most telling two of some samples of one.

Each answer draws with a seed of its own: samples of one version must differ. Two equal answers are nothing to vote on,
so both are drawn again, whichever versions they are of: with other seeds first, and then warmer.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from msgspec import structs

from dpo_pipeline.core.answers import Answer, Ask, Messages
from dpo_pipeline.core.candidates import best_partner
from dpo_pipeline.core.votes import Sampling
from dpo_pipeline.request_errors import RequestError
from dpo_pipeline.serving.engines.engine import Engine
from dpo_pipeline.settings import QualityCriteria

Answered = tuple[Ask, Answer]
OTHER_SEEDS, WARMER = 2, (1.1, 1.5)
"""Equal answers are drawn so many times more as they were, and then at these temperatures."""
SEEDS_APART = 1000
Again = Literal["never", "alike", "warmer"]
"""How equal answers are drawn again: where one drawing alone was asked for, a temperature, or neither."""


@dataclass(frozen=True)
class PartialAnswers:
    """Two answers as far as they are; the second of two samples stays empty until it is chosen."""

    first: str
    second: str


def samples_one(models: Sequence[str]) -> bool:
    """Whether these are two samples of one version."""
    return len(models) == 2 and models[0] == models[1]


class PairedAnswers:
    """
    Args:
        samples: how many of one version are drawn, for the second to be chosen among.
        queue: requests that may wait for the engine.
    """

    def __init__(self, engine: Engine, samples: int, queue: int, quality: QualityCriteria):
        self._engine, self._most, self._queue, self._quality = engine, samples, queue, quality

    async def answer(
        self, models: Sequence[str], messages: Messages, sampling: Sampling, again: Again
    ) -> list[Answered]:
        """In the order of `models`; generated together.

        Args:
            again: how two equal answers are drawn again.

        Raises:
            RequestError: as the engine's.
        """
        found: list[Answered] = []
        for drawing in _drawings(sampling, again if len(models) == 2 else "never"):
            asks = self._asks(models, messages, drawing)
            try:
                found = await asyncio.to_thread(self._chosen, models, asks, await self._engine.answers(asks))
            except RequestError:
                if not found:
                    raise
                break  # two equal answers are better than none
            if not are_equal(found):
                break
        return found

    async def streaming(
        self, models: tuple[str, str], messages: Messages, sampling: Sampling, again: Again
    ) -> AsyncIterator[PartialAnswers | list[Answered]]:
        """The two answers as they grow, and last the list that `answer` gives; takes and raises what it does."""
        found: list[Answered] = []
        for drawing in _drawings(sampling, again):
            asks = self._asks(models, messages, drawing)
            texts, answers = [""] * len(asks), dict[int, Answer]()
            try:
                async for place, event in _merged([self._engine.stream(ask) for ask in asks]):
                    if isinstance(event, Answer):
                        answers[place] = event
                    else:
                        texts[place] += event
                        if place == 0 or not samples_one(models):
                            yield PartialAnswers(texts[0], "" if samples_one(models) else texts[1])
            except RequestError:
                if not found:
                    raise
                break
            in_order = [answers[place] for place in range(len(asks))]
            found = await asyncio.to_thread(self._chosen, models, asks, in_order)
            if not are_equal(found):
                break
        yield found

    def _asks(self, models: Sequence[str], messages: Messages, sampling: Sampling) -> list[Ask]:
        asked = [models[0]] * self._samples() if samples_one(models) else models
        first = sampling.seed or 0
        return [Ask(model, messages, structs.replace(sampling, seed=first + i)) for i, model in enumerate(asked)]

    def _samples(self) -> int:
        """So many that nobody who waits is refused for them: two are enough for a comparison."""
        waiting, _ = self._engine.load
        return max(2, min(self._most, self._queue - waiting))

    def _chosen(self, models: Sequence[str], asks: Sequence[Ask], answers: Sequence[Answer]) -> list[Answered]:
        answered = list(zip(asks, answers, strict=True))
        if not samples_one(models):
            return answered
        first, *others = answered
        return [first, others[best_partner(first[1].text, [each.text for _, each in others], self._quality)]]


def _drawings(sampling: Sampling, again: Again) -> Iterator[Sampling]:
    """How to draw first, and again where the answers were equal."""
    yield sampling
    temperature = sampling.temperature or 0.0
    more = [temperature] * OTHER_SEEDS if again != "never" and temperature else []
    more += [max(each, temperature) for each in WARMER if again == "warmer"]
    for number, warmth in enumerate(more, start=1):
        yield structs.replace(sampling, temperature=warmth, seed=(sampling.seed or 0) + number * SEEDS_APART)


def are_equal(answered: Sequence[Answered]) -> bool:
    """Two answers between which there is nothing to choose."""
    return len(answered) == 2 and answered[0][1].text.strip() == answered[1][1].text.strip()


async def _merged(streams: Sequence[AsyncIterator[str | Answer]]) -> AsyncIterator[tuple[int, str | Answer]]:
    """Events of several streams as they come, each with the place of its stream."""
    events: asyncio.Queue[tuple[int, str | Answer | Exception]] = asyncio.Queue()

    async def read(place: int, stream: AsyncIterator[str | Answer]) -> None:
        try:
            async for event in stream:
                events.put_nowait((place, event))
        except Exception as error:  # raised where the events are read
            events.put_nowait((place, error))

    readers = [asyncio.create_task(read(place, stream)) for place, stream in enumerate(streams)]
    try:
        unfinished = len(streams)
        while unfinished:
            place, event = await events.get()
            if isinstance(event, Exception):
                raise event
            unfinished -= isinstance(event, Answer)
            yield place, event
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
