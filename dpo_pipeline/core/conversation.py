"""Conversations as a chat template takes them, the same in serving, training and evaluation.

Some templates know no system role, some no two turns of one role in a row. Where the meaning is plain the text is kept
and put where the template has room for it:

- a system message goes, behind a blank line, in front of the next turn of the user;
- turns of one role in a row become one, with a blank line between them.

What no template of this kind can express is refused, with what to change. This file stands alone: it goes with every
version into MLflow, where it runs without this project.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Messages = tuple[tuple[str, str], ...]
BETWEEN = "\n\n"
TRIED = "a word that stands in no template"


class UnsupportedConversation(ValueError):
    """A conversation that the template cannot express; says what to change."""


@dataclass(frozen=True)
class TemplateRules:
    """What the template of a base model takes, beside turns of user and assistant that alternate.

    `system`: a system message at the beginning; `later_system`: elsewhere too; `repeats`: two turns of one role in a
    row; `begins`, `ends`: an assistant's turn as the first or the last.
    """

    system: bool = True
    later_system: bool = True
    repeats: bool = True
    begins: bool = True
    ends: bool = True


def rules_of(tokenizer: Any) -> TemplateRules:
    """Found out by trying: a template takes what it renders without an error and with nothing left out."""

    def takes(*messages: tuple[str, str]) -> bool:
        try:
            text = tokenizer.apply_chat_template(as_rows(messages), add_generation_prompt=True, tokenize=False)
        except Exception:  # Jinja's errors, and whatever a template raises by itself
            return False
        return all(content in text for _, content in messages)

    system, user, assistant = (("system", f"{TRIED} S"), ("user", f"{TRIED} U"), ("assistant", f"{TRIED} A"))
    other = ("system", f"{TRIED} T")
    return TemplateRules(
        # With the turns that follow too: some templates show a system message only beside the last turn.
        system=takes(system, user) and takes(system, user, assistant) and takes(system, user, assistant, user),
        # And two of them: some templates keep the last one only.
        later_system=takes(user, assistant, system, user) and takes(system, other, user, assistant, user),
        repeats=takes(user, ("user", f"{TRIED} V")),
        begins=takes(assistant, user),
        ends=takes(user, assistant),
    )


def as_rows(messages: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    """Messages in the form that templates and trainers read."""
    return [{"role": role, "content": content} for role, content in messages]


def fitted(messages: Messages, rules: TemplateRules) -> Messages:
    """The same conversation as the template takes it.

    Args:
        messages: (role, content) with the roles system, user and assistant.

    Raises:
        UnsupportedConversation: it cannot be put so.
    """
    turns = _without_system(messages, rules)
    if not rules.repeats:
        turns = _joined(turns)
    told = [role for role, _ in turns if role != "system"]
    if not told:
        raise UnsupportedConversation("The conversation holds no turn of the user. Add a message with the role user.")
    if told[0] == "assistant" and not rules.begins:
        raise UnsupportedConversation(
            "Conversations with this model begin with the user. Leave out what stands before."
        )
    if told[-1] == "assistant" and not rules.ends:
        raise UnsupportedConversation("Conversations with this model end with the user, whose turn it answers.")
    return tuple(turns)


def _without_system(messages: Messages, rules: TemplateRules) -> list[tuple[str, str]]:
    """System messages that the template does not take, in front of the user's next turn."""
    turns: list[tuple[str, str]] = []
    waiting: list[str] = []
    for place, (role, content) in enumerate(messages):
        if role == "system" and not (rules.later_system or (rules.system and place == 0)):
            waiting.append(content)
        elif role == "user" and waiting:
            turns.append((role, BETWEEN.join([*waiting, content])))
            waiting = []
        else:
            turns.append((role, content))
    if waiting:
        raise UnsupportedConversation(
            "A system message stands behind the user's last turn, where this model cannot be told it."
        )
    return turns


def _joined(turns: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    joined: list[tuple[str, str]] = []
    for role, content in turns:
        if joined and joined[-1][0] == role:
            joined[-1] = (role, BETWEEN.join([joined[-1][1], content]))
        else:
            joined.append((role, content))
    return joined
