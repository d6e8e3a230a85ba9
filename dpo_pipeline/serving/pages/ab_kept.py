"""What a tab keeps of a visit to the A/B page, so that it is there again after a restart of the server.

Ids alone, and how people chose: texts and names are on the server, and are shown again to whom they were shown.
"""

from typing import Annotated, Literal

import msgspec

from dpo_pipeline.core.questions import Origin, OriginFilter
from dpo_pipeline.core.votes import ReasonTag, Strength, VoteReason
from dpo_pipeline.errors import DpoError
from dpo_pipeline.serving.pages.ab_visit import Batch, Plan, Visit
from dpo_pipeline.serving.services.comparing import Comparing, ComparisonPrompt
from dpo_pipeline.serving.services.preference_event import Choice
from dpo_pipeline.serving.services.visitors import Visitor

SessionId = Annotated[str, msgspec.Meta(pattern=r"\A(visit|batch)-[0-9a-f]{12}\Z")]
MOST_VOTES = 100


class _Session(msgspec.Struct):
    """A batch testing session: its length, and the comparisons that were voted on."""

    id: SessionId
    length: Annotated[int, msgspec.Meta(gt=0, le=MOST_VOTES)]
    votes: Annotated[list[str], msgspec.Meta(max_length=MOST_VOTES)]


class _Kept(msgspec.Struct, kw_only=True, omit_defaults=True):
    session: SessionId
    first: str | None = None
    second: str | None = None
    origin: OriginFilter = "mix"
    comparison: str = ""
    token: str = ""
    asked_from: Origin | None = None
    batch: _Session | None = None


class Unsent(msgspec.Struct):
    """A vote to which no answer came, of what was on screen then as the tab keeps it."""

    shown: str
    choice: Choice
    strength: Strength | Literal[""] = ""
    tags: list[ReasonTag] = []
    words: str = ""

    @property
    def why(self) -> VoteReason:
        return VoteReason(self.strength or None, tuple(self.tags), self.words.strip())


def kept_of(visit: Visit) -> str:
    """For the tab; nothing before the first pair."""
    if not visit.session_id:
        return ""
    kept = _Kept(session=visit.session_id, first=visit.plan.first, second=visit.plan.second, origin=visit.plan.origin)
    if visit.shown and visit.question:
        kept.comparison, kept.token = visit.shown.comparison_id, visit.shown.token
        kept.asked_from = visit.question.origin
    if batch := visit.batch:
        kept.batch = _Session(batch.session_id, batch.length, [recorded.comparison_id for _, recorded in batch.votes])
    return msgspec.json.encode(kept).decode()


async def restored(kept: str, comparing: Comparing, visitor: Visitor) -> Visit | None:
    """The visit as this server can show it to this person; null where there is nothing to go on from."""
    try:
        known = msgspec.json.decode(kept, type=_Kept)
    except msgspec.MsgspecError:
        return None
    visit = Visit(session_id=known.session, plan=Plan(known.first, known.second, known.origin))
    try:
        if known.batch:
            votes = [await comparing.voted(each, visitor) for each in known.batch.votes]
            visit.batch = Batch(known.batch.length, known.batch.id, [vote for vote in votes if vote])
        if known.comparison:
            stored, visit.shown = await comparing.shown_before(known.comparison, known.token, visitor)
            visit.question = ComparisonPrompt(
                stored.prompt, stored.category, origin=known.asked_from, asked_by=stored.asked_by
            )
            visit.voted = await comparing.voted(known.comparison, visitor)
    except DpoError:  # it has expired, or was shown to somebody else: what was chosen stays
        visit.batch = visit.shown = visit.question = visit.voted = None
    return visit


def unsent_vote(unsent: str, kept: str) -> Unsent | None:
    """The vote that is to be sent again: of the very pair that the tab shows."""
    try:
        vote = msgspec.json.decode(unsent, type=Unsent)
    except msgspec.MsgspecError:
        return None
    return vote if vote.shown == kept else None
