"""A judge that is a language model behind any OpenAI-compatible server; each pair is shown in both orders.

What it is asked and how its words are read is decided in `core.judging`.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import httpx

from dpo_pipeline.core.judging import Comparison, Judgement, SpokenVerdict, in_both_orders, judge_messages, read_verdict
from dpo_pipeline.errors import ModelUnavailable, SettingsError
from dpo_pipeline.in_words import fault
from dpo_pipeline.ml.bounded_call import call
from dpo_pipeline.request_errors import UpstreamFailed
from dpo_pipeline.settings import Settings

AT_ONCE, TRIES = 8, 3


class LlmJudge:
    """Verdicts that turn with the order count as ties; unreadable ones are counted and never guessed."""

    name = "llm"
    blind_to = "what the model behind it does not know; it may favour answers that sound like its own"
    elsewhere = ""

    def __init__(self, settings: Settings):
        """
        Raises:
            SettingsError: no server is named.
        """
        evaluation = settings.evaluation
        if not evaluation.judge_url or not evaluation.judge_model:
            raise SettingsError(
                "The LLM judge needs a server and a model. Set DPO_EVALUATION__JUDGE_URL (ending in /v1) and "
                "DPO_EVALUATION__JUDGE_MODEL, or DPO_EVALUATION__JUDGE=automatic."
            )
        key = settings.keys.judge
        headers = {"Authorization": f"Bearer {key.get_secret_value()}"} if key else {}
        self._model, self._url = evaluation.judge_model, evaluation.judge_url
        self._client, self._timeout_s = httpx.Client(headers=headers), evaluation.judge_timeout_s

    def compare(self, comparisons: Sequence[Comparison]) -> list[Judgement]:
        """
        Raises:
            ModelUnavailable: the server does not answer. No verdict is made up in its place.
        """
        orders = [
            pair
            for each in comparisons
            for pair in (
                (each.question.question, each.answer, each.other),
                (each.question.question, each.other, each.answer),
            )
        ]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            verdicts = list(pool.map(lambda order: self._ask(*order), orders))
        return [in_both_orders(*pair) for pair in zip(verdicts[::2], verdicts[1::2], strict=True)]

    def _ask(self, question: str, first: str, second: str) -> SpokenVerdict | None:
        body = {"model": self._model, "messages": judge_messages(question, first, second), "temperature": 0}
        for left in reversed(range(TRIES)):
            try:
                answer = call(
                    self._client, "POST", f"{self._url.rstrip('/')}/chat/completions", self._timeout_s, body
                ).raise_for_status()
                return read_verdict(str(answer.json()["choices"][0]["message"]["content"] or ""))
            except (
                httpx.HTTPError,
                UpstreamFailed,
                KeyError,
                IndexError,
                TypeError,
                ValueError,
                RecursionError,
            ) as error:
                if not left:
                    raise ModelUnavailable(
                        f"The judge at {self._url} did not answer {TRIES} times ({fault(error)}). "
                        "Start it, or set DPO_EVALUATION__JUDGE=automatic, and launch the evaluation again."
                    ) from error
        raise AssertionError("unreachable")
