"""Side by side: what is asked, and which versions answer."""

import itertools
import logging
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from functools import partial

from dpo_pipeline.core.matchmaking import matches, pick
from dpo_pipeline.core.questions import AskedQuestion, OriginFilter, QuestionFilter
from dpo_pipeline.core.rollout import STAGES
from dpo_pipeline.core.versions import served_name
from dpo_pipeline.core.votes import Sampling
from dpo_pipeline.request_errors import NothingToCompare, UnknownModel
from dpo_pipeline.serving.access import RateLimits
from dpo_pipeline.serving.engines.engine import Engine
from dpo_pipeline.serving.router import Router
from dpo_pipeline.serving.services.chats import FOLLOW_ROLLOUT
from dpo_pipeline.serving.services.comparison_prompt import ComparisonPrompt, check_question
from dpo_pipeline.serving.services.comparison_views import ComparisonView, PartialView
from dpo_pipeline.serving.services.comparisons import Comparisons
from dpo_pipeline.serving.services.keeping import asking
from dpo_pipeline.serving.services.paired_answers import (
    Answered,
    PairedAnswers,
    PartialAnswers,
    are_equal,
    samples_one,
)
from dpo_pipeline.serving.services.readiness import Readiness
from dpo_pipeline.serving.services.sampling import Defaults
from dpo_pipeline.serving.services.tally import Tally
from dpo_pipeline.serving.services.visitors import Visitor, Visitors
from dpo_pipeline.stores.serving_state import StoredComparison

log = logging.getLogger(__name__)
QUESTIONS = 4
"""So many drawn ones are tried, each with its answers drawn again, before it is said that they are equal. So many
times, too, versions are picked, where those that were are served no longer."""


