"""Pairs that people picked, in the forms that trainers read, and `dpo import` too."""

from collections.abc import Callable
from typing import Any, Literal

from dpo_pipeline.core.validated_pair import ValidatedPair

ExportForm = Literal["trl", "llamafactory"]


def exported(pair: ValidatedPair, form: ExportForm) -> dict[str, Any] | None:
    """One row; null where nobody won, so that there is nothing to prefer. Who voted is not in it."""
    if pair.is_judgement:
        return None
    a, b = pair.response_a, pair.response_b
    sides = {"a": (a, b), "b": (b, a)}.get(pair.vote)
    return FORMS[form](pair.prompt, *sides) if sides else None


def _trl(prompt: str, chosen: str, rejected: str) -> dict[str, Any]:
    """TRL's conversational form."""
    return {
        "prompt": [{"role": "user", "content": prompt}],
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
    }


def _llamafactory(prompt: str, chosen: str, rejected: str) -> dict[str, Any]:
    """LLaMA-Factory's alpaca form with `ranking: true`."""
    return {"instruction": prompt, "input": "", "chosen": chosen, "rejected": rejected}


FORMS: dict[ExportForm, Callable[[str, str, str], dict[str, Any]]] = {"trl": _trl, "llamafactory": _llamafactory}
