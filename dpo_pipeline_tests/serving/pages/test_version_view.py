"""What the page of a version says, without a browser."""

from dataclasses import replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from dpo_pipeline.core.judged_examples import JudgedExamples
from dpo_pipeline.core.teachers import Teachers
from dpo_pipeline.core.verdict import JudgedAnswer
from dpo_pipeline.core.version_card import CardFacts
from dpo_pipeline.serving.pages.curve_plot import curve_plots
from dpo_pipeline.serving.pages.version_view import version_view
from dpo_pipeline.serving.services.versions import VersionView
from dpo_pipeline_tests.examples import version_record
from dpo_pipeline_tests.serving.pages.taught import curve


def seen(evaluation: dict[str, Any] | None = None, sources: dict[str, int] | None = None, **values: Any) -> VersionView:
    facts = CardFacts(
        name="v1.1", parent="v1.0", base_model="embedded", base_sha="b" * 64, adapter_sha="a" * 64, dataset_hash=None,
        pairs=100, recipe=None, evaluation=evaluation, trained_at="2026-01-01T00:00:00+00:00", sources=sources or {},
    )  # fmt: skip
    record = version_record("v1.1", status="champion", parent="v1.0", evaluation=evaluation)
    return replace(VersionView(record, facts, (), False, JudgedExamples(), ()), **values)


def shown(view: VersionView, teachers: Teachers | None = None, person: str | None = None) -> str:
    return version_view(view, teachers, person, ZoneInfo("UTC"))


def test_a_gain_by_length_alone_stands_out_and_nothing_beside_it_is_green() -> None:
    by_length = {"verdict": "improved", "overall": {"rate": 0.916}, "controlled": 0.004, "controlled_error": 0.01}
    page = shown(seen(by_length))
    assert 'class="notice warned"' in page and "by length only: wins 91.6% against v1.0" in page
    assert "those of v1.0 are judged at least as good" in page and "chip ok" not in page
    clear = shown(seen(by_length | {"controlled": 0.7}))
    assert "warned" not in clear and "chip ok" in clear


@pytest.mark.parametrize(
    ("teachers", "person", "told"),
    [
        (None, "ann", "Whose it was is being counted."),
        (Teachers({"ann": 3, "bob": 1}, 0), None, "It comes from 2 people."),
        (Teachers({"ann": 3, "bob": 1}, 0), "ann", "It comes from 2 people. <b>3 of your votes</b> taught it."),
        (Teachers({"bob": 1}, 30), "ann", "It comes from 1 person and 30 simulated people."),
        (Teachers({}, 0), "ann", "No person voted for it here."),
    ],
)
def test_whose_feedback_taught_it(teachers: Teachers | None, person: str | None, told: str) -> None:
    page = shown(seen(sources={"ui": 40, "simulated": 1200, "correction": 2}), teachers, person)
    assert f'<p class="">{told}</p>' in page
    assert (
        page.index("Votes of simulated people")
        < page.index("Votes on the A/B test page")
        < page.index("Corrected answers")
    )
    assert "1,200" in page


def test_a_curve_has_a_title_a_unit_and_its_ends() -> None:
    plots = curve_plots(curve())
    assert plots.count("<figure") == 3 and "implicit reward in β × nats" in plots and "<span>44</span>" in plots
    assert 'aria-label="Accuracy: from 0.5' in plots and "to 1 at step 44" in plots
    of_sft = curve_plots([{"step": 1.0, "loss": 2.0}, {"step": 2.0, "loss": 1.0}])
    assert of_sft.count("<figure") == 1 and "Loss: from 2 at step 1 to 1 at step 2" in of_sft
    assert curve_plots([{"step": 1.0, "loss": 2.0}]) == "" and curve_plots([]) == ""
    still = curve_plots([{"step": 1.0, "loss": 2.0}, {"step": 2.0, "loss": 2.0}])
    assert "nan" not in still


def test_answers_are_read_as_they_are_meant_and_compared_word_by_word(tmp_path: Path) -> None:
    lost = JudgedAnswer("What is 1+1?", "problem_solving", "loss", "**Two**.", "It is **three**. <img src=x>")
    page = shown(seen({"verdict": "inconclusive"}, examples=JudgedExamples(lost=(lost,))))
    assert "<strong>Two</strong>" in page and "<img" not in page and "Problem solving</span>" in page
    assert page.index("<strong>Two</strong>") < page.index("Words that differ") < page.index("<mark>")
