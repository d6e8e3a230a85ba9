"""A base model's chat template: the one way from messages to the text that the model reads."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from dpo_pipeline.core.conversation import Messages, UnsupportedConversation, as_rows, fitted, rules_of
from dpo_pipeline.core.template_tokens import Defuser
from dpo_pipeline.errors import AdapterRefused, ModelUnavailable
from dpo_pipeline.request_errors import InvalidRequest

ANSWER = "a word that stands in no template"


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
        self._tokenizer, self.rules = tokenizer, rules_of(tokenizer)
        self.defuse = Defuser(tokenizer)

    def fitted(self, messages: Messages) -> list[dict[str, str]]:
        """Messages as the template takes them, in which no text poses as another turn.

        Raises:
            InvalidRequest: they cannot be put so.
        """
        try:
            return as_rows([(role, self.defuse(content, role)) for role, content in fitted(messages, self.rules)])
        except UnsupportedConversation as error:
            raise InvalidRequest(str(error)) from error

    def said(self, answer: str) -> str:
        """An answer as a model is trained to give it and serving shows it: no text poses as another turn, no white
        space stands around it, which a tokenizer would join to the end of the prompt."""
        return self.defuse(answer, "assistant").strip()

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

    def prompt_ids(self, messages: Messages) -> list[int]:
        """The tokens of `prompt`, and raises as it."""
        ids: list[int] = self._tokenizer.backend_tokenizer.encode(self.prompt(messages), add_special_tokens=False).ids
        return ids

    @cached_property
    def turn_end(self) -> int | None:
        """The token with which the template ends a turn of the assistant: there a model that was trained on it stops.

        Null where it ends with plain text.
        """
        prompt, whole = self.trained((("user", "Hello"),), ANSWER)
        ids = self._tokenizer.backend_tokenizer.encode(
            whole[len(prompt) :].partition(ANSWER)[2], add_special_tokens=False
        ).ids
        return ids[0] if ids and self._tokenizer.convert_ids_to_tokens(ids[0]) in self.defuse.tokens else None

    def trained(self, messages: Messages, answer: str) -> tuple[str, str]:
        """What the model is trained on: what it reads before it answers, and the same with the answer.

        Raises:
            InvalidRequest: the template cannot take these messages, they end with the assistant, or the tokenizer joins
                the answer's beginning to what stands before it.
            ModelUnavailable: with an answer the template does not go on from what is read before it, so that the model
                would be trained in another context than the one it is served in.
        """
        if messages and messages[-1][0] == "assistant":
            raise InvalidRequest("The prompt ends with the assistant.")
        prompt = self.prompt(messages)
        rows = [*self.fitted(messages), {"role": "assistant", "content": self.said(answer)}]
        whole = str(self._tokenizer.apply_chat_template(rows, tokenize=False))
        if not whole.startswith(prompt):
            raise ModelUnavailable(
                "The chat template of the base model does not go on from what is served: before an answer stands "
                f"…{prompt[-60:]!r}, with an answer …{whole[max(len(prompt) - 60, 0) : len(prompt) + 20]!r}. Templates "
                "that begin an answer with a thinking block are like that. Use a base model or a template without one."
            )
        encode = self._tokenizer.backend_tokenizer.encode
        read, then = (encode(text, add_special_tokens=False).ids for text in (prompt, whole))
        if then[: len(read)] != read:
            raise InvalidRequest("The answer's beginning cannot be told from the end of what is read before it.")
        return prompt, whole

    def check_context(self, trained: Iterable[tuple[Messages, Sequence[int]]]) -> None:
        """See that a trainer puts before each answer what serving lets the model read, token by token.

        Args:
            trained: conversations, each with the tokens that the trainer made of it.

        Raises:
            AdapterRefused: naming the first that differs.
        """
        for place, (messages, tokens) in enumerate(trained, start=1):
            served = self.prompt_ids(messages)
            if list(tokens) != served:
                raise AdapterRefused(
                    f"Row {place} would be trained behind {len(tokens)} tokens of context, and is served behind "
                    f"{len(served)} others. Nothing was trained; use the pinned version of trl."
                )


def as_messages(rows: Iterable[Mapping[str, str]]) -> Messages:
    """(role, content), of messages in the form that trainers read."""
    return tuple((row["role"], row["content"]) for row in rows)
