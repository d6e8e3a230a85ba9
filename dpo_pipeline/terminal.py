"""What commands print: tables of values that others computed."""

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from dpo_pipeline.core.kpi_names import kpi_label
from dpo_pipeline.core.source_names import counted
from dpo_pipeline.errors import DatabaseUnavailable
from dpo_pipeline.in_words import cell, spoken
from dpo_pipeline.program_logs import tail
from dpo_pipeline.settings import Settings

if TYPE_CHECKING:
    from dpo_pipeline.core.forecast import Forecast
    from dpo_pipeline.loop.import_pairs import ImportReport
    from dpo_pipeline.loop.trace import PersonTrace, RequestTrace, Trace, UsedIn, VersionTrace, VoteTrace
    from dpo_pipeline.stores.ledger import DecisionRecord

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
STARTING_EVERY_S, RUNNING_EVERY_S = 1.0, 20.0


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


def print_trace(found: "Trace") -> None:
    from dpo_pipeline.loop.trace import PersonTrace, RequestTrace, VoteTrace

    if isinstance(found, VoteTrace):
        _print_vote_trace(found)
    elif isinstance(found, RequestTrace):
        _print_request_trace(found)
    elif isinstance(found, PersonTrace):
        _print_person_trace(found)
    else:
        _print_version_trace(found)


def _print_request_trace(found: "RequestTrace") -> None:
    from dpo_pipeline.core.feedback import described

    table, request = Table(box=None, show_header=False), found.request
    if request is None:
        table.add_row("request", f"{found.request_id}; its line in the serving log was lost")
    else:
        table.add_row("request", f"{request.request_id}, {request.recorded_at}, answered by {request.version}")
        table.add_row("outcome", f"{request.outcome}, {request.tokens} tokens in {request.latency_ms:.0f} ms")
        table.add_row("stage", request.stage or "none")
    for each in found.said:
        table.add_row("feedback", f"{described(each.signal, each.value)}, {each.recorded_at} ({each.event_id})")
        table.add_row("", found.becomes[each.event_id])
    _add_datasets(table, found.datasets)
    console.print(table)


def _print_person_trace(found: "PersonTrace") -> None:
    table = Table(box=None, show_header=False)
    table.add_row("person", ", ".join(found.pseudonyms))
    table.add_row("votes", counted(found.votes) or "none")
    table.add_row("chat requests", f"{found.requests:,}")
    table.add_row("feedback", counts(found.feedback) or "none")
    _add_datasets(table, found.datasets)
    table.add_row("descendants", ", ".join(found.descendants) or "none")
    console.print(table)


def _add_datasets(table: Table, datasets: "Sequence[UsedIn]") -> None:
    for used in datasets:
        built = f"; built for {', '.join(used.waiting)}, which is not trained yet" if used.waiting else ""
        trained = ", ".join(used.versions) or "no version"
        table.add_row("dataset", f"{used.content_hash[:12]} ({used.part}), trained {trained}{built}")


def _print_vote_trace(went: "VoteTrace") -> None:
    table = Table(box=None, show_header=False)
    event = went.event
    table.add_row("vote", f"{event.vote} on {event.model_a} and {event.model_b}, {event.recorded_at}")
    if went.withdrawn:
        table.add_row("taken back", "as a slip, by whoever gave it: it counts nowhere")
    _add_datasets(table, went.datasets)
    table.add_row("descendants", ", ".join(went.descendants) or "none")
    table.add_row("A/B tests", ", ".join(went.judged) or "none")
    table.add_row("KPIs of its week", ", ".join(map(kpi_label, went.kpis)) or "none")
    _add_decisions(table, went.decisions)
    console.print(table)


def _print_version_trace(came: "VersionTrace") -> None:
    table = Table(box=None, show_header=False)
    record = came.record
    adapter = f"adapter {record.adapter_sha[:12]}" if record.adapter_sha else "no adapter yet"
    table.add_row("version", f"{record.name}, {spoken(record.status)}, {adapter}")
    table.add_row("parents", " ← ".join(came.ancestors) or "none")
    what = f"{len(came.events):,} votes and other feedback"
    dataset = f"{record.dataset_hash[:12]}: {what}" if record.dataset_hash else "none: it was not trained on votes"
    table.add_row("dataset", dataset)
    table.add_row("people", f"{came.people:,}")
    table.add_row("trained on", counted(came.sources) or "no votes or feedback")
    _add_decisions(table, came.decisions)
    console.print(table)


def _add_decisions(table: Table, decisions: "Sequence[DecisionRecord]") -> None:
    for decision in decisions:
        table.add_row(decision.decided_at, f"{decision.version} {decision.stage}: {decision.decision}")


def watch_programs(settings: Settings, stopping: threading.Event) -> None:
    """Addresses, and under them one line of how things are, kept up until the programs stop.

    Where there is no terminal, a line now and then instead.
    """
    print_addresses(settings)
    shown, shown_at = "", 0.0
    with Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else nullcontext() as live:
        while not stopping.is_set():
            ready, line = system_status(settings)
            if live:
                live.update(Text(line, overflow="ellipsis", no_wrap=True), refresh=True)
            elif line != shown and (ready or time.monotonic() - shown_at > RUNNING_EVERY_S):
                console.print(line, soft_wrap=True)
                shown, shown_at = line, time.monotonic()
            stopping.wait(RUNNING_EVERY_S if ready else STARTING_EVERY_S)
    console.print("stopping …")


