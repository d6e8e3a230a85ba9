"""What a tab keeps of a conversation, so that it is there again after a restart of the server.

Ids of requests, what was said of their answers, and a question that is being answered: what was asked and answered is
on the server, and is shown again to whoever asked it. Where texts are not kept (`collection.retain_texts_days`), there
is nothing to show.
"""

import hashlib
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec

from dpo_pipeline.serving.pages.conversation import Conversation, Turn
from dpo_pipeline.serving.pages.visits import in_form
from dpo_pipeline.serving.services.feedback import Feedback
from dpo_pipeline.serving.services.visitors import Visitor
from dpo_pipeline.stores.serving_state import StoredRequest

MOST_ANSWERS = 200
JUDGED = ("thumb", "rating", "correction")
"""What is kept of an answer, so that it is not said twice; a correction by its digest, since there may be another."""


class _Answer(msgspec.Struct, omit_defaults=True):
    """`place` is that of its turn in the conversation."""

    place: int
    request: str
    judged: dict[str, str | int] = {}


class _Kept(msgspec.Struct, omit_defaults=True):
    session: Annotated[str, msgspec.Meta(pattern=r"\Avisit-[0-9a-f]{12}\Z")]
    asks: int
    answers: Annotated[list[_Answer], msgspec.Meta(max_length=MOST_ANSWERS)] = []
    asked: str = ""


class _Unsent(msgspec.Struct):
    """What somebody said of an answer, and got no answer to. `place` is its turn's; null: it was the last one."""

    shown: str
    place: int | None = None
    thumb: str = ""
    rating: int = 0
    correction: str = ""

    @property
    def given(self) -> dict[str, str | int]:
        said: dict[str, str | int] = {"thumb": self.thumb, "rating": self.rating, "correction": self.correction}
        return {signal: value for signal, value in said.items() if value}


def kept_of(talk: Conversation) -> str:
    """For the tab; nothing before the first question."""
    if not talk.session_id:
        return ""
    answers = [
        _Answer(place, turn.request_id, dict(turn.judged)) for place, turn in enumerate(talk.said) if turn.request_id
    ]
    asked = talk.said[-1].text if talk.growing is not None and talk.said else ""
    return msgspec.json.encode(_Kept(talk.session_id, talk.asks, answers[-MOST_ANSWERS:], asked)).decode()


def restored(kept: str, feedback: Feedback, visitor: Visitor, newer_than: int = 0) -> Conversation | None:
    """The conversation up to the last whole answer that is known; null where there is nothing to go on from.

    Args:
        newer_than: how often was asked, as far as this server knows of itself.

    Raises:
        TooManyRequests, DatabaseUnavailable: not now.
    """
    try:
        known = msgspec.json.decode(kept, type=_Kept)
    except msgspec.MsgspecError:
        return None
    if known.asks <= newer_than:
        return None
    if not known.answers:
        return Conversation(asks=known.asks, unsent=known.asked)
    found = feedback.answered([each.request for each in known.answers], visitor)
    answers = {each.place: each for each in known.answers if each.request in found}
    if not answers:  # expired, or somebody else's
        return None
    talk = Conversation(session_id=known.session, asks=known.asks, unsent=known.asked)
    for place, (role, said) in enumerate(_messages(found[answers[max(answers)].request])):
        if role == "user":
            talk.said.append(Turn(said))
        elif answer := answers.get(place):
            talk.said.append(Turn(said, found[answer.request].version, answer.request, answer.judged))
        else:
            talk.said.append(Turn(said, "the model"))
    return talk


def unsent_feedback(said: Sequence[Any], talk: Conversation) -> list[tuple[Turn, dict[str, str | int]]]:
    """What is to be sent again, and of which answer: of the very one that it was said of, of each kind the newest, and
    not what is known. Said twice all the same, as where our answer alone was lost, the newest counts.
    """
    newest: dict[tuple[str | None, str], tuple[Turn, str | int]] = {}
    for each in in_form(said, _Unsent):
        if turn := _turn_of(each, talk):
            newest |= {(turn.request_id, signal): (turn, value) for signal, value in each.given.items()}
    return [(turn, {signal: value}) for (_, signal), (turn, value) in newest.items() if _is_news(turn, signal, value)]


def corrects(text: str, turn: Turn) -> bool:
    """Whether this is another answer than what it is to correct."""
    return text.strip() not in ("", turn.text.strip())


def _is_news(turn: Turn, signal: str, value: str | int) -> bool:
    if signal != "correction":
        return signal not in turn.judged
    return corrects(str(value), turn) and turn.judged.get(signal) != digest(str(value))


def _turn_of(said: _Unsent, talk: Conversation) -> Turn | None:
    """The answer that it was said of, where the conversation has it."""
    try:
        shown = msgspec.json.decode(said.shown, type=_Kept)
    except msgspec.MsgspecError:
        return None
    requests = {each.place: each.request for each in shown.answers}
    place = max(requests, default=-1) if said.place is None else said.place
    turn = talk.said[place] if 0 <= place < len(talk.said) else None
    known = turn is not None and turn.request_id is not None and turn.request_id == requests.get(place)
    return turn if known else None


def digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:12]


def _messages(request: StoredRequest) -> list[tuple[str, str]]:
    """What was said up to its answer, and the answer."""
    prompt = request.prompt
    asked = [("user", prompt)] if isinstance(prompt, str) else [(each["role"], each["content"]) for each in prompt]
    return [*asked, ("assistant", request.answer)]
