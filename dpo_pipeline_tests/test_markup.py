"""What people, files and other programs wrote is text, in the terminal and in Dagster's tables."""

import subprocess
import sys
from pathlib import Path

import pytest

from dpo_pipeline.assets.partitions import table
from dpo_pipeline.serving.pages import markup_plots
from dpo_pipeline.terminal import console

ODD = "[old] [/red] [bold]x[/bold] [link=http://example.org]y[/link]"


def test_the_terminal_shows_it_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.table import Table

    rows = Table("name", box=None)
    rows.add_row(ODD)
    with console.capture() as shown:
        console.print(ODD, soft_wrap=True)
        console.print(rows, soft_wrap=True)
    assert shown.get().count(ODD) == 2


@pytest.mark.slow
def test_an_error_that_names_it_is_one_message(tmp_path: Path) -> None:
    """By the command line itself: a mark in a name once ended it with a traceback."""
    name = "pairs [/red].jsonl"
    command = [sys.executable, "-m", "dpo_pipeline.cli", "import", str(tmp_path / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"DPO_DATA_DIR": str(tmp_path)})
    assert done.returncode == 1 and name in done.stderr.replace("\n", "") and "Traceback" not in done.stderr


def test_a_table_in_dagster_holds_no_links_pictures_or_html() -> None:
    rows: list[dict[str, object]] = [{"reason": "a | b\nc ![x](http://example.org) <img src=x> `code`", "n": None}]
    markdown = str(table(rows).value)
    assert markdown.split("\n")[2] == r"| a \| b c !\[x\](http://example.org) \<img src=x\> \`code\` |  |"


@pytest.mark.parametrize(
    ("low", "high", "found"),
    [
        (0.0, 1.0, [0.0, 0.5, 1.0]),
        (0.0, 0.1, [0.0, 0.05, 0.1]),
        (861.0, 1139.0, [900.0, 950.0, 1000.0, 1050.0, 1100.0]),
        (3.4, 4.4, [3.5, 4.0]),
        (7.0, 7.0, [7.0]),
    ],
)
def test_ticks_are_few_and_round(low: float, high: float, found: list[float]) -> None:
    assert markup_plots.ticks(low, high) == pytest.approx(found)


def test_an_axis_is_written_in_its_unit() -> None:
    scores = markup_plots.intervals("Scores", [("v1.1", 1074.0, 1107.0, 1139.0, "1107")], mark=1000.0)
    assert [tick in scores for tick in (">1000<", ">1050<", ">1100<")] == [True] * 3
    shares = markup_plots.intervals("Rates", [("v1.1", 0.4, 0.5, 0.6, "")], mark=0.5, bounds=(0.0, 1.0), share=True)
    assert ">50%<" in shares
    limit = markup_plots.against_limit("requests that failed", 0.0, 0.004, 0.03, 0.01, share=True)
    assert "Requests that failed" in limit and "limit 1.0%" in limit and ">2%<" in limit
    stars = markup_plots.against_limit("stars, 1 to 5", 3.9, 4.2, 4.5, 3.6, share=False)
    assert "at least 3.60" in stars and ">1<" in stars and ">5<" in stars
