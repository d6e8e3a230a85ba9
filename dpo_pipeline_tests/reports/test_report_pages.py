"""Reports as files: the warning where it is read first, answers as people read them, plots in the page's colours."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from dpo_pipeline.core.calendar import Span
from dpo_pipeline.core.kpis import Week
from dpo_pipeline.core.report import TimelineStep, weekly_report
from dpo_pipeline.core.trajectory import Trajectory, VersionFigures, trajectory
from dpo_pipeline.core.verdict import JudgedAnswer, evaluate
from dpo_pipeline.core.winrate import WinRate
from dpo_pipeline.reports import plots
from dpo_pipeline.reports.evaluation_page import evaluation_page
from dpo_pipeline.reports.monitoring_page import monitoring_page, trajectory_page
from dpo_pipeline.settings import Cadence, Evaluation, Kpis


def judged() -> list[JudgedAnswer]:
    return [
        JudgedAnswer(
            f"Why is {n} odd?", "explanation", "win" if n % 8 else "loss",
            f"**Because** {'x ' * (12 + n % 9)}", f"# So\n\n- {'x ' * 10}\n\n![p](https://example.com/p.png)",
        )
        for n in range(120)
    ]  # fmt: skip


def page_of_evaluation() -> str:
    found = replace(evaluate(judged(), Evaluation()), controlled=0.004, controlled_error=0.01)
    return evaluation_page("v1.1", "v1.0", found, judged(), None)


def test_a_gain_by_length_alone_is_the_headline_and_is_explained() -> None:
    page = page_of_evaluation()
    head = page[: page.index("<ul>")]
    assert '<p class="verdict open">Improved, by length only: wins 87.5% against v1.0, at equal lengths 0.4%' in head
    assert "its answers are longer" in head and "verdict good" not in page
    assert 'href="/versions/v1.1"' in head, "it leads back to the pages"


def test_answers_are_formatted_and_then_compared() -> None:
    page = page_of_evaluation()
    assert "<strong>Because</strong>" in page and "<h3>So</h3>" in page
    assert "<img" not in page and "![p](https://example.com/p.png)" in page, "a picture stays what was written"
    assert page.index("<strong>Because</strong>") < page.index("Words that differ") < page.index("<mark>")
    assert "md-copy" not in page and "<script" not in page


def test_plots_have_no_colours_of_their_own() -> None:
    drawn = [
        plots.inline(plots.intervals({"v1.1": (0.9, 0.8, 0.97), "v1.0": (0.4, 0.3, 0.5)}), 2.0),
        plots.inline(plots.two_histograms([1.0, 2.0], [2.0, 3.0], ("v1.1", "v1.0"), "words per answer")),
        plots.inline(plots.versions_line({"v1.0": 3.5, "v1.1": None, "v1.2": 4.2}, "satisfaction, 1 to 5", 4.0)),
    ]
    for each in drawn:
        assert not re.search(r"#[0-9a-f]{6}", each) and "var(--ink)" in each
        assert 'width="360pt"' in each, "plots of one page have one width"
    assert "<!-- 20% -->" in drawn[0] and "<!-- words per answer -->" in drawn[1] and "<!-- version -->" in drawn[2]
    assert "#2f6fb0" in plots.svg(plots.intervals({"v1.1": (0.9, 0.8, 0.97)})), "a file has no page around it"
    assert page_of_evaluation().count("<figure>") == 2


def test_the_trajectory_is_a_page() -> None:
    rate = WinRate(30, 10, 0, 0.75, 0.6, 0.86, 12)
    versions = VersionFigures("v1.0", "retired"), VersionFigures("v1.1", "champion", 4.2, 9, rate)
    page = trajectory_page(Trajectory(versions, (), "It gains."))
    assert "The trajectory of the versions" in page and "It gains." in page and page.count("<figure>") == 2
    assert 'href="/"' in page and 'href="/reports/weekly"' in page


def test_a_report_tells_figures_with_their_units_and_no_names_of_columns() -> None:
    week = Week(preferences=181, by_category={"factual_qa": 35, "problem_solving": 29}, error_rate=0.00862,
                session_length=3.0, requests=232)  # fmt: skip
    versions = VersionFigures("v1.0", "champion"), VersionFigures("v1.1", "rolling_out", evaluation_win_rate=0.661)
    steps = (TimelineStep("train", 168.0, 2.0),)
    found = weekly_report([week], versions, "v1.0", 5, 100, steps, Cadence(), Kpis())
    begins = datetime(2026, 1, 5, tzinfo=UTC)
    page = monitoring_page(found, trajectory(versions), Span(begins, begins), ZoneInfo("UTC"))
    read = re.sub(r"<style>.*?</style>", "", page)
    for told in ("0.86%", "below 1%", "Problem solving", "rolling out", "66.1%", "7 days", "needs a week to compare"):
        assert told in read
    assert not re.search(r">[a-z]+_[a-z_]+<", read), "names of columns are for programs"
    assert '<td data-name="Value" class="n">181</td>' in read, "numbers stand on the right, under their heading"
