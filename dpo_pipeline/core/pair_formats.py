"""Preference pairs as other tools write them → one `ImportedPair`. Which file they come from is not known here.

Forms: minimal {prompt | question | input, chosen, rejected}, with a system text; HH-RLHF transcripts; TRL's
conversational form, with or without a prompt of its own, UltraFeedback's among them; LLaMA-Factory's alpaca and
sharegpt rankings; axolotl's chat templates; OpenAI's preference fine-tuning; arena votes on two conversations; our own
log. A key whose value is null counts as absent. What a model cannot be given whole is refused: no context is dropped.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from dpo_pipeline.core.admission import cannot_be_asked
from dpo_pipeline.core.imported_pair import ImportedPair
from dpo_pipeline.core.message_formats import Prompt, alpaca_prompt, answer_of, messages_of, system_of, text_of
from dpo_pipeline.core.questions import CATEGORIES
from dpo_pipeline.core.votes import Message, prompt_text
from dpo_pipeline.errors import InvalidRecord
from dpo_pipeline.in_words import kind_of

_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant): ?")
_QUESTIONS = ("prompt", "question", "input")
_CONTEXT = (
    *_QUESTIONS, "instruction", "system", "system_prompt", "system_message", "history", "context", "passage",
    "messages", "conversations", "tools", "functions",
)  # fmt: skip
"""Keys under which other tools keep what a model was told before it answered."""
_READ = {
    "minimal": {*_QUESTIONS, "system"}, "conversational": {*_QUESTIONS, "system"}, "openai": {"input"},
    "chat template": {"messages", "system"}, "sharegpt": {"conversations", "system"},
    "alpaca": {"instruction", "input", "system", "history"}, "preference log": {"prompt"},
    "hh_rlhf": set(), "arena": set(),
}  # fmt: skip
"""Those that each form has a place for; `_is_told` sees whether another one says anything new."""
_NOTHING = ("", "[]", "{}", "None", "null")
"""How an absent value is written where everything is a text."""
_SCORES = ("score", "rating")
_WINNERS: dict[str, Literal["first", "second", "tie", "both_bad"]] = {
    "model_a": "first", "a": "first", "model_b": "second", "b": "second", "tie": "tie",
    "tie (bothbad)": "both_bad", "both_bad": "both_bad",
}  # fmt: skip


def read_pair(row: Any) -> ImportedPair:
    """Recognise the form of one row and read it.

    Raises:
        InvalidRecord: in no known form, or a field is missing or of the wrong kind; the reason quotes no text.
    """
    if not isinstance(row, Mapping):
        raise InvalidRecord(f"a row is an object; {kind_of(row)} was found")
    present = {str(key): value for key, value in row.items() if value is not None}
    pair = _read(present)
    asked = pair.prompt
    turns = [("user", asked)] if isinstance(asked, str) else [(each.role, each.content) for each in asked]
    if refused := cannot_be_asked(turns):
        raise InvalidRecord(refused)
    if not pair.chosen.strip() and not pair.rejected.strip():
        raise InvalidRecord("both answers are empty")
    unread = [name for name in _CONTEXT if name in present and name not in _READ[pair.form]]
    if dropped := [name for name in unread if not _is_told(present[name], pair)]:
        raise InvalidRecord(f"{' and '.join(dropped)} cannot be told to the model beside what the form {pair.form} has")
    pair = replace(pair, scores=_scores(present))
    category = present.get("category")
    return replace(pair, category=category) if category in CATEGORIES else pair


def _is_told(value: Any, pair: ImportedPair) -> bool:
    """Whether all that stands under a key of context is part of what was read: a question told twice is no loss."""
    if not value or (isinstance(value, str) and value.strip() in _NOTHING):
        return True
    asked = [each.content for each in pair.prompt] if not isinstance(pair.prompt, str) else [pair.prompt]
    told = [*asked, pair.chosen, pair.rejected]
    if isinstance(value, str):
        # A part of it; or all of it with a template around it, as other trainers want it.
        return any(value.strip() in text for text in told) or all(text.strip() in value for text in asked)
    try:
        return all(any(each.content.strip() in text for text in told) for each in messages_of(value))
    except InvalidRecord:
        return False


def _scores(row: Mapping[str, Any]) -> tuple[float, float] | None:
    """What the source's own judges gave the chosen and the rejected answer, in its own unit."""
    found = {name.replace("-", "_"): value for name, value in row.items() if _is_number(value)}
    for kind in _SCORES:
        for first, second in ((f"{kind}_chosen", f"{kind}_rejected"), (f"chosen_{kind}", f"rejected_{kind}")):
            if first in found and second in found:
                return float(found[first]), float(found[second])
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _read(row: dict[str, Any]) -> ImportedPair:
    if "conversation_a" in row and "conversation_b" in row:
        return _arena(row)
    if "preferred_output" in row and "non_preferred_output" in row:
        return _openai(row)
    if "vote" in row and "response_a" in row and "response_b" in row:
        return _own(row)
    if isinstance(row.get("output"), list) and "chosen" not in row:
        if len(row["output"]) != 2:
            raise InvalidRecord("a list as output is [better, worse]")
        row = {**row, "chosen": row["output"][0], "rejected": row["output"][1]}
    missing = [name for name in ("chosen", "rejected") if name not in row]
    if missing:
        labelled = "label" in row and "completion" in row
        raise InvalidRecord(f"no {' and no '.join(missing)}" + ("; a labelled answer is no pair" if labelled else ""))
    if "conversations" in row:
        return _texts("sharegpt", system_of(row) + messages_of(row["conversations"]), row)
    if "instruction" in row:
        return _texts("alpaca", alpaca_prompt(row), row)
    if _is_conversation(row["chosen"]) and _is_conversation(row["rejected"]):
        alone = len(row["chosen"]) == len(row["rejected"]) == 1 and _asked(row) is None
        return _conversational({**row, "prompt": row["messages"]} if alone and "messages" in row else row)
    if "messages" in row:
        return _texts("chat template", system_of(row) + messages_of(row["messages"]), row)
    asked = _asked(row)
    if asked is None:
        return _transcripts(text_of(row["chosen"], "chosen"), text_of(row["rejected"], "rejected"))
    if isinstance(asked, list):
        return _texts("conversational", system_of(row) + messages_of(asked), row)
    prompt = _split_transcript(text_of(asked, "prompt"))
    if system := system_of(row):
        prompt = [*system, *([Message("user", prompt)] if isinstance(prompt, str) else prompt)]
    return _texts("minimal", prompt, row)


