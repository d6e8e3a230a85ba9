"""What people, files and other programs wrote is text, in the terminal and in Dagster's tables."""

import subprocess
import sys
from pathlib import Path

import pytest

from dpo_pipeline.assets.partitions import table
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
