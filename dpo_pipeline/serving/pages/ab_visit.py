"""One visit to the A/B page: what is shown, what was voted, and what comes next. Events are `ab_test`'s.

Names, texts and tokens stay in this object on the server; the browser gets text to look at.
"""

import time
import uuid
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace

from dpo_pipeline.core.questions import WantedOrigin, Wish
from dpo_pipeline.serving.ahead import Ahead, Preparing
from dpo_pipeline.serving.chat_call import Visitor
from dpo_pipeline.serving.comparisons import Recorded, Shown
from dpo_pipeline.serving.preference_event import Choice
from dpo_pipeline.serving.service import FOLLOW_ROLLOUT, Growing, Question, Service

SECOND_CLICK_S = 0.3
"""A vote sooner than this after a pair appeared is the second half of a double click: nobody reads that fast."""
REMEMBERED = 20


@dataclass(frozen=True)
class Plan:
    """What the person wants compared: versions by name, or null where the server picks; and on which questions."""

    first: str | None = None
    second: str | None = None
    origin: WantedOrigin = "mix"

    def models(self, service: Service) -> tuple[str, ...] | None:
        """For `Question.models`; one name alone meets the champion, the champion meets its challenger."""
        if self.first and self.second:
            return self.first, self.second
        named = self.first or self.second
        if named is None:
            return None
        route = service.router.route
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
    """What one open page knows. Gradio keeps it on the server, by page load."""

    key: str = ""
    session_id: str = ""
    plan: Plan = field(default_factory=Plan)
    question: Question | None = None
    shown: Shown | None = None
    shown_at: float = 0.0
    voting: bool = False
    voted: tuple[Choice, Recorded] | None = None
    batch: Batch | None = None
    offered: tuple[str, ...] = ()
    recent: deque[str] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    prepared: Question | None = None
    turn: int = 0

    @property
    def session(self) -> str:
        return self.batch.session_id if self.batch else self.session_id


@dataclass(frozen=True)
class Desk:
    """What works on visits: the service and what is generated ahead."""

    service: Callable[[], Service]
    ahead: Ahead

    async def show(self, visit: Visit, visitor: Visitor, typed: str = "") -> AsyncIterator[Growing | Shown]:
        """The next pair as it grows, and last what can be voted on. A later call ends an earlier one.

        Args:
            typed: the person's own question; empty: one is drawn.

        Raises:
            RequestError: there is no pair, and why.
        """
        visitor = replace(visitor, session_id=visit.session)
        preparing = None if typed else self.ahead.take(visit.key, self._plan(visit, visitor))
        if preparing:
            question = visit.prepared
        else:
            question = self._typed(visit, typed) if typed else self._next(visit, visitor)
            preparing = self._begin(question, visitor)
        assert question is not None
        visit.question, visit.shown, visit.voted = question, None, None
        visit.recent.append(str(question.prompt))
        visit.turn = turn = visit.turn + 1
        try:
            async for event in preparing.follow():
                if visit.turn != turn:
                    return
                if isinstance(event, Shown):
                    visit.shown, visit.shown_at = event, time.monotonic()
                yield event
        finally:
            preparing.close()
        if not visit.batch or len(visit.batch.votes) + 1 < visit.batch.length:
            self._prepare(visit, visitor)

    def _prepare(self, visit: Visit, visitor: Visitor) -> None:
        """Begin the next pair in the background, unless people wait for answers already."""
        service = self.service()
        most, (waiting, _) = service.settings.limits.ahead, service.engine.load
        if most == 0 or waiting:
            return

        def begin() -> Preparing:
            visit.prepared = self._next(visit, visitor)
            return self._begin(visit.prepared, visitor)

        self.ahead.prepare(visit.key, self._plan(visit, visitor), begin, most)

    async def vote(self, visit: Visit, visitor: Visitor, choice: Choice) -> Recorded | None:
        """Record a vote on what is shown; null where there is nothing to vote on, as in a double click.

        Raises:
            RequestError: it was not recorded, and why.
        """
        shown = visit.shown
        if shown is None or visit.voted or visit.voting or time.monotonic() - visit.shown_at < SECOND_CLICK_S:
            return None
        service, visit.voting = self.service(), True
        try:
            recorded = await service.vote(shown.comparison_id, shown.token, choice, visitor, visitor.address)
        finally:
            visit.voting = False
        visit.voted = choice, recorded
        if visit.batch:
            visit.batch.votes.append(visit.voted)
        return recorded

    def _next(self, visit: Visit, visitor: Visitor) -> Question:
        """A question that is drawn; now and then, where the server picks the versions, a pair decided before."""
        service = self.service()
        free = visit.plan.models(service) is None
        return (service.decided_before(visitor, visit.plan.origin) if free else None) or self.draw(visit)

    def draw(self, visit: Visit) -> Question:
        """A question from where the person wants it; the bank's are of the category covered least.

        The pair on screen is counted as if voted on.
        """
        service = self.service()
        counts = Counter(service.tally.by_category)
        if visit.question and not visit.voted:
            counts[visit.question.category] += 1
        drawn = service.comparisons.questions.draw(Wish(visit.plan.origin, seen=visit.recent), counts)
        return Question(drawn.question, drawn.category, visit.plan.models(service), origin=drawn.origin)

    def _typed(self, visit: Visit, text: str) -> Question:
        return Question(text, "other", visit.plan.models(self.service()))

    def _begin(self, question: Question, visitor: Visitor) -> Preparing:
        return Preparing(self.service().compare_streaming(question, visitor))

    def _plan(self, visit: Visit, visitor: Visitor) -> tuple[object, ...]:
        """A prepared pair fits only the person, the session, the versions and the origin that it was made for."""
        return visitor.person, visitor.session_id, visit.plan, visit.plan.models(self.service())
