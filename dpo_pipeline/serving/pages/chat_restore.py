"""The conversation that a chat page stands on: the server may have started again under it."""

from typing import Any

from dpo_pipeline.errors import DpoError
from dpo_pipeline.request_errors import RoleRequired
from dpo_pipeline.serving.assembly import Serving
from dpo_pipeline.serving.pages.chat_kept import restored
from dpo_pipeline.serving.pages.conversation import Conversation
from dpo_pipeline.serving.pages.explained import explained
from dpo_pipeline.serving.pages.person import pseudonym_of, visitor_of
from dpo_pipeline.serving.services.keeping import asking

NOT_HERE = "This conversation is not known here any more: its texts are not kept that long. Ask something new."


async def restore(serving: Serving, talk: Conversation, shown: str, person: Any, request: Any) -> None:
    """Go on from what the tab keeps, where that is newer than what is known here, and theirs.

    Raises:
        TooManyRequests, DatabaseUnavailable: not now.
    """
    if not shown or not pseudonym_of(serving, person, request):
        return
    try:
        visitor = visitor_of(serving, person, talk.session_id, request)
    except RoleRequired:  # whoever only looks has nothing to go on from
        return
    asks = talk.asks
    before = await asking(restored, shown, serving.feedback, visitor, asks)
    if before and talk.asks == asks:  # nobody has gone on meanwhile
        talk.go_on_from(before)


async def missing(serving: Serving, talk: Conversation, shown: str, person: Any, request: Any) -> str:
    """Why there is no conversation to speak of; empty where there is. The server may have started again under it."""
    try:
        await restore(serving, talk, shown, person, request)
    except DpoError as error:
        return explained(error)
    return "" if talk.asks else NOT_HERE
