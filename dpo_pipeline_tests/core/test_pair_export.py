"""What is exported trains the same elsewhere, and comes back by `dpo import` as it was."""

from typing import get_args

import pytest

from dpo_pipeline.core.pair_export import ExportForm, exported
from dpo_pipeline.core.pair_formats import read_pair
from dpo_pipeline.core.validated_pair import ValidatedPair


def pair(vote: str) -> ValidatedPair:
    return ValidatedPair(
        event_id="e", recorded_at="2026-01-01T00:00:00Z", prompt="Why is the sky blue?", category="other",
        model_a="v1.0", model_b="v1.1", response_a="Rayleigh scattering.", response_b="It just is.", vote=vote,
        annotator="0123456789abcdef", source="ui", failed=(),
    )  # fmt: skip


@pytest.mark.parametrize("form", get_args(ExportForm))
@pytest.mark.parametrize(("vote", "chosen"), [("a", "Rayleigh scattering."), ("b", "It just is.")])
def test_it_comes_back_as_it_was(form: ExportForm, vote: str, chosen: str) -> None:
    row = exported(pair(vote), form)
    assert row is not None and "0123456789abcdef" not in str(row), "who voted stays here"
    back = read_pair(row)
    asked = back.prompt if isinstance(back.prompt, str) else "".join(each.content for each in back.prompt)
    assert (asked, back.chosen) == ("Why is the sky blue?", chosen)
    assert {back.chosen, back.rejected} == {"Rayleigh scattering.", "It just is."}


@pytest.mark.parametrize("vote", ["tie", "both_bad"])
def test_where_nobody_won_there_is_nothing_to_prefer(vote: str) -> None:
    assert exported(pair(vote), "trl") is None
