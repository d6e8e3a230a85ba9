"""What a tab keeps of a visit to the A/B page, so that it is there again after a restart of the server.

Ids, a token, and what was chosen: texts and names are on the server, and are shown again to whom they were shown. Only
a question of one's own that is being answered is on no record yet.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec

from dpo_pipeline.core.questions import Origin, OriginFilter
from dpo_pipeline.core.votes import Choice, ReasonTag, Strength, VoteReason
from dpo_pipeline.request_errors import TokenRefused, UnknownComparison
from dpo_pipeline.serving.pages.ab_visit import Batch, Plan, Visit
from dpo_pipeline.serving.pages.visits import in_form
from dpo_pipeline.serving.services.comparison_prompt import ComparisonPrompt
from dpo_pipeline.serving.services.visitors import Visitor
from dpo_pipeline.serving.services.voting import Voting

MOST_VOTES = 100


class _Session(msgspec.Struct):
    """A batch testing session: its length, and the comparisons that were voted on."""

    id: Annotated[str, msgspec.Meta(pattern=r"\Abatch-[0-9a-f]{12}\Z")]
    length: Annotated[int, msgspec.Meta(gt=0, le=MOST_VOTES)]
    votes: Annotated[list[str], msgspec.Meta(max_length=MOST_VOTES)]


class _Kept(msgspec.Struct, kw_only=True, omit_defaults=True):
    """`voted` tells this from what the tab kept before its vote; whether there is one, the log says.

    `asked` is what the person asked, until there is a pair.
    """

    session: Annotated[str, msgspec.Meta(pattern=r"\Avisit-[0-9a-f]{12}\Z")]
    turn: int
    first: str | None = None
    second: str | None = None
    origin: OriginFilter = "mix"
    comparison: str = ""
    token: str = ""
    voted: bool = False
    asked: str = ""
    asked_from: Origin | None = None
    batch: _Session | None = None


class Unsent(msgspec.Struct):
    """A vote to which no answer came, and what the tab kept of the pair on screen."""

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
    plan = visit.plan
    kept = _Kept(
        session=visit.session_id, turn=visit.turn, first=plan.first, second=plan.second, origin=plan.origin
    )  # fmt: skip
    if visit.shown and visit.question:
        kept.comparison, kept.token = visit.shown.comparison_id, visit.shown.token
        kept.voted, kept.asked_from = visit.voted is not None, visit.question.origin
    elif visit.question and visit.question.origin is None:
        kept.asked = visit.question.messages[-1][1]
    if batch := visit.batch:
        kept.batch = _Session(batch.session_id, batch.length, [recorded.comparison_id for _, recorded in batch.votes])
    return msgspec.json.encode(kept).decode()


async def restored(kept: str, voting: Voting, visitor: Visitor, newer_than: int = 0) -> Visit | None:
    """The visit as this server can show it to this person; null where there is nothing to go on from.

    What has expired is left out, and what was shown to somebody else: then this is another visit.

    Args:
        newer_than: the turn that this server knows of itself.

    Raises:
        TooManyRequests, DatabaseUnavailable: not now.
    """
    known = _decoded(kept)
    if known is None or known.turn <= newer_than or not known.comparison:
        return None
    visit = Visit(plan=Plan(known.first, known.second, known.origin), turn=known.turn)
    try:
        stored, shown = await voting.shown_before(known.comparison, known.token, visitor)
    except (TokenRefused, UnknownComparison):
        return visit
    session, ids = known.batch, [*(known.batch.votes if known.batch else ()), known.comparison]
    votes = {recorded.comparison_id: (choice, recorded) for choice, recorded in await voting.voted(ids, visitor)}
    visit.session_id, visit.shown, visit.voted = known.session, shown, votes.get(known.comparison)
    visit.question = ComparisonPrompt(
        stored.prompt, stored.category, origin=known.asked_from, asked_by=stored.asked_by
    )  # fmt: skip
    if session:
        # The last vote may be on record without the tab having heard of it.
        theirs = dict.fromkeys(ids if stored.session_id == session.id else session.votes)
        stand = [votes[each] for each in theirs if each in votes and not votes[each][1].withdrawn]
        visit.batch = Batch(session.length, session.id, stand)
    return visit


def comparison_on(kept: str) -> str:
    """The id of the comparison that a tab shows; empty where it shows none."""
    known = _decoded(kept)
    return known.comparison if known else ""


def asked_on(kept: str) -> str:
    """What the person had asked without a pair to show for it; empty where there is nothing to ask again."""
    known = _decoded(kept)
    return known.asked if known else ""


def unsent_vote(said: Sequence[Any], visit: Visit) -> Unsent | None:
    """The vote that is to be sent again: the last on the very pair that is on screen, where none is on record."""
    there = visit.shown.comparison_id if visit.shown and not visit.voted else None
    return next((vote for vote in reversed(in_form(said, Unsent)) if comparison_on(vote.shown) == there), None)


def _decoded(kept: str) -> _Kept | None:
    try:
        return msgspec.json.decode(kept, type=_Kept)
    except msgspec.MsgspecError:
        return None