def _asked(row: Mapping[str, Any]) -> Any:
    """The question, whatever its key; null where there is none."""
    given = [row[name] for name in _QUESTIONS if row.get(name)]
    if any(each != given[0] for each in given[1:]):
        raise InvalidRecord(f"more than one of {', '.join(_QUESTIONS)} is given")
    return given[0] if given else next((row[name] for name in _QUESTIONS if name in row), None)


def _texts(form: str, prompt: Prompt, row: Mapping[str, Any]) -> ImportedPair:
    """Chosen and rejected are texts, or one message each, or a list of one."""
    return ImportedPair(form, prompt, answer_of(row["chosen"], "chosen"), answer_of(row["rejected"], "rejected"))


def _conversational(row: Mapping[str, Any]) -> ImportedPair:
    """Chosen and rejected are lists of messages: the answers alone after a prompt, or whole conversations."""
    chosen, rejected = messages_of(row["chosen"]), messages_of(row["rejected"])
    asked = _asked(row)
    if asked is not None and len(chosen) == len(rejected) == 1:
        history = messages_of(asked) if isinstance(asked, list) else [Message("user", text_of(asked, "prompt"))]
    else:
        history = _shared_history(chosen, rejected)
        if asked is not None and not _ends_with(history, asked):
            raise InvalidRecord("the prompt is not what chosen and rejected begin with")
    if chosen[-1].role != "assistant" or rejected[-1].role != "assistant":
        raise InvalidRecord("chosen and rejected must end with an answer of the assistant")
    told = [each.content for each in history if each.role == "system"]
    prompt: Prompt = [*(each for each in system_of(row) if each.content not in told), *history]
    if len(prompt) == 1 and isinstance(asked, str):
        prompt = asked
    return ImportedPair("conversational", prompt, chosen[-1].content, rejected[-1].content)


