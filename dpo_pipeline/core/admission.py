"""What people's texts may be, the same at every door: HTTP, pages, files.

Whatever is refused here is the sender's to change, and counts against no version.
"""

from collections.abc import Sequence

from dpo_pipeline.core.conversation import Messages
from dpo_pipeline.request_errors import InvalidRequest

LONGEST_TEXT, LONGEST_CONVERSATION, LONGEST_REASON = 32_000, 128_000, 500
"""In characters. Much that is done to a text, such as comparing it with another, costs more than its length."""
MOST_MESSAGES = 100
ROLES = {
    "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "model": "assistant",
    "bot": "assistant", "system": "system", "developer": "system",
}  # fmt: skip
"""The names that tools give to the three roles of a conversation, in lower case."""


def can_be_written(text: str) -> bool:
    """False for half a surrogate pair, which JSON may hold and which no file and no tokenizer takes."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_text(name: str, text: str, longest: int = LONGEST_TEXT) -> str:
    """The text as it was given.

    Raises:
        InvalidRequest: it is longer than may be, or no text.
    """
    if len(text) > longest:
        raise InvalidRequest(f"{name} has {len(text)} characters; at most {longest} fit.")
    if not can_be_written(text):
        raise InvalidRequest(f"{name} holds half a surrogate pair, which is no text.")
    return text


def check_reason(reason: str) -> str:
    """Why somebody orders something, without white space around it; raises as `check_text`, and where it is blank."""
    if not reason.strip():
        raise InvalidRequest("Give a reason: whoever comes after you wants to know why.")
    return check_text("The reason", reason.strip(), LONGEST_REASON)


def check_messages(messages: Messages) -> None:
    """
    Raises:
        InvalidRequest: a conversation that no model is asked to go on with.
    """
    if len(messages) > MOST_MESSAGES:
        raise InvalidRequest(f"The conversation has {len(messages)} messages; at most {MOST_MESSAGES} fit.")
    for place, (_, content) in enumerate(messages, start=1):
        check_text(f"Message {place}", content)
    total = sum(len(content) for _, content in messages)
    if total > LONGEST_CONVERSATION:
        raise InvalidRequest(f"The conversation has {total} characters; at most {LONGEST_CONVERSATION} fit.")


def cannot_be_asked(messages: Sequence[tuple[str, str]]) -> str | None:
    """Why two answers to this cannot be compared, without quoting it; null where they can."""
    if not messages or not any(content.strip() for _, content in messages):
        return "the prompt is empty"
    if messages[-1][0] == "assistant":
        return "the prompt ends with the assistant"
    if not any(role == "user" and content.strip() for role, content in messages):
        return "the prompt holds no turn of the user"
    if not messages[-1][1].strip():
        return "the last message of the prompt is empty"
    return None
