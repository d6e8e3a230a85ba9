"""The sentence that stands first on a version's page: what it is worth, and what takes away from that."""

import shlex
from dataclasses import replace
from typing import Any

import pytest

from dpo_pipeline.core.version_card import (
    CardFacts,
    CardLinks,
    description,
    headline,
    load_snippet,
    model_card,
    reproduce,
    warning,
)


def facts(evaluation: dict[str, Any] | None, parent: str | None = "v1.0") -> CardFacts:
    return CardFacts(
        name="v1.1", parent=parent, base_model="embedded", base_sha="b" * 64, adapter_sha="a" * 64, dataset_hash=None,
        pairs=100, recipe=None, evaluation=evaluation, trained_at="2026-01-01T00:00:00+00:00",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("evaluation", "told"),
    [
        (None, "Not evaluated against v1.0 yet."),
        ({"verdict": "not_improved", "overall": {"rate": 0.41}}, "Not improved: wins 41.0% against v1.0."),
        ({"verdict": "inconclusive", "overall": {}}, "Inconclusive."),
        ({"verdict": "improved", "overall": {"rate": 0.7}}, "Improved: wins 70.0% against v1.0."),
        (
            {"verdict": "improved", "overall": {"rate": 0.818}, "controlled": 0.495, "controlled_error": 0.04},
            "Improved, by length only: wins 81.8% against v1.0, at equal lengths 49.5%.",
        ),
        (
            {"verdict": "improved", "overall": {"rate": 0.661}, "controlled": 0.575, "controlled_error": 0.05},
            "Improved: wins 66.1% against v1.0; at equal lengths 57.5%, so that length alone may explain it.",
        ),
        (
            {"verdict": "improved", "overall": {"rate": 0.661}, "controlled": 0.65, "controlled_error": 0.02},
            "Improved: wins 66.1% against v1.0, at equal lengths 65.0%.",
        ),
    ],
)
def test_the_headline_carries_its_warning(evaluation: dict[str, Any] | None, told: str) -> None:
    assert headline(facts(evaluation)) == told
    assert bool(warning(facts(evaluation))) == ("length only" in told or "length alone" in told)


def test_the_first_version_is_measured_against_none() -> None:
    first = replace(facts(None, parent=None), name="v1.0")
    assert "measured against it" in headline(first) and "build_baseline" in reproduce(first)


def test_a_version_of_which_there_is_a_dataset_only_is_not_the_first() -> None:
    begun = replace(facts(None, parent=None), adapter_sha=None)
    assert headline(begun) == "Not trained yet." and "train_version" in reproduce(begun)


def test_card_and_description_say_whose_feedback_it_was() -> None:
    taught = replace(facts(None), dataset_hash="d" * 64, labelled=76, sources={"ui": 43, "both_bad": 2, "thumb": 74})
    for told in (description(taught, CardLinks()), model_card(taught)):
        assert (
            "100 preference pairs and 76 labelled answers" in told
            and "(votes on the A/B test page: 43, votes that both answers are bad: 2, thumbs: 74)" in told
        )
    assert "(imported pairs: 100)" in description(replace(taught, labelled=0, sources={"import": 100}), CardLinks())


def test_a_description_says_first_what_it_is_worth_and_where_to_look() -> None:
    better = facts({"verdict": "improved", "overall": {"rate": 0.7}, "reasons": ["win rate 70.0%"]})
    links = CardLinks("#/evaluation", "#/curves", "#/runs", "http://127.0.0.1:8000/versions/v1.1")
    first, _, *linked = description(better, links).splitlines()[:6]
    assert first == f"**v1.1.** {headline(better)}"
    assert linked == [
        "- [evaluation: plots, and the clearest answers it won and lost](#/evaluation)",
        "- [training: curves](#/curves)",
        "- [v1.1 in the loop: verdict, feedback, rollout, how to load it](http://127.0.0.1:8000/versions/v1.1)",
        "- [all trainings](#/runs)",
    ]
    assert "win rate 70.0%" in description(better, links)


def test_there_is_no_link_to_what_is_not_there_and_none_in_a_card_that_is_read_elsewhere() -> None:
    alone = description(facts(None), CardLinks(curves="#/curves"))
    assert "[training: curves](#/curves)" in alone and alone.count("](") == 1
    assert "](" not in model_card(facts(None))


def test_what_is_copied_names_the_folders_of_this_machine() -> None:
    found = replace(
        facts(None), data_dir="/srv/our loop", profile="gemma", base_folder="/srv/our loop/artifacts/base/embedded-1",
        adapter_folder="/srv/our loop/artifacts/adapters/aa",
    )  # fmt: skip
    snippet = load_snippet(found)
    compile(snippet, "snippet", "exec")
    assert 'AutoModelForCausalLM.from_pretrained("/srv/our loop/artifacts/base/embedded-1")' in snippet
    assert 'PeftModel.from_pretrained(model, "/srv/our loop/artifacts/adapters/aa")' in snippet and "b" * 64 in snippet
    given = shlex.split(reproduce(found))
    assert given[:4] == [
        "DPO_DATA_DIR=/srv/our loop", "DAGSTER_HOME=/srv/our loop/dagster", "DPO_PROFILE=gemma", "dagster"
    ]  # fmt: skip
    assert given[-1] == '{"dagster/partition": "v1.1"}'
    of_a_hub = replace(found, base_model="Qwen/Qwen2", base_folder="Qwen/Qwen2")
    assert "# The base" not in load_snippet(of_a_hub) and 'from_pretrained("Qwen/Qwen2")' in load_snippet(of_a_hub)
