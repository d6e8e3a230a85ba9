"""What a tab keeps of a conversation, so that it is there again after a restart of the server.

Ids of requests and what was said of their answers: what was asked and answered is on the server, and is shown again to
whoever asked it. Where texts are not kept (`collection.retain_texts_days`), there is nothing to show.
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
    answers: Annotated[list[_Answer], msgspec.Meta(max_length=MOST_ANSWERS)] = []
    asked: str = ""
    """A question whose answer is not whole yet."""


def kept_of(talk: Conversation) -> str:
    """For the tab; nothing before the first question."""
    if not talk.session_id:
        return ""
    answers = [
        _Answer(place, turn.request_id, dict(turn.judged)) for place, turn in enumerate(talk.said) if turn.request_id
    ]
    asked = talk.said[-1].text if talk.growing is not None and talk.said else ""
    return msgspec.json.encode(_Kept(talk.session_id, answers[-MOST_ANSWERS:], asked)).decode()


def restored(kept: str, feedback: Feedback, visitor: Visitor) -> Conversation | None:
    """The conversation up to its last whole answer; null where there is nothing to go on from."""
    try:
        known = msgspec.json.decode(kept, type=_Kept)
    except msgspec.MsgspecError:
        return None
    talk = Conversation(session_id=known.session, unsent=known.asked)
    answers = {each.place: (each, feedback.answered(each.request, visitor)) for each in known.answers}
    if not answers or any(request is None for _, request in answers.values()):
        return talk
    _, last = answers[max(answers)]
    assert last is not None
    for place, (role, said) in enumerate(_messages(last)):
        answer, request = answers.get(place, (None, None))
        if role == "user":
            talk.said.append(Turn(said))
        elif answer and request:
            talk.said.append(Turn(said, request.version, request.request_id, answer.judged))
        else:
            talk.said.append(Turn(said, "the model"))
    return talk


def _messages(request: StoredRequest) -> list[tuple[str, str]]:
    """What was said up to its answer, and the answer."""
    prompt = request.prompt
    asked = [("user", prompt)] if isinstance(prompt, str) else [(each["role"], each["content"]) for each in prompt]
    return [*asked, ("assistant", request.answer)]
