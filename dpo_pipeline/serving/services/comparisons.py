"""Side by side, blind and shuffled: what is shown, and the one vote that each comparison gets.

A vote is acknowledged when its line is on disk. Texts and model names stay on the server, behind a
signed token that is bound to the comparison and the person.
"""

import asyncio
import logging
import random
import time
import uuid
from collections.abc import Sequence

import msgspec

from dpo_pipeline.core.questions import OriginFilter
from dpo_pipeline.core.redaction import Redactor, redacted_turns
from dpo_pipeline.core.votes import Choice, Sampling, Vote, VoteReason
from dpo_pipeline.errors import LogWriteError
from dpo_pipeline.request_errors import AlreadyVoted, UnknownComparison, VoteNotRecorded
from dpo_pipeline.serving.services.comparison_tokens import ComparisonTokens
from dpo_pipeline.serving.services.comparison_views import ComparisonView, Prompt, Recorded, revealed
from dpo_pipeline.serving.services.keeping import keeping
from dpo_pipeline.serving.services.preference_event import as_choice, as_vote, preference
from dpo_pipeline.serving.services.questions import Questions
from dpo_pipeline.serving.services.second_looks import SecondLooks
from dpo_pipeline.serving.services.slips import Slips
from dpo_pipeline.serving.services.visitors import Visitor
from dpo_pipeline.settings import Collection
from dpo_pipeline.stores.reviews import ReviewLog
from dpo_pipeline.stores.serving_state import ServingState, StoredComparison
from dpo_pipeline.stores.vote_log import Recording, VoteLog

log = logging.getLogger(__name__)


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
        key: bytes,
        redact: Redactor,
    ):
        self._collection, self._log, self._redact = collection, log, redact
        self._state = state
        self._tokens, self._slips = ComparisonTokens(key, collection), Slips(reviews)
        self._writing: dict[str, asyncio.Task[Recording]] = {}
        self._random = random.SystemRandom()
        self.questions, self.second_looks = questions, SecondLooks(collection)

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
        token = self._tokens.issue(comparison.comparison_id)
        return self._view(comparison, token, now, prompt, answers)

    def find(self, comparison_id: str, token: str, annotator: str | None = None) -> StoredComparison:
        """A comparison that whoever sends this token may vote on.

        Args:
            annotator: the pseudonym of whoever sends it, where that is known.

        Raises:
            UnknownComparison, TokenRefused
        """
        return self._found(comparison_id, token, annotator)[0]

    def shown_before(self, comparison_id: str, token: str, annotator: str) -> tuple[StoredComparison, ComparisonView]:
        """What `open` gave, as it is kept: without personal data.

        Raises:
            UnknownComparison, TokenRefused: as `find`.
        """
        comparison, issued = self._found(comparison_id, token, annotator)
        answers = comparison.response_a, comparison.response_b
        return comparison, self._view(comparison, token, issued, comparison.prompt, answers)

    def voted(self, comparison_ids: Sequence[str], annotator: str) -> list[tuple[Choice, Recorded]]:
        """This person's votes on these that are on record, and what each revealed.

        Raises:
            DatabaseUnavailable: that cannot be told.
        """
        known = self._state.comparisons(comparison_ids)
        theirs = [each for name in comparison_ids if (each := known.get(name)) and each.annotator == annotator]
        votes = self._log.recorded([each.event_id for each in theirs])
        withdrawn = self._slips.withdrawn()
        return [
            (as_choice(votes[each.event_id], each.left), revealed(each, True, each.event_id in withdrawn))
            for each in theirs
            if each.event_id in votes
        ]

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
            self._slips.note(event_id)
        if is_new and vote in ("a", "b") and self.questions.in_bank(comparison.prompt):
            self.second_looks.note(comparison)
        return revealed(comparison, repeated=not is_new)

    def take_back(self, comparison: StoredComparison) -> None:
        """Whoever voted on what `find` gave says that it was a slip; on return that is on disk, and holds. In a thread,
        beside votes that are noted in the event loop; the second time changes nothing.

        Raises:
            TooLate: it was given longer ago than `SLIP_S`, or to another server, or not at all.
            LogWriteError: nothing was recorded.
        """
        event_id = comparison.event_id
        if self._slips.withdraw(event_id):
            self.second_looks.forget(event_id)

    def _found(self, comparison_id: str, token: str, annotator: str | None) -> tuple[StoredComparison, float]:
        """As `find`, and when the token was issued."""
        comparison = self._state.comparison(comparison_id)
        if comparison is None:
            raise UnknownComparison(f"There is no comparison {comparison_id!r}. Ask for a new one.")
        return comparison, self._tokens.check(comparison, token, annotator)

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
            expires_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(issued + self._tokens.valid_s)),
        )

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
