"""What `dpo status`, `up` and `demo` print: how the loop is, and what is going on."""

import threading
import time
from contextlib import nullcontext
from typing import Any

import httpx
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dpo_pipeline.errors import DatabaseUnavailable
from dpo_pipeline.in_words import spoken
from dpo_pipeline.settings import Settings
from dpo_pipeline.terminal import console

STARTING_EVERY_S, RUNNING_EVERY_S = 1.0, 20.0


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
    # Every command imports this module, and the engine's process with it.
    from dpo_pipeline.answering import answering, client

    missing = [name for name, up in answering(settings).items() if not up]
    try:
        ready = client().get(f"{settings.serving_address}/readyz")
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
