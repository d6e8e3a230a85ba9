"""What people can do, the same for API and pages: ask, compare, vote, give feedback.

Handlers and pages say what is asked and show what is answered. Deciding is `core`'s, keeping is the
stores', generating is the engine's.
"""

import asyncio
import itertools
import random
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from dpo_pipeline.core.answers import Ask, Messages
from dpo_pipeline.core.exposure import conversation_key
from dpo_pipeline.core.matchmaking import matches, pick
from dpo_pipeline.core.progress import first_version
from dpo_pipeline.core.questions import Origin, WantedOrigin
from dpo_pipeline.core.redaction import redact
from dpo_pipeline.core.rollout import STAGES
from dpo_pipeline.core.versions import served_name
from dpo_pipeline.core.votes import Sampling
from dpo_pipeline.errors import (
    InvalidRequest,
    NotReady,
    RequestError,
    UnknownRequest,
)
from dpo_pipeline.loop.rollout_orders import Order, order
from dpo_pipeline.serving.access import RateLimits, check_reviewer
from dpo_pipeline.serving.chat_call import ChatCall, Visitor, new_request_id
from dpo_pipeline.serving.comparisons import Comparisons, Recorded, Shown
from dpo_pipeline.serving.engine import Engine
from dpo_pipeline.serving.metrics import Metrics
from dpo_pipeline.serving.paired_answers import Answered, PartialAnswers, answer, answer_streaming
from dpo_pipeline.serving.preference_event import Choice
from dpo_pipeline.serving.router import Router
from dpo_pipeline.serving.tally import Tally
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.ledger import Ledger, as_json, utc_now
from dpo_pipeline.stores.progress import read_progress
from dpo_pipeline.stores.pseudonyms import pseudonym_of
from dpo_pipeline.stores.reviews import REASON_CHARACTERS, Review, ReviewLog, read_judged
from dpo_pipeline.stores.serving_log import CorrectionRecord, RatingRecord, ServingLog
from dpo_pipeline.stores.serving_state import ServingState, StoredComparison

FOLLOW_ROLLOUT = "chat"
HISTORY_PAGE = 100
"""Decisions of a rollout's history in one answer, where nobody asks for another number."""
Prompt = str | list[dict[str, str]]


@dataclass(frozen=True)
class Question:
    """What two or more versions shall answer. `origin` is where it was drawn from; null: somebody asks it now.

    `again` is a pair that was decided before; then nothing is generated.
    """

    prompt: Prompt
    category: str
    models: tuple[str, ...] | None = None
    sampling: Sampling = field(default_factory=Sampling)
    origin: Origin | None = None
    again: StoredComparison | None = None

    @property
    def messages(self) -> Messages:
        if isinstance(self.prompt, str):
            return (("user", self.prompt),)
        return tuple((message["role"], message["content"]) for message in self.prompt)


@dataclass(frozen=True)
class Growing:
    """Two answers while they are being written, sides already shuffled."""

    left: str
    right: str


