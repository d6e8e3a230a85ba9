"""Messages and texts as other tools write them, read alike for pairs and for demonstrations.

What a model cannot be told whole is refused; the reasons quote no text.
"""

from collections.abc import Mapping
from typing import Any

from dpo_pipeline.core.admission import ROLES, can_be_written
from dpo_pipeline.core.votes import Message
from dpo_pipeline.errors import InvalidRecord
from dpo_pipeline.in_words import kind_of

Prompt = str | list[Message]
_CALLS = ("tool_calls", "function_call")


def system_of(row: Mapping[str, Any]) -> list[Message]:
    text = text_of(row.get("system") or "", "system")
    return [Message("system", text)] if text else []


def alpaca_prompt(row: Mapping[str, Any]) -> Prompt:
    """Instruction and input; a list of messages where the row has a system text or earlier turns."""
    parts = [text_of(row["instruction"], "instruction"), text_of(row.get("input") or "", "input")]
    prompt = "\n".join(part for part in parts if part)
    system, history = system_of(row), row.get("history") or []
    if not system and not history:
        return prompt
    messages = system
    for turn in history if isinstance(history, list) else [history]:
        if not isinstance(turn, list) or len(turn) != 2:
            raise InvalidRecord("history is a list of [question, answer]")
        messages += [Message("user", text_of(turn[0], "history")), Message("assistant", text_of(turn[1], "history"))]
    return [*messages, Message("user", prompt)]


def messages_of(value: Any) -> list[Message]:
    if not isinstance(value, list) or not value:
        raise InvalidRecord("a conversation is a list of at least one message")
    if any(field_of(item, *_CALLS) for item in value):
        raise InvalidRecord("a message calls tools, of which a model here cannot be told")
    return [
        Message(role_of(item), text_of(field_of(item, "content", "value"), "content"))  # type: ignore[arg-type]
        for item in value
    ]


def role_of(item: Any) -> str:
    found = field_of(item, "role", "from")
    role = ROLES.get(found.casefold()) if isinstance(found, str) else None
    if role is None:
        raise InvalidRecord(f"a message needs a role out of {', '.join(ROLES)}; another one was found")
    return role


def text_of(value: Any, name: str) -> str:
    """A text, that of a message, or the text parts of one."""
    if isinstance(value, Mapping):
        value = field_of(value, "content", "value")
    if isinstance(value, list) and value and all(isinstance(part, Mapping) for part in value):
        if any(part.get("type") != "text" for part in value):
            raise InvalidRecord(f"{name} has parts that are no text")
        value = "\n".join(str(part.get("text") or "") for part in value)
    if not isinstance(value, str):
        raise InvalidRecord(f"{name} must be a text; {kind_of(value)} was found")
    if not can_be_written(value):
        raise InvalidRecord(f"{name} holds half a surrogate pair, which is no text")
    return value


def field_of(item: Any, *names: str) -> Any:
    if isinstance(item, Mapping):
        for name in names:
            if item.get(name) is not None:
                return item[name]
    return None


def answer_of(value: Any, name: str) -> str:
    """The text of an answer: a text, or a message of the assistant, or a list of one."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, Mapping) and field_of(value, "role", "from") is not None and role_of(value) != "assistant":
        raise InvalidRecord(f"{name} must be an answer; it is a message of another role")
    return text_of(value, name)
