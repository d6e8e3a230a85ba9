"""Side by side, blind and shuffled: what is shown, and the one vote that each comparison gets.

A vote is acknowledged when its line is on disk. Texts and model names stay on the server, behind a
signed token that is bound to the comparison and the person.
"""

import asyncio
import logging
import random
import time
import uuid
from collections import OrderedDict, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

import msgspec
from itsdangerous import BadSignature, URLSafeTimedSerializer

from dpo_pipeline.core.questions import AskedQuestion, OriginFilter, QuestionFilter
from dpo_pipeline.core.redaction import Redactor, redacted_turns
from dpo_pipeline.core.votes import Choice, Sampling, Vote, VoteReason
from dpo_pipeline.errors import (
    AlreadyVoted,
    LogWriteError,
    TokenRefused,
    TooLate,
    UnknownComparison,
    VoteNotRecorded,
)
from dpo_pipeline.serving.services.keeping import keeping
from dpo_pipeline.serving.services.preference_event import as_choice, as_vote, preference
from dpo_pipeline.serving.services.questions import Questions
from dpo_pipeline.serving.services.tally import Tally
from dpo_pipeline.serving.services.visitors import Visitor
from dpo_pipeline.settings import Collection
from dpo_pipeline.stores.ledger import utc_now
from dpo_pipeline.stores.reviews import Review, ReviewLog
from dpo_pipeline.stores.serving_state import ServingState, StoredComparison
from dpo_pipeline.stores.vote_log import Recording, VoteLog

log = logging.getLogger(__name__)
Prompt = str | list[dict[str, str]]
KEPT_DECIDED = 500
SLIP_S = 10
"""So long a voter can say that it was a slip."""
ON_ITS_WAY_S = 2
"""A press in the last of these seconds may come later than that."""
VOTER = "voter"
"""Who takes a vote back: the vote says whose it is."""


@dataclass(frozen=True)
class ComparisonView:
    """What the person gets to see."""

    comparison_id: str
    token: str
    prompt: Prompt
    category: str
    left: str
    right: str
    expires_at: str


@dataclass(frozen=True)
class Recorded:
    """A vote on disk. `repeated` where it was there already, `withdrawn` where its voter took it back."""

    event_id: str
    comparison_id: str
    left_model: str
    right_model: str
    category: str
    source: str
    repeated: bool
    withdrawn: bool = False


