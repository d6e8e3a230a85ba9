"""What a tab keeps of a conversation, so that it is there again after a restart of the server.

Ids of requests, what was said of their answers, and a question that is being answered: what was asked and answered is
on the server, and is shown again to whoever asked it. Where texts are not kept (`collection.retain_texts_days`), there
is nothing to show.
"""

from typing import Annotated

import msgspec

from dpo_pipeline.serving.pages.conversation import Conversation, Turn
from dpo_pipeline.serving.services.feedback import Feedback
from dpo_pipeline.serving.services.visitors import Visitor
from dpo_pipeline.stores.serving_state import StoredRequest

MOST_ANSWERS = 200


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


def _messages(request: StoredRequest) -> list[tuple[str, str]]:
    """What was said up to its answer, and the answer."""
    prompt = request.prompt
    asked = [("user", prompt)] if isinstance(prompt, str) else [(each["role"], each["content"]) for each in prompt]
    return [*asked, ("assistant", request.answer)]