class Comparing:
    """
    Args:
        measure_share: of the comparisons whose versions the server picks, those that measure what is known least.
    """

    def __init__(
        self,
        engine: Engine,
        router: Router,
        readiness: Readiness,
        answers: PairedAnswers,
        comparisons: Comparisons,
        tally: Tally,
        visitors: Visitors,
        rates: RateLimits,
        defaults: Defaults,
        measure_share: float,
    ):
        self._engine, self._router, self._readiness, self._answers = engine, router, readiness, answers
        self._comparisons, self._tally, self._rates = comparisons, tally, rates
        self._visitors = visitors
        self._defaults, self._measure_share = defaults, measure_share

    def draw_prompt(self, category: str | None, origin: OriginFilter, seen: tuple[str, ...] = ()) -> ComparisonPrompt:
        """A question that may be asked; where it comes from the bank, of the category that has the fewest votes.

        What the origin wanted does not have yet comes from the bank.

        Args:
            seen: questions whose answers were equal.
        """
        votes = {} if category else self._tally.refresh().by_category
        drawn = self._comparisons.questions.draw(QuestionFilter(origin, category, seen), votes)
        otherwise = partial(self.draw_prompt, category, origin, (*seen, drawn.question))
        return replace(ComparisonPrompt.drawn(drawn), otherwise=otherwise)

    def draw(self, wish: QuestionFilter, votes: dict[str, int]) -> AskedQuestion:
        """The same for a person who has seen some already, by votes that are counted.

        Args:
            votes: by category.
        """
        return self._comparisons.questions.draw(wish, votes)

    def answered_before(self, visitor: Visitor, origin: OriginFilter) -> ComparisonPrompt | None:
        """Now and then, instead of a new question, a pair that is there: one that was decided before, or in staging
        what people asked in production, answered by the champion and by its challenger's shadow copy.
        """
        route = self._router.route
        if route.stage == STAGES[0] and route.champion and route.challenger:
            models = route.champion, route.challenger
            if copied := self._comparisons.shadowed(visitor.person, origin, models):
                return ComparisonPrompt(copied.prompt, copied.category, origin="production", answered=copied)
        earlier = self._comparisons.second_looks.draw(visitor.person, origin)
        return ComparisonPrompt(earlier.prompt, earlier.category, origin="bank", answered=earlier) if earlier else None

    async def compare(self, question: ComparisonPrompt, visitor: Visitor) -> list[ComparisonView]:
        """One comparison for every pair of the versions asked for, in random order.

        Raises:
            InvalidRequest: the answers to this could not be compared.
            NothingToCompare: the answers to several drawn questions were equal.
            UnknownModel: a version that was asked for by name is not served.
        """
        check_question(question)
        self._rates.check("answers", visitor.person, visitor.address)
        if question.answered:
            return [await self._show_answered(question.answered, await asking(self._visitors.settled, visitor))]
        visitor = await asking(self._visitors.settled, visitor)
        models, propensity = self._models(question.models)
        for left in reversed(range(QUESTIONS)):
            sampling = self._defaults.comparison(question.sampling, models)
            try:
                answered = await self._answers.answer(models, question.messages, sampling, question.drawn_again)
            except UnknownModel as gone:
                models, propensity = self._others(question, left, gone)
            else:
                if not (question.otherwise and are_equal(answered)):
                    break
                question = self._another(question, models, left)
        pairs = list(itertools.combinations(range(len(models)), 2))
        random.shuffle(pairs)
        return [await self._show(question, visitor, answered[i], answered[j], propensity, sampling) for i, j in pairs]

    async def compare_streaming(
        self, question: ComparisonPrompt, visitor: Visitor
    ) -> AsyncIterator[PartialView | ComparisonView]:
        """Two answers as they grow, on the sides where they stay, and last the comparison to vote on; raises as
        `compare`.
        """
        check_question(question)
        self._rates.check("answers", visitor.person, visitor.address)
        if question.answered:
            yield await self._show_answered(question.answered, await asking(self._visitors.settled, visitor))
            return
        visitor = await asking(self._visitors.settled, visitor)
        models, propensity = self._models(question.models)
        side = random.choice("ab")
        for left in reversed(range(QUESTIONS)):
            sampling = self._defaults.comparison(question.sampling, models)
            try:
                pair, redraw = (models[0], models[1]), question.drawn_again
                async for event in self._answers.streaming(pair, question.messages, sampling, redraw):
                    if isinstance(event, PartialAnswers):
                        sides = (event.first, event.second)
                        yield PartialView(*(sides if side == "a" else sides[::-1]))
                    elif question.otherwise and are_equal(event):
                        question = self._another(question, models, left)
                    else:
                        first, second = event
                        yield await self._show(question, visitor, first, second, propensity, sampling, side)
                        return
            except UnknownModel as gone:
                models, propensity = self._others(question, left, gone)

    def _models(self, asked: Sequence[str] | None) -> tuple[tuple[str, ...], float]:
        """Those asked for, or those that `core.matchmaking` picks; and the probability with which they were."""
        route = self._router.route
        if route.champion is None:
            raise self._readiness.not_ready()
        if asked:
            return tuple(route.champion if name == FOLLOW_ROLLOUT else served_name(name) for name in asked), 1.0
        served, tallies, testing = list(self._engine.models), self._tally.pairs(), route.stage == STAGES[0]
        offered = matches(route.champion, route.challenger, served, tallies, self._measure_share, testing)
        match = pick(offered, random.random())
        return (match.first, match.second), match.propensity

    def _others(self, question: ComparisonPrompt, left: int, gone: UnknownModel) -> tuple[tuple[str, ...], float]:
        """Instead of versions of which one was rolled back after it had been picked.

        Args:
            left: how many more times may be picked.

        Raises:
            UnknownModel: they were asked for by name.
        """
        if question.models or not left:
            raise gone
        return self._models(None)

    def _another(self, question: ComparisonPrompt, models: Sequence[str], left: int) -> ComparisonPrompt:
        """Instead of a drawn question whose answers stayed equal.

        Args:
            left: how many more may be tried.

        Raises:
            NothingToCompare: none.
        """
        if left and question.otherwise:
            return question.otherwise()
        whose = models[0] if samples_one(models) else " and ".join(models)
        log.warning(
            "%s gave equal answers to %d questions; does the engine heed seed and temperature?", whose, QUESTIONS
        )
        raise NothingToCompare(
            f"{whose} gave the same answer twice to each of {QUESTIONS} questions, even at a higher temperature: there "
            "is nothing to choose between. Ask a question of your own, or try again later."
        )

    async def _show(
        self,
        question: ComparisonPrompt,
        visitor: Visitor,
        first: Answered,
        second: Answered,
        propensity: float,
        sampling: Sampling,
        left: str | None = None,
    ) -> ComparisonView:
        return await asking(
            self._comparisons.open,
            prompt=question.prompt,
            category=question.category,
            models=(first[0].model_id, second[0].model_id),
            answers=(first[1].text, second[1].text),
            visitor=visitor,
            sampling=first[0].sampling,
            propensity=propensity,
            prompt_ratio=question.ratio,
            # Warmer than production answers, they say little of what production would get.
            steered=question.is_steered or first[0].sampling.temperature != sampling.temperature,
            asked_by=question.asked_by or ("" if question.origin else visitor.person),
            left=left,
        )

    async def _show_answered(self, earlier: StoredComparison, visitor: Visitor) -> ComparisonView:
        """To whoever decided it with the sides swapped: a habit of choosing one side then shows as a flip."""
        swapped = "b" if earlier.left == "a" else "a"
        return await asking(
            self._comparisons.open,
            prompt=earlier.prompt,
            category=earlier.category,
            models=(earlier.model_a, earlier.model_b),
            answers=(earlier.response_a, earlier.response_b),
            visitor=visitor,
            sampling=Sampling(earlier.temperature, earlier.top_p, earlier.max_tokens, earlier.seed),
            propensity=earlier.propensity,
            prompt_ratio=earlier.prompt_ratio,
            steered=earlier.steered,
            asked_by=earlier.asked_by,
            left=swapped if earlier.annotator == visitor.person else None,
        )