def system_status(settings: Settings) -> tuple[bool, str]:
    """(whether all programs answer and a version serves, what is going on in one sentence)."""
    from dpo_pipeline import programs  # every command imports this module, and the engine's process with it

    missing = [name for name, up in programs.answering(settings).items() if not up]
    try:
        ready = programs.client().get(f"{settings.serving_address}/readyz")
        sentence = _now_and_next(settings) if ready.is_success else str(ready.json()["error"]["message"])
    except (httpx.HTTPError, ValueError):
        return False, f"starting: {', '.join(missing or ['serving'])}"
    except DatabaseUnavailable:
        return False, "the database that servers share does not answer"
    return not missing and ready.is_success, "; ".join((*(f"{name} is starting" for name in missing), sentence))


def _now_and_next(settings: Settings) -> str:
    from dpo_pipeline.status import loop_status

    found = loop_status(settings)
    return f"{found['now']} {found['next']}"


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


def print_addresses(settings: Settings) -> None:
    registry = f"{settings.mlflow_address}/#/models/{settings.registered_model}"
    for name, where, what in (
        ("the loop", settings.serving_address, "start here: what is happening and what comes next; /docs is the API"),
        ("voting", f"{settings.serving_address}/compare", "the A/B test"),
        ("Dagster", settings.dagster_address, "assets, sensors, runs"),
        ("MLflow", registry, "runs and versions"),
        ("data", settings.data_dir, "DPO_DATA_DIR moves it; logs/ has what the programs print"),
    ):
        # No table: a narrow terminal would cut the addresses.
        console.print(Text.assemble(f"{name:<8} {where}  ", (what, "dim")), soft_wrap=True)


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


def print_status(settings: Settings, found: dict[str, Any]) -> None:
    from dpo_pipeline.core.validated_pair import SHORT_MEANINGS
    from dpo_pipeline.stores.curation import read_summary

    console.print(found["now"])
    console.print(f"Next: {found['next']}")
    preferences = found["preferences"]
    frequency = getattr(settings.cadence, preferences["phase"]).frequency
    added = ", with what feedback adds" if found["feedback"]["sources"] else ""
    console.print(
        Text.assemble(
            (f"{preferences['unused']:,}", "bold"),
            f" unused valid preferences{added}; {preferences['threshold']:,} start a training (phase "
            f"{preferences['phase']}, {frequency}). {preferences['recorded']:,} recorded, {preferences['valid']:,} "
            f"valid, {preferences['rejected']:,} rejected, {preferences['quarantined']:,} quarantined.",
        )
    )
    said = found["feedback"]
    if said["sources"]:
        taught = f"; the next version is trained by the objective {preferences['objective']}"
        questioned = f", {said['set_aside']} set aside after a rollback" if said["set_aside"] else ""
        console.print(f"feedback: {said['pairs']} pairs, {said['labelled']} labelled answers{questioned}{taught}")
    failed = read_summary(settings.curation_summary).failed
    if failed:
        title = "one pair may fail several"
        table = Table("rejected for", "pairs", "criterion", box=None, title=title, title_justify="left")
        for name, count in sorted(failed.items(), key=lambda item: -item[1]):
            table.add_row(SHORT_MEANINGS.get(name, spoken(name)), f"{count:,}", name)
        console.print(table)
    versions = Table("version", "attempt", "status", "parent", "pairs", "win rate", "adapter", "MLflow", box=None)
    for version in found["versions"]:
        rate = "" if version["win_rate"] is None else f"{version['win_rate']:.1%}"
        sha = (version["adapter_sha"] or "")[:12]
        name, status = version["name"], spoken(version["status"])
        row = (name, version["attempt"], status, version["parent"] or "", version["pairs"] or "")
        versions.add_row(*map(str, (*row, rate, sha, version["mlflow_version"] or "")))
    console.print(versions)
    console.print(f"champion {found['champion'] or 'none yet'}, challenger {found['challenger'] or 'none'}")
    if rollout := found["rollout"]:
        console.print(
            f"rollout of {rollout['version']}: {rollout['stage']}, {rollout['traffic']:.0%} of the traffic; "
            f"{rollout['decision']}: {'; '.join(rollout['reasons'])}"
        )


def print_demo(settings: Settings, result: Any) -> None:
    version = result.version
    console.print()
    from dpo_pipeline.status import loop_status

    print_status(settings, loop_status(settings))
    table = Table("stage", "decision", "because", box=None, title=f"Rollout of {version.name}", title_justify="left")
    for decision in result.decisions:
        if decision.decision != "hold":
            table.add_row(decision.stage, decision.decision, "\n".join(decision.reasons))
    console.print(table)
    evaluation = version.evaluation or {}
    kept_by = "make up-scaled" if settings.database_url else "make up"
    facts = Table(box=None, show_header=False, title=f"Where to look ({kept_by})", title_justify="left")
    facts.add_row(
        "dataset", f"{version.pairs} pairs, {settings.artifacts_dir / 'datasets' / version.dataset_hash[:16]}"
    )
    facts.add_row("adapter", f"{settings.checkpoints_dir / 'dpo'}")
    facts.add_row(
        "length", f"{evaluation.get('words', 0):.1f} words, {version.parent} {evaluation.get('parent_words', 0):.1f}"
    )
    facts.add_row("votes", str(settings.prefs_log))
    facts.add_row("Dagster", settings.dagster_address)
    facts.add_row("MLflow", f"{settings.mlflow_address}/#/models/{settings.registered_model}")
    facts.add_row("serving", f"{settings.serving_address}")
    console.print(facts)
    outcome = "serves all of the traffic" if version.status == "champion" else f"is {spoken(version.status)}"
    took = f" after {result.votes} votes and {result.seconds / 60:.1f} minutes."
    console.print(Text.assemble("\n", (f"{version.name} {outcome}", "bold"), took))
