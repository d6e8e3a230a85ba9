"""Preference pairs as other tools write them → one `ImportedPair`. Which file they come from is not known here.

Forms: minimal {prompt | question, chosen, rejected}; HH-RLHF transcripts; TRL's conversational form,
with or without a prompt of its own; LLaMA-Factory's alpaca and sharegpt rankings.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dpo_pipeline.core.questions import CATEGORIES
from dpo_pipeline.core.votes import Message, Preference, Vote, outcome, prompt_text
from dpo_pipeline.errors import InvalidRecord

_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant): ?")
_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}


@dataclass(frozen=True)
class ImportedPair:
    """A pair and the name of the form it was in."""

    form: str
    prompt: str | list[Message]
    chosen: str
    rejected: str
    category: str


def read_pair(row: Any) -> ImportedPair:
    """Recognise the form of one row and read it.

    Raises:
        InvalidRecord: in no known form, or a field is missing or of the wrong kind.
    """
    if not isinstance(row, Mapping):
        raise InvalidRecord(f"a row is an object; {type(row).__name__} was found")
    category = row.get("category")
    known = category if category in CATEGORIES else "other"
    form, prompt, chosen, rejected = _read(row)
    return ImportedPair(form, prompt, chosen, rejected, known)


def as_preference(pair: ImportedPair, source_name: str, recorded_at: str) -> Preference:
    """The event of an imported pair. Its id is the hash of the pair, so the same pair is the same event.

    Which side was a, and stood on the left, hangs on that hash: the log keeps no trace of "chosen first".
    """
    parts = (prompt_text(pair.prompt), pair.chosen, pair.rejected)
    digest = hashlib.sha256("\0".join(f"{len(part)}:{part}" for part in parts).encode()).hexdigest()
    a_is_chosen = int(digest[-1], 16) % 2 == 0
    response_a, response_b = (pair.chosen, pair.rejected) if a_is_chosen else (pair.rejected, pair.chosen)
    vote: Vote = "a" if a_is_chosen else "b"
    chosen, rejected, chosen_model, rejected_model = outcome(vote, response_a, response_b, "imported-a", "imported-b")
    return Preference(
        event_id=f"imp-{digest[:32]}",
        recorded_at=recorded_at,
        comparison_id=f"imp-{digest[:32]}",
        session_id=f"import-{source_name}",
        prompt=pair.prompt,
        category=pair.category,  # type: ignore[arg-type]
        model_a="imported-a",
        model_b="imported-b",
        response_a=response_a,
        response_b=response_b,
        vote=vote,
        chosen=chosen,
        rejected=rejected,
        chosen_model=chosen_model,
        rejected_model=rejected_model,
        left="a",
        annotator=f"import-{source_name}",
        source="import",
    )


def _read(row: Mapping[str, Any]) -> tuple[str, str | list[Message], str, str]:
    chosen, rejected = row.get("chosen"), row.get("rejected")
    if "chosen" not in row or "rejected" not in row:
        missing = [name for name in ("chosen", "rejected") if name not in row]
        raise InvalidRecord(f"no {' and no '.join(missing)}")
    if "conversations" in row:
        system = [Message("system", _text(row["system"], "system"))] if row.get("system") else []
        return (
            "sharegpt",
            system + _messages(row["conversations"]),
            _text(chosen, "chosen"),
            _text(rejected, "rejected"),
        )
    if "instruction" in row:
        return "alpaca", _alpaca_prompt(row), _text(chosen, "chosen"), _text(rejected, "rejected")
    prompt = row.get("prompt", row.get("question"))
    if isinstance(chosen, list) and isinstance(rejected, list):
        return _conversational(prompt, _messages(chosen), _messages(rejected))
    if prompt is None:
        return _transcripts(_text(chosen, "chosen"), _text(rejected, "rejected"))
    if isinstance(prompt, list):
        return "conversational", _messages(prompt), _text(chosen, "chosen"), _text(rejected, "rejected")
    return "minimal", _split_transcript(_text(prompt, "prompt")), _text(chosen, "chosen"), _text(rejected, "rejected")


def _alpaca_prompt(row: Mapping[str, Any]) -> str | list[Message]:
    """Instruction and input; a list of messages where the row has a system text or earlier turns."""
    parts = [_text(row["instruction"], "instruction"), _text(row.get("input") or "", "input")]
    prompt = "\n".join(part for part in parts if part)
    system, history = row.get("system"), row.get("history") or []
    if not system and not history:
        return prompt
    messages = [Message("system", _text(system, "system"))] if system else []
    for turn in history:
        if not isinstance(turn, list) or len(turn) != 2:
            raise InvalidRecord("history is a list of [question, answer]")
        messages += [Message("user", _text(turn[0], "history")), Message("assistant", _text(turn[1], "history"))]
    return [*messages, Message("user", prompt)]


def _conversational(
    prompt: Any, chosen: list[Message], rejected: list[Message]
) -> tuple[str, str | list[Message], str, str]:
    if prompt is None:
        shared = 0
        while shared < min(len(chosen), len(rejected)) - 1 and chosen[shared] == rejected[shared]:
            shared += 1
        history, chosen, rejected = chosen[:shared], chosen[shared:], rejected[shared:]
    else:
        history = _messages(prompt) if isinstance(prompt, list) else [Message("user", _text(prompt, "prompt"))]
    if len(chosen) != 1 or len(rejected) != 1 or not history:
        raise InvalidRecord("chosen and rejected must share their history and differ in the one last message")
    return "conversational", history, chosen[0].content, rejected[0].content


def _transcripts(chosen: str, rejected: str) -> tuple[str, str | list[Message], str, str]:
    """Two HH-RLHF transcripts that differ in the last answer."""
    first, second = _split_transcript(chosen), _split_transcript(rejected)
    if not isinstance(first, list) or not isinstance(second, list):
        raise InvalidRecord("no prompt, and chosen is no transcript of Human and Assistant")
    history = first[:-1]
    if history != second[:-1] or first[-1].role != "assistant" or second[-1].role != "assistant" or not history:
        raise InvalidRecord("the transcripts differ before the last answer")
    return "hh_rlhf", history, first[-1].content, second[-1].content


def _split_transcript(text: str) -> str | list[Message]:
    """The messages of a "Human: … Assistant: …" transcript; other texts stay as they are."""
    if not text.lstrip().startswith("Human:"):
        return text
    parts = _TURN.split(text.strip())[1:]
    messages = [
        Message("user" if role == "Human" else "assistant", content.strip())
        for role, content in zip(parts[::2], parts[1::2], strict=True)
    ]
    if messages and messages[-1].role == "assistant" and not messages[-1].content:
        messages.pop()  # a transcript that ends with the cue "Assistant:"
    return messages or text


def _messages(value: Any) -> list[Message]:
    if not isinstance(value, list) or not value:
        raise InvalidRecord("a conversation is a list of at least one message")
    messages = []
    for item in value:
        role = _ROLES.get(str(_field(item, "role", "from")))
        if role is None:
            raise InvalidRecord(f"a message needs a role out of {', '.join(_ROLES)}; {item!r:.80} was found")
        messages.append(Message(role, _text(_field(item, "content", "value"), "content")))  # type: ignore[arg-type]
    return messages


def _text(value: Any, name: str) -> str:
    if isinstance(value, Mapping):
        value = _field(value, "content", "value")
    if not isinstance(value, str):
        raise InvalidRecord(f"{name} must be a text; {type(value).__name__} was found")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise InvalidRecord(f"{name} holds half a surrogate pair, which is no text") from error
    return value


def _field(item: Any, *names: str) -> Any:
    if isinstance(item, Mapping):
        for name in names:
            if name in item:
                return item[name]
    return None
