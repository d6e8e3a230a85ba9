"""One visit to the A/B page: what is shown, what was voted, and what comes next. Events are `ab_test`'s.

Names of versions stay on the server until the vote; the browser gets text to look at, and what `ab_kept` says.
"""

import time
import uuid
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from dpo_pipeline.core.questions import OriginFilter, QuestionFilter
from dpo_pipeline.core.votes import Choice, VoteReason
from dpo_pipeline.serving.assembly import Serving
from dpo_pipeline.serving.services.chats import FOLLOW_ROLLOUT
from dpo_pipeline.serving.services.comparing import ComparisonPrompt, PartialView
from dpo_pipeline.serving.services.comparisons import ComparisonView, Recorded
from dpo_pipeline.serving.services.prefetch import Prefetch, Preparing
from dpo_pipeline.serving.services.visitors import Visitor

SECOND_CLICK_S = 0.3
"""A vote sooner than this after a pair appeared is the second half of a double click: nobody reads that fast."""
REMEMBERED = 20


@dataclass(frozen=True)
class Plan:
    """What the person wants compared: versions by name, or null where the server picks; and on which questions."""

    first: str | None = None
    second: str | None = None
    origin: OriginFilter = "mix"

    def models(self, serving: Serving) -> tuple[str, ...] | None:
        """For `ComparisonPrompt.models`; one name alone meets the champion, the champion meets its challenger."""
        if self.first and self.second:
            return self.first, self.second
        named = self.first or self.second
        if named is None:
            return None
        route = serving.router.route
        other = route.challenger if named == route.champion and route.challenger else FOLLOW_ROLLOUT
        return named, other


@dataclass
class Batch:
    """A batch testing session of n questions."""

    length: int
    session_id: str = field(default_factory=lambda: f"batch-{uuid.uuid4().hex[:12]}")
    votes: list[tuple[Choice, Recorded]] = field(default_factory=list)

    @property
    def over(self) -> bool:
        return len(self.votes) >= self.length


@dataclass
class Visit:
    """What one open page knows. Gradio keeps it on the server, by page load.

    `given` is what was voted on last, which may be off the screen already.

    `told` is what the page was told last of components that only this server changes; `later` is what it is still to be
    told, and does not wait for.
    """

    key: str = ""
    session_id: str = ""
    plan: Plan = field(default_factory=Plan)
    question: ComparisonPrompt | None = None
    shown: ComparisonView | None = None
    changed_at: float = 0.0
    voting: bool = False
    voted: tuple[Choice, Recorded] | None = None
    given: ComparisonView | None = None
    batch: Batch | None = None
    offered: tuple[str, ...] = ()
    recent: deque[str] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    prepared: ComparisonPrompt | None = None
    writing: Preparing | None = None
    turn: int = 0
    told: dict[str, Any] = field(default_factory=dict)
    later: dict[str, Any] = field(default_factory=dict)

    def go_on_from(self, before: "Visit") -> None:
        """With a copy of what another load of the page showed: what was begun for that one is nothing to this."""
        batch = replace(before.batch, votes=list(before.batch.votes)) if before.batch else None
        recent = deque(before.recent, maxlen=REMEMBERED)
        own: dict[str, Any] = {
            "batch": batch,
            "recent": recent,
            "prepared": None,
            "writing": None,
            "voting": False,
            "offered": (),
            "told": {},
            "later": {},
        }
        vars(self).update(vars(before) | own)

    def news(
        self, update: Mapping[str, Any], typed: Collection[str], filled_in: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Of an update, what the page does not show already: each component that changes costs it a millisecond or two.

        Args:
            typed: components that people fill in; the others only this server changes.
            filled_in: what stands in these now, as far as it is known.
        """
        shown = {**self.told, **(filled_in or {})}
        fresh = {name: value for name, value in update.items() if name not in shown or shown[name] != value}
        self.told |= {name: value for name, value in update.items() if name not in typed}
        return fresh

    @property
    def in_batch(self) -> bool:
        return self.batch is not None and not self.batch.over

    @property
    def conversation(self) -> list[dict[str, str]] | None:
        """What a follow-up question goes on from: all that was said, and the answer that won, in a tie that on the
        left; what a follow-up without answers went on from. Null where nothing can: before the vote, or when both
        answers are bad, or the vote was a slip.
        """
        if self.shown is None and self.question and isinstance(self.question.prompt, list):
            return self.question.prompt[:-1] or None
        if self.shown is None or self.voted is None or self.voted[0] == "both_bad" or self.voted[1].withdrawn:
            return None
        answer = self.shown.right if self.voted[0] == "right" else self.shown.left
        said, prompt = {"role": "assistant", "content": answer}, self.shown.prompt
        turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        return [*turns, said] if answer.strip() else None

    @property
    def just_changed(self) -> bool:
        """Within a double click's time: nobody reads that fast."""
        return time.monotonic() - self.changed_at < SECOND_CLICK_S

    @property
    def session(self) -> str:
        return self.batch.session_id if self.batch else self.session_id


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
            recorded = await serving.comparing.vote(
                shown.comparison_id, shown.token, choice, visitor, visitor.person, why
            )
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
        await self.serving().comparing.take_back(comparison_id, given.token, visitor)
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