@dataclass
class Service:
    """All parts of a running server."""

    settings: Settings
    engine: Engine
    router: Router
    comparisons: Comparisons
    log: ServingLog
    state: ServingState
    tally: Tally
    rates: RateLimits
    metrics: Metrics
    key: bytes
    shadows: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def ready(self) -> bool:
        """A champion is loaded and answers."""
        return self.engine.ready and self.router.route.champion is not None

    def not_ready(self) -> NotReady:
        """What is being made while no version can answer yet, how far it is, and how long it takes."""
        tasks = read_progress(self.settings.data_dir / "progress")
        message = first_version(tasks, self.router.champion_to_load, time.time())
        return NotReady(" ".join(filter(None, (message, self.router.trouble))))

    def pseudonym(self, person: str) -> str:
        return pseudonym_of(person, self.key)

    def sampling(self, asked: Sampling, compared: Sequence[str] = ()) -> Sampling:
        """What was asked for, the rest as the settings say; the seed is drawn where none was given.

        Args:
            compared: the versions of a comparison. People judge two versions as production would answer; two answers
                of one version are drawn warmer, so that there is something to choose.
        """
        settings, longest = self.settings, self.settings.model.max_new_tokens
        usual = settings.collection if len(compared) > len(set(compared)) else settings.generation
        return Sampling(
            temperature=usual.temperature if asked.temperature is None else asked.temperature,
            top_p=usual.top_p if asked.top_p is None else asked.top_p,
            max_tokens=min(asked.max_tokens or longest, longest),
            seed=random.getrandbits(31) if asked.seed is None else asked.seed,
        )

    # Comparisons

    def models_to_compare(self, asked: Sequence[str] | None) -> tuple[tuple[str, ...], float]:
        """Those asked for, or those that `core.matchmaking` picks; and the probability with which they were."""
        route = self.router.route
        if route.champion is None:
            raise self.not_ready()
        if asked:
            return tuple(route.champion if name == FOLLOW_ROLLOUT else served_name(name) for name in asked), 1.0
        share = self.settings.collection.measure_share
        served, tallies, testing = list(self.engine.models), self.tally.pairs(), route.stage == STAGES[0]
        offered = matches(route.champion, route.challenger, served, tallies, share, testing)
        match = pick(offered, random.random())
        return (match.first, match.second), match.propensity

    def decided_before(self, visitor: Visitor, origin: WantedOrigin) -> Question | None:
        """Now and then a pair that was decided before, instead of a new question."""
        earlier = self.comparisons.again(visitor.person, origin)
        return Question(earlier.prompt, earlier.category, origin="bank", again=earlier) if earlier else None

    async def compare(self, question: Question, visitor: Visitor) -> list[Shown]:
        """One comparison for every pair of the versions asked for, in random order."""
        self.rates.check("answers", visitor.person, visitor.address)
        if question.again:
            return [self._show_again(question.again, visitor)]
        models, propensity = self.models_to_compare(question.models)
        question = replace(question, sampling=self.sampling(question.sampling, models))
        answered = await answer(self.engine, self.settings, models, question.messages, question.sampling)
        pairs = list(itertools.combinations(range(len(models)), 2))
        random.shuffle(pairs)
        return [self._show(question, visitor, answered[i], answered[j], propensity) for i, j in pairs]

    async def compare_streaming(self, question: Question, visitor: Visitor) -> AsyncIterator[Growing | Shown]:
        """Two answers as they grow, on the sides where they stay, and last the comparison to vote on."""
        self.rates.check("answers", visitor.person, visitor.address)
        if question.again:
            yield self._show_again(question.again, visitor)
            return
        asked, propensity = self.models_to_compare(question.models)
        models = asked[0], asked[1]
        sampling = self.sampling(question.sampling, models)
        question, left = replace(question, sampling=sampling), random.choice("ab")
        async for event in answer_streaming(self.engine, self.settings, models, question.messages, sampling):
            if isinstance(event, PartialAnswers):
                sides = (event.first, event.second)
                yield Growing(*(sides if left == "a" else sides[::-1]))
            else:
                first, second = event
                yield self._show(question, visitor, first, second, propensity, left)

    async def vote(
        self, comparison_id: str, token: str, choice: Choice, visitor: Visitor | None, address: str
    ) -> Recorded:
        """Record a vote; on return it is on disk.

        Args:
            visitor: whoever votes, where that is known.
        """
        comparison = self.comparisons.find(comparison_id, token, visitor.person if visitor else None)
        self.rates.check("votes", comparison.annotator, address)
        recorded = await self.comparisons.vote(comparison, choice)
        if not recorded.repeated:
            self.metrics.votes.labels(recorded.category, recorded.source, choice).inc()
        return recorded

    def _show(
        self,
        question: Question,
        visitor: Visitor,
        first: Answered,
        second: Answered,
        propensity: float,
        left: str | None = None,
    ) -> Shown:
        return self.comparisons.open(
            prompt=question.prompt,
            category=question.category,
            models=(first[0].model_id, second[0].model_id),
            answers=(first[1].text, second[1].text),
            annotator=visitor.person,
            session_id=visitor.session_id or f"visit-{uuid.uuid4().hex[:12]}",
            source=visitor.source,
            sampling=question.sampling,
            propensity=propensity,
            left=left,
        )

    def _show_again(self, earlier: StoredComparison, visitor: Visitor) -> Shown:
        """To whoever decided it with the sides swapped: a habit of choosing one side then shows as a flip."""
        swapped = "b" if earlier.left == "a" else "a"
        return self.comparisons.open(
            prompt=earlier.prompt,
            category=earlier.category,
            models=(earlier.model_a, earlier.model_b),
            answers=(earlier.response_a, earlier.response_b),
            annotator=visitor.person,
            session_id=visitor.session_id or f"visit-{uuid.uuid4().hex[:12]}",
            source=visitor.source,
            sampling=Sampling(earlier.temperature, earlier.top_p, earlier.max_tokens, earlier.seed),
            propensity=earlier.propensity,
            left=swapped if earlier.annotator == visitor.person else None,
        )

    # Chat

    def chat(self, model: str, messages: Messages, sampling: Sampling, visitor: Visitor) -> ChatCall:
        """A request about to be answered, whole or streamed.

        Args:
            model: `chat` follows the rollout, anything else names a version.
        """
        self.rates.check("answers", visitor.person, visitor.address)
        request_id = new_request_id()
        conversation = conversation_key(visitor.person, visitor.session_id, messages[0][1] if messages else "")
        version = self._version_for(model, visitor.person, conversation, request_id)
        return ChatCall(self, Ask(version, messages, self.sampling(sampling)), visitor, request_id, conversation)

    def _version_for(self, model: str, person: str, conversation: str, request_id: str) -> str:
        route = self.router.route
        version = route.version_for(person, conversation, request_id) if model == FOLLOW_ROLLOUT else served_name(model)
        if version is None:
            raise self.not_ready()
        return version

    def shadow(self, ask: Ask, visitor: Visitor) -> None:
        """In staging, let the challenger answer a share of what the champion did; only the log sees it."""
        route = self.router.route
        if route.stage != STAGES[0] or not route.challenger or ask.model_id != route.champion:
            return
        if random.random() < route.shadow_share:
            copy = ChatCall(self, replace(ask, model_id=route.challenger), visitor, new_request_id(), shadow=True)
            task = asyncio.create_task(_unseen(copy))
            self.shadows.add(task)
            task.add_done_callback(self.shadows.discard)

    # Feedback

    def feedback(
        self,
        request_id: str,
        address: str,
        *,
        rating: int | None = None,
        thumb: str | None = None,
        correction: str | None = None,
    ) -> str:
        """Keep exactly one of rating (1 to 5), thumb (`up`, `down`) or correction; returns the event id."""
        given = [value for value in (rating, thumb, correction) if value is not None]
        if len(given) != 1:
            raise InvalidRequest(f"Send exactly one of rating, thumb or correction; {len(given)} were found.")
        known = self.state.request(request_id)
        if known is None:
            raise UnknownRequest(f"There is no request {request_id!r} to give feedback on.")
        self.rates.check("votes", known.user, address)
        event_id = f"evt-{uuid.uuid4().hex}"
        common = {"event_id": event_id, "recorded_at": utc_now(), "request_id": known.request_id}
        common |= {"user": known.user, "version": known.version}
        if correction is not None:
            self.log.append(CorrectionRecord(**common, prompt=known.prompt, correction=redact(correction)))
        else:
            stars = rating or (5 if thumb == "up" else 1)
            self.log.append(RatingRecord(**common, rating=stars, source=known.source))
            self.metrics.ratings.labels(known.version).observe(stars)
        return event_id

    # Review

    def review(
        self, event_id: str, action: Literal["exclude", "restore"], reason: str, admin_key: str, visitor: Visitor
    ) -> Review:
        """Take a preference out of what is trained on from now on, or put it back; an event, never an edit.

        Raises:
            AdminOnly: it needs the admin key.
            InvalidRequest: without a reason, of an unknown preference, or of one that is in that state already.
        """
        key = self.settings.keys.admin
        check_reviewer(admin_key, key, visitor.address)
        if not reason.strip():
            raise InvalidRequest("Give a reason: whoever comes after you wants to know why.")
        if all(pair.event_id != event_id for pair in read_judged(self.settings.review_table)):
            raise InvalidRequest(f"Preference {event_id!r} is not among the newest judged ones. Reload the page.")
        log = ReviewLog(self.settings.reviews_log)
        newest = log.newest().get(event_id)
        if (newest.action if newest else "restore") == action:
            raise InvalidRequest(f"Nothing to do: the newest order about this preference is {action!r} already.")
        review = Review(
            review_id=f"rev-{uuid.uuid4().hex}",
            recorded_at=utc_now(),
            event_id=event_id,
            action=action,
            reason=redact(reason.strip())[:REASON_CHARACTERS],
            actor=visitor.person if key is None else "admin",
        )
        log.append(review)
        return review

    # Rollout

    def rollout(self, before: int | None = None, limit: int = HISTORY_PAGE) -> dict[str, Any]:
        """What serving follows now, and a page of the ledger's history, newest last.

        Args:
            before: id of a decision; only those before it.
        """
        route = self.router.route
        with Ledger(self.settings.ledger_address) as ledger:
            # One more than is shown tells whether there are earlier ones.
            found = ledger.decisions(before=before, newest=limit + 1)
            newest, state = ledger.decisions(newest=1), ledger.deployment()
        shown = found[-limit:]
        return {
            "version": route.challenger,
            "champion": route.champion,
            "stage": route.stage,
            "traffic": route.traffic,
            "paused": state.paused,
            "epoch": route.epoch,
            "evidence": newest[0].evidence if newest else None,
            "history": [as_json(decision) for decision in shown],
            "earlier": shown[0].id if len(found) > limit else None,
        }

    def order_rollout(self, what: Order, reason: str, actor: str) -> dict[str, Any]:
        """Carry out a person's order and serve by it at once.

        Raises:
            InvalidRequest, OrderRefused: see `loop.rollout_orders.order`.
        """
        with Ledger(self.settings.ledger_address) as ledger:
            order(self.settings, ledger, what, reason, actor)
            self.router.reroute(ledger)
        return self.rollout()


async def _unseen(call: ChatCall) -> None:
    """What a shadow copy met stands in the serving log; nobody waits for it."""
    with suppress(RequestError):
        await call.answer()
