"""Side by side: what is asked, which versions answer, and the vote on it."""

import itertools
import logging
import random
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from dpo_pipeline.core.admission import LONGEST_REASON, cannot_be_asked, check_messages, check_text
from dpo_pipeline.core.answers import Messages
from dpo_pipeline.core.matchmaking import matches, pick
from dpo_pipeline.core.questions import AskedQuestion, Origin, OriginFilter, QuestionFilter
from dpo_pipeline.core.rollout import STAGES
from dpo_pipeline.core.versions import served_name
from dpo_pipeline.core.votes import NO_REASON, Choice, Sampling, VoteReason
from dpo_pipeline.errors import InvalidRequest, NothingToCompare, TokenRefused, UnknownModel
from dpo_pipeline.serving.access import RateLimits
from dpo_pipeline.serving.engines.engine import Engine
from dpo_pipeline.serving.metrics import Metrics
from dpo_pipeline.serving.router import Router
from dpo_pipeline.serving.services.chats import FOLLOW_ROLLOUT
from dpo_pipeline.serving.services.comparisons import Comparisons, ComparisonView, Prompt, Recorded
from dpo_pipeline.serving.services.keeping import asking
from dpo_pipeline.serving.services.paired_answers import (
    Again,
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


@dataclass(frozen=True)
class ComparisonPrompt:
    """What two or more versions shall answer. `origin` is where it was drawn from; null: somebody asks it now.

    `asked_by` is the person who, in production, asked it or the question that it follows; `ratio` is how many times as
    likely as by an even draw it was drawn. `answered` is a pair that is there already; then nothing is generated.
    `otherwise` draws another one, where two answers to this one stay equal; null: it is this one that somebody wants
    answered, be the answers equal or not.
    """

    prompt: Prompt
    category: str
    models: tuple[str, ...] | None = None
    sampling: Sampling = field(default_factory=Sampling)
    origin: Origin | None = None
    asked_by: str = ""
    ratio: float = 1.0
    answered: StoredComparison | None = None
    otherwise: "Callable[[], ComparisonPrompt] | None" = field(default=None, compare=False)

    @classmethod
    def drawn(cls, question: AskedQuestion, models: tuple[str, ...] | None = None) -> "ComparisonPrompt":
        origin, asked_by, ratio = question.origin, question.asked_by, question.ratio
        return cls(question.question, question.category, models, origin=origin, asked_by=asked_by, ratio=ratio)

    @property
    def is_steered(self) -> bool:
        """Whoever asks named the versions or how answers are drawn: they may know whose answer is whose."""
        return self.models is not None or self.sampling != Sampling()

    @property
    def drawn_again(self) -> Again:
        """How two equal answers to it are drawn again."""
        if self.sampling.seed is not None:
            return "never"
        return "warmer" if self.sampling.temperature is None else "alike"

    @property
    def messages(self) -> Messages:
        if isinstance(self.prompt, str):
            return (("user", self.prompt),)
        return tuple((message["role"], message["content"]) for message in self.prompt)


@dataclass(frozen=True)
class PartialView:
    """Two answers while they are being written, sides already shuffled."""

    left: str
    right: str


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
        metrics: Metrics,
        defaults: Defaults,
        measure_share: float,
    ):
        self._engine, self._router, self._readiness, self._answers = engine, router, readiness, answers
        self._comparisons, self._tally, self._rates, self._metrics = comparisons, tally, rates, metrics
        self._visitors = visitors
        self._defaults, self._measure_share = defaults, measure_share

    def draw_prompt(self, category: str | None, origin: OriginFilter, seen: tuple[str, ...] = ()) -> ComparisonPrompt:
        """A question that may be asked; where it comes from the bank, of the category that has the fewest votes.

        Args:
            seen: questions whose answers were equal.
        """
        drawn = self._comparisons.draw_question(category, origin, seen)
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
        earlier = self._comparisons.again(visitor.person, origin)
        return ComparisonPrompt(earlier.prompt, earlier.category, origin="bank", answered=earlier) if earlier else None

    async def compare(self, question: ComparisonPrompt, visitor: Visitor) -> list[ComparisonView]:
        """One comparison for every pair of the versions asked for, in random order.

        Raises:
            InvalidRequest: the answers to this could not be compared.
            NothingToCompare: the answers to several drawn questions were equal.
            UnknownModel: a version that was asked for by name is not served.
        """
        _check_question(question)
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
        _check_question(question)
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

    async def vote(
        self,
        comparison_id: str,
        token: str,
        choice: Choice,
        visitor: Visitor,
        claimed: str | None,
        why: VoteReason = NO_REASON,
    ) -> Recorded:
        """Record a vote; on return it is on disk.

        Args:
            claimed: the pseudonym of whom the call names; null: it names nobody, and the token says enough.

        Raises:
            InvalidRequest: what was said of it does not fit.
            TokenRefused: the comparison is another person's, or was opened with a key that is not sent.
        """
        if (why.strength or why.tags) and choice not in ("left", "right"):
            raise InvalidRequest(
                "strength and reason_tags say what one answer has over the other; leave them out of a vote of "
                f"{choice!r}."
            )
        check_text("The reason", why.words, LONGEST_REASON)
        comparison = await asking(self._comparisons.find, comparison_id, token, claimed)
        if not visitor.speaks_for(comparison.annotator, str(comparison.identity)):
            raise TokenRefused("This comparison was opened with a key. Send the same key with the vote.")
        self._rates.check("votes", comparison.annotator, visitor.address)
        recorded = await self._comparisons.vote(comparison, choice, why)
        if not recorded.repeated:
            self._metrics.votes.labels(recorded.category, recorded.source, choice).inc()
        return recorded

    async def take_back(self, comparison_id: str, token: str, visitor: Visitor) -> None:
        """A vote of the last seconds was a slip: from now on it counts nowhere; on return that is on disk.

        Raises:
            TokenRefused: the comparison is another person's.
            TooLate, LogWriteError: the vote stands.
        """
        comparison = await asking(self._comparisons.find, comparison_id, token, visitor.person)
        if not visitor.speaks_for(comparison.annotator, str(comparison.identity)):
            raise TokenRefused("This comparison was opened with a key. Send the same key with this.")
        self._rates.check("actions", comparison.annotator, visitor.address)
        await asking(self._comparisons.take_back, comparison)

    async def shown_before(
        self, comparison_id: str, token: str, visitor: Visitor
    ) -> tuple[StoredComparison, ComparisonView]:
        """A comparison once more, to whom it was shown: as it is kept, without personal data.

        Raises:
            UnknownComparison, TokenRefused: it has expired, or was shown to somebody else.
            TooManyRequests, DatabaseUnavailable: not now.
        """
        self._rates.check("actions", visitor.person, visitor.address)
        return await asking(self._comparisons.shown_before, comparison_id, token, visitor.person)

    async def voted(self, comparison_ids: Sequence[str], visitor: Visitor) -> list[tuple[Choice, Recorded]]:
        """This person's votes on these that are on record, and what each revealed; raises DatabaseUnavailable."""
        return await asking(self._comparisons.voted, comparison_ids, visitor.person)

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


def _check_question(question: ComparisonPrompt) -> None:
    check_messages(question.messages)
    if refused := cannot_be_asked(question.messages):
        raise InvalidRequest(f"{refused.capitalize()}; ask something that two versions can answer.")