class Comparisons:
    """Opens comparisons, from whatever thread, and records votes, in one event loop; safe over a restart.

    Args:
        log: where votes are put on record; `reviews`: where it is said that one was a slip.
        key: signs the tokens.
        redact: what questions and answers go through before they are kept.
    """

    def __init__(
        self,
        collection: Collection,
        log: VoteLog,
        reviews: ReviewLog,
        questions: Questions,
        state: ServingState,
        tally: Tally,
        key: bytes,
        redact: Redactor,
    ):
        self._collection, self._log, self._reviews, self._redact = collection, log, reviews, redact
        self._state = state
        self._tally = tally
        self._valid_s = valid_s(collection)
        self._signer = URLSafeTimedSerializer(key, salt="comparison")
        self._writing: dict[str, asyncio.Task[Recording]] = {}
        self._random = random.SystemRandom()
        self._given: OrderedDict[str, float] = OrderedDict()
        self._decided: deque[tuple[float, StoredComparison]] = deque(maxlen=KEPT_DECIDED)
        self.questions = questions

    def open(
        self,
        *,
        prompt: Prompt,
        category: str,
        models: tuple[str, str],
        answers: tuple[str, str],
        visitor: Visitor,
        sampling: Sampling,
        propensity: float,
        prompt_ratio: float,
        steered: bool,
        asked_by: str,
        left: str | None = None,
    ) -> ComparisonView:
        """Store a comparison of two answers and shuffle its sides.

        Args:
            models, answers: of a and b, in the same order.
            propensity: the probability with which these two versions were picked.
            prompt_ratio: how many times as likely as by an even draw the question was to be drawn.
            steered: the visitor named the versions or how the answers are drawn.
            asked_by: the pseudonym of whoever wrote the question; empty: nobody's.
            left: which of a and b is already shown on the left; null: drawn now.
        """
        now = time.time()
        comparison = StoredComparison(
            comparison_id=f"cmp-{uuid.uuid4().hex}",
            event_id=f"evt-{uuid.uuid4().hex}",
            session_id=visitor.session_id or f"visit-{uuid.uuid4().hex[:12]}",
            prompt=redacted_turns(prompt, self._redact),
            category=category,
            model_a=models[0],
            model_b=models[1],
            response_a=self._redact(answers[0]),
            response_b=self._redact(answers[1]),
            left=left or self._random.choice("ab"),
            annotator=visitor.person,
            source=visitor.source,
            **msgspec.structs.asdict(sampling),
            propensity=propensity,
            prompt_ratio=prompt_ratio,
            identity=visitor.identity,
            steered=steered,
            asked_by=asked_by,
        )
        self._state.add_comparison(comparison, now, self._log.offset())
        token = self._signer.dumps(comparison.comparison_id)
        return self._view(comparison, token, now, prompt, answers)

    def find(self, comparison_id: str, token: str, annotator: str | None = None) -> StoredComparison:
        """A comparison that whoever sends this token may vote on.

        Args:
            annotator: the pseudonym of whoever sends it, where that is known.

        Raises:
            UnknownComparison, TokenRefused
        """
        comparison = self._state.comparison(comparison_id)
        if comparison is None:
            raise UnknownComparison(f"There is no comparison {comparison_id!r}. Ask for a new one.")
        self._check_token(comparison, token, annotator)
        return comparison

    def shown_before(self, comparison_id: str, token: str, annotator: str) -> tuple[StoredComparison, ComparisonView]:
        """What `open` gave, as it is kept: without personal data.

        Raises:
            UnknownComparison, TokenRefused: as `find`.
        """
        comparison = self.find(comparison_id, token, annotator)
        _, issued = self._signer.loads(token, return_timestamp=True)
        answers = comparison.response_a, comparison.response_b
        return comparison, self._view(comparison, token, issued.timestamp(), comparison.prompt, answers)

    def voted(self, comparison_ids: Sequence[str], annotator: str) -> list[tuple[Choice, Recorded]]:
        """This person's votes on these that are on record, and what each revealed.

        Raises:
            DatabaseUnavailable: that cannot be told.
        """
        known = self._state.comparisons(comparison_ids)
        theirs = [each for name in comparison_ids if (each := known.get(name)) and each.annotator == annotator]
        votes = self._log.recorded([each.event_id for each in theirs])
        withdrawn = self._reviews.withdrawn()
        return [
            (as_choice(votes[each.event_id], each.left), _recorded(each, True, each.event_id in withdrawn))
            for each in theirs
            if each.event_id in votes
        ]

    def again(self, annotator: str, origin: OriginFilter) -> StoredComparison | None:
        """Now and then, a pair on a question of the bank that was decided a while ago, each at most once.

        Shown to the same person it tells how often votes flip, to another one how far people agree.
        """
        collection, now = self._collection, time.monotonic()
        if origin not in ("mix", "bank") or self._random.random() >= collection.repeat_share:
            return None
        old = [each for each in self._decided if now - each[0] > collection.repeat_after_s]
        own = [each for each in old if each[1].annotator == annotator]
        if not old:
            return None
        chosen = self._random.choice(own if own and self._random.random() < 0.5 else old)
        self._decided.remove(chosen)
        return chosen[1]

    def shadowed(self, annotator: str, origin: OriginFilter, models: tuple[str, str]) -> StoredComparison | None:
        """While a version is in staging, a pair of answers to what somebody else asked in production, at the share of
        the settings; each is shown once, and not to whoever asked: they know one of the answers.

        Args:
            models: the champion and the version in staging.
        """
        if origin not in ("mix", "production") or self._random.random() >= self._collection.shadow_ballot_share:
            return None

        def fits(ballot: StoredComparison) -> bool:
            return (ballot.model_a, ballot.model_b) == models and ballot.annotator != annotator

        try:
            ballot = self._state.take_ballot(fits)
        except LogWriteError:  # another program has the database for a moment: a question is drawn instead
            return None
        asked = self.questions.of_production(str(ballot.prompt), ballot.asked_by) if ballot else None
        if ballot is None or asked is None:
            return None
        return msgspec.structs.replace(ballot, category=asked.category, asked_by=asked.asked_by)

    def draw_question(
        self, category: str | None = None, origin: OriginFilter = "mix", seen: Sequence[str] = ()
    ) -> AskedQuestion:
        """A question that may be asked; where it comes from the bank, of the category that has the fewest votes.

        What the origin wanted does not have yet comes from the bank.
        """
        votes = {} if category else self._tally.refresh().by_category
        return self.questions.draw(QuestionFilter(origin, category, seen), votes)

    async def vote(self, comparison: StoredComparison, choice: Choice, why: VoteReason) -> Recorded:
        """Record a vote on what `find` gave; on return it is on disk. The same vote again changes nothing, its reason
        neither.

        Raises:
            AlreadyVoted: nothing was recorded.
            VoteNotRecorded: the disk refused it; the vote may be sent again.
        """
        vote, event_id = as_vote(choice, comparison.left), comparison.event_id
        if why.words:
            why = msgspec.structs.replace(why, words=await keeping(self._redact, why.words))
        while writing := self._writing.get(event_id):
            await asyncio.wait([writing])
        recorded, is_new = self._log.known(event_id), False
        if recorded is None:
            self._writing[event_id] = asyncio.create_task(self._write(comparison, vote, why))
            # A caller who goes away meanwhile must not leave a vote on disk that nobody knows of.
            recorded, is_new = await asyncio.shield(self._writing[event_id])
        if recorded != vote:
            raise AlreadyVoted("This comparison was voted on with another choice. A vote cannot be changed.")
        if is_new:
            self._note(event_id)
        if is_new and vote in ("a", "b") and self.questions.in_bank(comparison.prompt):
            self._decided.append((time.monotonic(), comparison))
        return _recorded(comparison, repeated=not is_new)

    def take_back(self, comparison: StoredComparison) -> None:
        """Whoever voted on what `find` gave says that it was a slip; on return that is on disk, and holds. In a thread,
        beside votes that are noted in the event loop; the second time changes nothing.

        Raises:
            TooLate: it was given longer ago than `SLIP_S`, or to another server, or not at all.
            LogWriteError: nothing was recorded.
        """
        event_id = comparison.event_id
        if event_id in self._reviews.withdrawn():
            return
        given = self._given.get(event_id)
        if given is None or time.monotonic() - given > SLIP_S + ON_ITS_WAY_S:
            raise TooLate(
                f"A vote can be taken back within {SLIP_S} seconds. This one stands; a reviewer can exclude the pair."
            )
        self._reviews.append(
            Review(
                review_id=f"rev-{uuid.uuid4().hex}",
                recorded_at=utc_now(),
                event_id=event_id,
                action="withdraw",
                reason=f"a slip, by the voter within {SLIP_S} seconds",
                actor=VOTER,
            )
        )
        for decided in [each for each in list(self._decided) if each[1].event_id == event_id]:
            with suppress(ValueError):  # newer ones have taken its place
                self._decided.remove(decided)

    def _note(self, event_id: str) -> None:
        """The vote was given now; those that can be taken back no more are forgotten."""
        now = time.monotonic()
        while self._given and now - next(iter(self._given.values())) > SLIP_S + ON_ITS_WAY_S:
            self._given.popitem(last=False)
        self._given[event_id] = now

    def _view(
        self, comparison: StoredComparison, token: str, issued: float, prompt: Prompt, answers: tuple[str, str]
    ) -> ComparisonView:
        """
        Args:
            answers: of a and b.
        """
        left, right = answers if comparison.left == "a" else answers[::-1]
        return ComparisonView(
            comparison_id=comparison.comparison_id,
            token=token,
            prompt=prompt,
            category=comparison.category,
            left=left,
            right=right,
            expires_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(issued + self._valid_s)),
        )

    def _check_token(self, comparison: StoredComparison, token: str, annotator: str | None) -> None:
        try:
            bound_to, issued = self._signer.loads(token, return_timestamp=True)
        except (BadSignature, ValueError) as error:
            raise TokenRefused("The token was not issued here. Send the one that came with the comparison.") from error
        # Not by the signer's own limit: it takes a clock that was put back for an expired token.
        if time.time() - issued.timestamp() > self._valid_s:
            raise TokenRefused("The token has expired. Ask for a new comparison.")
        if isinstance(bound_to, list):  # as issued before names of people were left out of it
            bound_to = bound_to[0]
        if bound_to != comparison.comparison_id:
            raise TokenRefused("The token belongs to another comparison. Send the one that came with this one.")
        if annotator is not None and annotator != comparison.annotator:
            raise TokenRefused("The token belongs to another person. Ask for a comparison of your own.")

    async def _write(self, comparison: StoredComparison, vote: Vote, why: VoteReason) -> Recording:
        try:
            return await self._log.record(preference(comparison, vote, why))
        except LogWriteError as error:
            log.error("a vote was not recorded: %s", error)
            raise VoteNotRecorded(
                "The server could not write the vote down; its log says why. Send it again."
            ) from error
        finally:
            del self._writing[comparison.event_id]


def _recorded(comparison: StoredComparison, repeated: bool, withdrawn: bool = False) -> Recorded:
    """What a vote on it reveals."""
    models = (comparison.model_a, comparison.model_b)
    left, right = models if comparison.left == "a" else models[::-1]
    return Recorded(
        event_id=comparison.event_id,
        comparison_id=comparison.comparison_id,
        left_model=left,
        right_model=right,
        category=comparison.category,
        source=comparison.source,
        repeated=repeated,
        withdrawn=withdrawn,
    )


def valid_s(collection: Collection) -> float:
    """How long a comparison can be voted on."""
    return collection.token_valid_h * 3600


def forget_expired(state: ServingState, collection: Collection) -> None:
    """Drop comparisons that can no longer be voted on, and requests whose texts are kept no longer.

    What was answered may be spoken of as long as it is kept, and for as long as a comparison where nothing is.
    """
    now, valid = time.time(), valid_s(collection)
    state.forget_before(now - valid, now - max(valid, timedelta(days=collection.retain_texts_days).total_seconds()))