def _shared_history(chosen: Sequence[Message], rejected: Sequence[Message]) -> list[Message]:
    history = list(chosen[:-1])
    if not history or history != list(rejected[:-1]):
        raise InvalidRecord("chosen and rejected must share their history and differ in the one last message")
    return history


def _ends_with(history: Sequence[Message], asked: Any) -> bool:
    """Whether the prompt named beside two conversations is what they begin with, or the last question of it."""
    if isinstance(asked, list):
        told = messages_of(asked)
        return list(history[-len(told) :]) == told
    return text_of(asked, "prompt").strip() in (history[-1].content.strip(), prompt_text(history).strip())


def _transcripts(chosen: str, rejected: str) -> ImportedPair:
    """Two HH-RLHF transcripts that differ in the last answer."""
    first, second = _split_transcript(chosen), _split_transcript(rejected)
    if not isinstance(first, list) or not isinstance(second, list):
        raise InvalidRecord("no prompt, and chosen is no transcript of Human and Assistant")
    history = first[:-1]
    if history != second[:-1] or first[-1].role != "assistant" or second[-1].role != "assistant" or not history:
        raise InvalidRecord("the transcripts differ before the last answer")
    return ImportedPair("hh_rlhf", history, first[-1].content, second[-1].content)


def _split_transcript(text: str) -> Prompt:
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


def _openai(row: Mapping[str, Any]) -> ImportedPair:
    given = row.get("input")
    if not isinstance(given, Mapping) or "messages" not in given:
        raise InvalidRecord("input must hold messages")
    if given.get("tools"):
        raise InvalidRecord("tools cannot be told to the model")
    chosen, rejected = row["preferred_output"], row["non_preferred_output"]
    return _texts("openai", messages_of(given["messages"]), {"chosen": chosen, "rejected": rejected})


def _arena(row: Mapping[str, Any]) -> ImportedPair:
    """Two whole conversations that differ in the last answer, and who won."""
    first, second = messages_of(row["conversation_a"]), messages_of(row["conversation_b"])
    if isinstance(turn := row.get("turn"), int) and turn > 0:
        # MT-bench has both turns in every row, and the vote is on one of them.
        first, second = first[: 2 * turn], second[: 2 * turn]
    history = _shared_history(first, second)
    if first[-1].role != "assistant" or second[-1].role != "assistant":
        raise InvalidRecord("both conversations must end with an answer of the assistant")
    winner = _WINNERS.get(str(row.get("winner")))
    if winner is None:
        raise InvalidRecord("winner must be model_a, model_b, tie or tie (bothbad)")
    pair = ImportedPair("arena", history, first[-1].content, second[-1].content)
    if winner in ("tie", "both_bad"):
        return replace(pair, undecided=winner)
    return pair if winner == "first" else replace(pair, chosen=pair.rejected, rejected=pair.chosen)


def _own(row: Mapping[str, Any]) -> ImportedPair:
    """A line of a preference log like ours."""
    asked = row.get("prompt", "")
    prompt: Prompt = messages_of(asked) if isinstance(asked, list) else text_of(asked, "prompt")
    first, second = text_of(row["response_a"], "response_a"), text_of(row["response_b"], "response_b")
    vote = _WINNERS.get(str(row["vote"]))
    if vote is None:
        raise InvalidRecord("vote must be a, b, tie or both_bad")
    if vote in ("tie", "both_bad"):
        return ImportedPair("preference log", prompt, first, second, undecided=vote)
    won, lost = (first, second) if vote == "first" else (second, first)
    return ImportedPair("preference log", prompt, won, lost)


def _is_conversation(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, Mapping) for each in value)
