"""What happens on a visit to the A/B page: the next pair is prefetched and shown, a vote is recorded or taken back."""

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace

from dpo_pipeline.core.questions import QuestionFilter
from dpo_pipeline.core.votes import Choice, VoteReason
from dpo_pipeline.serving.assembly import Serving
from dpo_pipeline.serving.pages.ab_visit import Visit
from dpo_pipeline.serving.services.comparison_prompt import ComparisonPrompt
from dpo_pipeline.serving.services.comparison_views import ComparisonView, PartialView, Recorded
from dpo_pipeline.serving.services.prefetch import Prefetch, Preparing
from dpo_pipeline.serving.services.visitors import Visitor


@dataclass(frozen=True)
class ComparisonFlow:
    """What works on visits: the services and what is prefetched."""

    serving: Callable[[], Serving]
    prefetch: Prefetch

    async def show(
        self, visit: Visit, visitor: Visitor, asked: ComparisonPrompt | None = None
    ) -> AsyncIterator[PartialView | ComparisonView]:
        """The next pair as it grows, and last what can be voted on. A later call ends an earlier one.

        Args:
            asked: the person's own question; null: one is drawn.

        Raises:
            RequestError: there is no pair, and why.
        """
        visitor = replace(visitor, session_id=visit.session)
        preparing = None if asked else self.prefetch.take(visit.key, self._plan(visit, visitor))
        if preparing:
            question, visit.prepared = visit.prepared, None
        else:
            question = asked or self._next(visit, visitor)
            preparing = self._begin(question, visitor)
        assert question is not None
        visit.question, visit.shown, visit.voted = question, None, None
        visit.recent.append(str(question.prompt))
        visit.turn = turn = visit.turn + 1
        if visit.writing:  # whoever still follows it need not wait for its answers
            visit.writing.close()
        visit.writing = preparing
        try:
            async for event in preparing.follow():
                if visit.turn != turn:
                    return
                if isinstance(event, ComparisonView):
                    visit.shown, visit.changed_at = event, time.monotonic()
                yield event
        finally:
            preparing.close()
        if visit.turn != turn:
            return
        if not visit.batch or len(visit.batch.votes) + 1 < visit.batch.length:
            self._prepare(visit, visitor)

    def _prepare(self, visit: Visit, visitor: Visitor) -> None:
        """Begin the next pair in the background, unless people wait for answers already."""
        serving = self.serving()
        most, (waiting, _) = serving.settings.limits.prefetch, serving.engine.load
        if most == 0 or waiting:
            return

        def begin() -> Preparing:
            visit.prepared = self._next(visit, visitor)
            return self._begin(visit.prepared, visitor)

        self.prefetch.prepare(visit.key, self._plan(visit, visitor), begin, most)

    async def vote(self, visit: Visit, visitor: Visitor, choice: Choice, why: VoteReason) -> Recorded | None:
        """Record a vote on what is shown; null where there is nothing to vote on.

        Raises:
            RequestError: it was not recorded, and why.
        """
        shown = visit.shown
        if shown is None or visit.voted or visit.voting:
            return None
        serving, batch, visit.voting = self.serving(), visit.batch, True
        try:
            recorded = await serving.voting.vote(shown.comparison_id, shown.token, choice, visitor, visitor.person, why)
        finally:
            visit.voting = False
        visit.given = shown
        if batch:
            batch.votes.append((choice, recorded))
        if visit.shown is shown:  # somebody may have gone on meanwhile
            visit.voted, visit.changed_at = (choice, recorded), time.monotonic()
        return recorded

    async def take_back(self, visit: Visit, visitor: Visitor, comparison_id: str) -> bool:
        """The last vote was a slip: it counts nowhere from now on. Returns whether it is that which is still known.

        Raises:
            RequestError: it stands, and why.
        """
        given = visit.given
        if given is None or given.comparison_id != comparison_id:
            return False
        await self.serving().voting.take_back(comparison_id, given.token, visitor)
        if visit.batch:
            visit.batch.votes = [each for each in visit.batch.votes if each[1].comparison_id != comparison_id]
        if visit.voted and visit.voted[1].comparison_id == comparison_id:
            choice, recorded = visit.voted
            visit.voted = choice, replace(recorded, withdrawn=True)
        return True

    def _next(self, visit: Visit, visitor: Visitor) -> ComparisonPrompt:
        """A question that is drawn; now and then, where the server picks the versions, a pair decided before."""
        serving = self.serving()
        free = visit.plan.models(serving) is None
        return (serving.comparing.answered_before(visitor, visit.plan.origin) if free else None) or self.draw(visit)

    def draw(self, visit: Visit) -> ComparisonPrompt:
        """A question from where the person wants it; the bank's are of the category covered least.

        The pair on screen is counted as if voted on.
        """
        serving = self.serving()
        counts = Counter(serving.tally.by_category)
        if visit.question and not visit.voted:
            counts[visit.question.category] += 1
        drawn = serving.comparing.draw(QuestionFilter(visit.plan.origin, seen=visit.recent), counts)
        prompt = ComparisonPrompt.drawn(drawn, visit.plan.models(serving))

        def otherwise() -> ComparisonPrompt:
            """Both answers stayed equal: the next question takes the place of this one, wherever it stands."""
            visit.recent.append(drawn.question)
            other = self.draw(visit)
            if visit.prepared is asked:
                visit.prepared = other
            if visit.question is asked:
                visit.question = other
            return other

        asked = replace(prompt, otherwise=otherwise)
        return asked

    def typed(self, visit: Visit, text: str) -> ComparisonPrompt:
        """The person's own question."""
        return ComparisonPrompt(text, "other", visit.plan.models(self.serving()))

    def follow_up(self, visit: Visit, text: str) -> ComparisonPrompt:
        """The next turn of the conversation on screen; without one, a question of its own."""
        earlier, before = visit.question, visit.conversation
        if earlier is None or before is None:
            return self.typed(visit, text)
        turns = [*before, {"role": "user", "content": text}]
        # Whoever asked what it began with can have it removed.
        models, asker = visit.plan.models(self.serving()), earlier.asked_by
        return ComparisonPrompt(turns, earlier.category, models, asked_by=asker)

    def _begin(self, question: ComparisonPrompt, visitor: Visitor) -> Preparing:
        return Preparing(self.serving().comparing.compare_streaming(question, visitor))

    def _plan(self, visit: Visit, visitor: Visitor) -> tuple[object, ...]:
        """A prepared pair fits only the person, the session, the versions and the origin that it was made for."""
        return visitor.person, visitor.session_id, visit.plan, visit.plan.models(self.serving())
