"""A base model's chat template: the one way from messages to the text that the model reads."""

from collections.abc import Iterable, Mapping
from typing import Any

from dpo_pipeline.core.conversation import Messages, UnsupportedConversation, as_rows, fitted, rules_of
from dpo_pipeline.core.template_tokens import control_tokens, defuse
from dpo_pipeline.errors import InvalidRequest, ModelUnavailable


class ChatTemplate:
    """The template of a tokenizer, and what it takes.

    Raises:
        ModelUnavailable: the tokenizer has none.
    """

    def __init__(self, tokenizer: Any):
        if not tokenizer.chat_template:
            raise ModelUnavailable(
                f"The tokenizer of {tokenizer.name_or_path} has no chat template, so nothing says how its model reads "
                "a conversation. Choose an instruction-tuned base model, or put chat_template.jinja beside it."
            )
        self._tokenizer, self.rules, self._tokens = tokenizer, rules_of(tokenizer), control_tokens(tokenizer)

    def defuse(self, text: str, role: str = "user") -> str:
        """The same text to look at, in which this tokenizer finds no control token."""
        return defuse(text, self._tokens, role)

    def fitted(self, messages: Messages) -> list[dict[str, str]]:
        """Messages as the template takes them, in which no text poses as another turn.

        Raises:
            InvalidRequest: they cannot be put so.
        """
        try:
            return as_rows([(role, self.defuse(content, role)) for role, content in fitted(messages, self.rules)])
        except UnsupportedConversation as error:
            raise InvalidRequest(str(error)) from error

    def prompt(self, messages: Messages) -> str:
        """What the model reads before it answers.

        Raises:
            InvalidRequest: the template cannot take these messages, and what to change.
        """
        rows = self.fitted(messages)
        try:
            return str(self._tokenizer.apply_chat_template(rows, add_generation_prompt=True, tokenize=False))
        except Exception as error:  # Jinja's errors, and whatever a template raises by itself
            raise InvalidRequest(f"The chat template of this model cannot take the conversation: {error}") from error

    def trained(self, messages: Messages, answer: str) -> tuple[str, str]:
        """What the model is trained on: what it reads before it answers, and the same with the answer.

        Raises:
            InvalidRequest: the template cannot take these messages, or they end with the assistant.
            ModelUnavailable: with an answer the template does not go on from what is read before it, so that the model
                would be trained in another context than the one it is served in.
        """
        if messages and messages[-1][0] == "assistant":
            raise InvalidRequest("The prompt ends with the assistant.")
        prompt = self.prompt(messages)
        rows = [*self.fitted(messages), {"role": "assistant", "content": self.defuse(answer, "assistant")}]
        whole = str(self._tokenizer.apply_chat_template(rows, tokenize=False))
        if not whole.startswith(prompt):
            raise ModelUnavailable(
                "The chat template of the base model does not go on from what is served: before an answer stands "
                f"…{prompt[-60:]!r}, with an answer …{whole[max(len(prompt) - 60, 0) : len(prompt) + 20]!r}. Templates "
                "that begin an answer with a thinking block are like that. Use a base model or a template without one."
            )
        return prompt, whole


def as_messages(rows: Iterable[Mapping[str, str]]) -> Messages:
    """(role, content), of messages in the form that trainers read."""
    return tuple((row["role"], row["content"]) for row in rows)
