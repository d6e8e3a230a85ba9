"""Demonstrations as other tools write them → a prompt and its answer, or a question that versions are judged on.

Forms: `messages` (OpenAI's fine-tuning, axolotl); `conversations` (sharegpt); `instruction`, `input`, `output` (alpaca,
with `system` and `history`); `prompt` and `completion` (TRL, texts or messages), `prompt` and `response`.
"""

from collections.abc import Mapping
from typing import Any

from dpo_pipeline.core.admission import cannot_be_asked
from dpo_pipeline.core.message_formats import Prompt, alpaca_prompt, answer_of, messages_of, system_of, text_of
from dpo_pipeline.core.questions import CATEGORIES, Question
from dpo_pipeline.core.votes import Message
from dpo_pipeline.errors import InvalidRecord
from dpo_pipeline.in_words import kind_of

_UNTOLD = ("tools", "functions", "history", "context", "passage", "system_prompt", "system_message")
_ANSWERS = ("completion", "response", "answer")


def read_demonstration(row: Any) -> tuple[list[Message], str]:
    """The messages that are answered, and the answer: of a conversation, its last one.

    Raises:
        InvalidRecord: in no known form, or without an answer; the reason quotes no text.
    """
    if not isinstance(row, Mapping):
        raise InvalidRecord(f"a row is an object; {kind_of(row)} was found")
    present = {str(key): value for key, value in row.items() if value is not None}
    prompt, answer = _read(present)
    messages = [Message("user", prompt)] if isinstance(prompt, str) else prompt
    if refused := cannot_be_asked([(each.role, each.content) for each in messages]):
        raise InvalidRecord(refused)
    if not answer.strip():
        raise InvalidRecord("the answer is empty")
    return messages, answer


def read_question(row: Any) -> Question:
    """A question that versions are judged on: a demonstration, whose answer is its reference, or a prompt alone.

    Raises:
        InvalidRecord: in no known form, or with more than one message to answer; the reason quotes no text.
    """
    if not isinstance(row, Mapping):
        raise InvalidRecord(f"a row is an object; {kind_of(row)} was found")
    present = {str(key): value for key, value in row.items() if value is not None}
    if (alone := _unanswered(present)) is not None:
        messages, reference = alone, ""
        if refused := cannot_be_asked([(each.role, each.content) for each in messages]):
            raise InvalidRecord(refused)
    else:
        messages, reference = read_demonstration(row)
    if [each.role for each in messages] != ["user"]:
        raise InvalidRecord(
            "only a single message of a user can be asked; earlier turns or a system message were found"
        )
    category = present.get("category")
    told = category if isinstance(category, str) and category in CATEGORIES else "other"
    return Question(messages[0].content, told, (), (), (), reference, ())


def _unanswered(row: Mapping[str, Any]) -> list[Message] | None:
    """The messages of a row that asks and does not answer; null where there is an answer, or no known form."""
    is_alpaca = "instruction" in row
    _refuse_untold(row, is_alpaca)
    for name in ("messages", "conversations"):
        if name in row:
            messages = [*system_of(row), *messages_of(row[name])]
            return messages if messages[-1].role == "user" else None
    if any(name in row for name in ("output", *_ANSWERS)):
        return None
    if is_alpaca:
        told = alpaca_prompt(row)
        return [Message("user", told)] if isinstance(told, str) else told
    for name in ("question", "prompt"):
        if name in row:
            return _asked(row, name)
    return None


def _asked(row: Mapping[str, Any], name: str) -> list[Message]:
    """What is asked under this name, a text or messages, behind the row's system text."""
    told = row[name]
    asked = messages_of(told) if isinstance(told, list) else [Message("user", text_of(told, name))]
    return [*system_of(row), *asked]


def _refuse_untold(row: Mapping[str, Any], is_alpaca: bool) -> None:
    if untold := [name for name in _UNTOLD if row.get(name) and not (is_alpaca and name == "history")]:
        raise InvalidRecord(f"{' and '.join(untold)} cannot be told to the model")


def _read(row: Mapping[str, Any]) -> tuple[Prompt, str]:
    is_alpaca = "instruction" in row and "output" in row
    _refuse_untold(row, is_alpaca)
    for name in ("messages", "conversations"):
        if name in row:
            *asked, last = [*system_of(row), *messages_of(row[name])]
            if last.role != "assistant":
                raise InvalidRecord("the conversation does not end with an answer of the assistant")
            return asked, last.content
    if is_alpaca:
        return alpaca_prompt(row), text_of(row["output"], "output")
    answer = next((name for name in _ANSWERS if name in row), None)
    prompt = next((name for name in ("prompt", "question") if name in row), None)
    if prompt is None or answer is None:
        raise InvalidRecord("no messages, no conversations, and no prompt with an answer")
    return _asked(row, prompt), answer_of(row[answer], answer)
