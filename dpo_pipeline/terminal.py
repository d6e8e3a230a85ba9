"""What commands print: tables of values that others computed."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from dpo_pipeline.in_words import cell, spoken
from dpo_pipeline.program_logs import tail

if TYPE_CHECKING:
    from dpo_pipeline.core.forecast import Forecast
    from dpo_pipeline.loop.import_pairs import ImportReport

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    """Without the characters that move a cursor or rename a window."""
    return _CONTROL.sub("\ufffd", text)


class PlainConsole(Console):
    """Names of files, versions and people, and what they wrote, are text: what is bold or dim is said beside them."""

    def __init__(self, **options: Any):
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **options)


console = PlainConsole()


def counts(found: Mapping[str, int]) -> str:
    """ "read timeout (3), HTTP 503 (1)"; empty where nothing was counted."""
    return ", ".join(f"{spoken(name)} ({count:,})" for name, count in found.items())


def print_rows(title: str, rows: Sequence[Mapping[str, object]]) -> None:
    """Rows with the same keys."""
    table = Table(*rows[0], title=title, title_justify="left", box=None)
    for row in rows:
        table.add_row(*map(cell, row.values()))
    console.print(table)


def print_figures(title: str, figures: Mapping[str, object]) -> None:
    """One below the other, so that no name is cut off."""
    console.print(title)
    table = Table(box=None, show_header=False)
    for name, value in figures.items():
        table.add_row(spoken(name), cell(value))
    console.print(table)


def print_forecast(usage: str, found: "Forecast") -> None:
    """How a rollout is likely to go with this audience."""
    console.print(f"{usage}; assigned by {found.unit}, {found.shadow_share:.0%} of requests shadowed in staging")
    stages = Table("stage", "traffic", "ends after", "requests of the new version", box=None)
    for each in found.stages:
        ends = "not decided in time" if each.ends_after_h is None else f"{each.ends_after_h / 24:.1f} days"
        stages.add_row(each.stage, f"{each.traffic:.0%}", ends, f"{each.requests:,}")
    console.print(stages)
    votes = Table(
        "win rate", "votes needed", "days", box=None, title=f"A/B test ({found.reading})", title_justify="left"
    )
    for win_rate, needed in found.votes_needed.items():
        days = found.days_of_voting[win_rate]
        votes.add_row(
            win_rate, "more than 20,000" if needed is None else f"{needed:,}", "" if days is None else f"{days:.1f}"
        )
    console.print(votes)
    console.print(found.would_be_seen)
    for advice in found.advice:
        console.print(f"- {advice}")


def print_log_tails(logs_dir: Path) -> None:
    """What each program said last, after one of them was given up."""
    for path in sorted(logs_dir.glob("*.log")):
        if text := tail(path):
            console.print(f"--- {path}")
            console.print(text)


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int, dict[str, float]], None]]:
    """A bar with steps and time left, as long as the block lasts; the value is called with (step, total, metrics)."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[metrics]}", markup=False), console=console) as bars:
        task = bars.add_task(title, total=None, metrics="")

        def report(step: int, total: int, metrics: dict[str, float]) -> None:
            text = ", ".join(f"{name} {value:.3g}" for name, value in metrics.items())
            bars.update(task, completed=step, total=total, metrics=text)

        yield report


def print_imports(reports: "Mapping[str, ImportReport]") -> None:
    """What each file held, and why rows were refused; by the names of the files."""
    table = Table("file", "imported", "already there", "refused", "format", box=None)
    reasons = Table("refused because", "rows", "first rows", box=None)
    for name, report in reports.items():
        counts = (report.imported, report.already_there, report.refused.total())
        table.add_row(name, *map(str, counts), ", ".join(report.forms))
        for reason, count in report.refused.items():
            reasons.add_row(f"{name}: {reason}", str(count), ", ".join(map(str, report.examples[reason])))
    for shown in (table, reasons):
        if shown.row_count:
            console.print(shown)


def print_rollout(found: dict[str, Any]) -> None:
    """Where the version is that is being rolled out or was last, and why it is there."""
    rollout = found["rollout"]
    if rollout is None:
        console.print(f"No version is being rolled out; champion {found['champion'] or 'none yet'}.")
        return
    paused = ", paused" if rollout["paused"] else ""
    console.print(f"{rollout['version']} at {rollout['stage']}, {rollout['traffic']:.0%} of the traffic{paused}")
    for reason in rollout["reasons"]:
        console.print(f"- {rollout['decision']}: {reason}")
