"""Can the loop be left alone: an hour of all programs with simulated people, and nothing lost, red or growing?

`dpo up` runs as anybody starts it, on a data directory of its own, simulated people use it at their usual pace, and
every few minutes somebody opens the pages of serving, Dagster and MLflow in Chromium. At the end: votes that were
acknowledged against those in the log, troubles that people met, runs and sensor ticks that failed (a version that did
not improve is no failure), error lines of the programs, and the memory of each program in the last tenth of the time
against the tenth before the middle, when everything had been used; the whole curve is `results/hour.svg`. There is no
rival: the question is whether it stands.
"""

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import httpx
import psutil
from bench_page import ARGUMENTS, CHROMIUM
from reporting import Goal, plot, report, say, show
from servers import wait_until_answering

from dpo_pipeline import programs
from dpo_pipeline.core.votes import decode_preference
from dpo_pipeline.program_environment import environment
from dpo_pipeline.reports import plots
from dpo_pipeline.serving.site_map import PAGES
from dpo_pipeline.settings import Settings, load_settings
from dpo_pipeline.simulation.crowd import Crowd
from dpo_pipeline.stores.bank import read_bank
from dpo_pipeline.stores.key_ring import local_key
from dpo_pipeline.stores.ledger import Ledger

EVERY_S = 15.0
MAX_GROWTH = 1.1
PAGES_EVERY_S = 240.0
# What each program is recognised by; runs come and go, so they are not among them.
PROGRAMS = {
    "mlflow": "mlflow",
    "webserver": "gated_dagster",
    "daemon": "dagster-daemon",
    "serving": "dpo serve",
    "code server": "dagster api grpc",
}
TROUBLE = re.compile(r"\b(ERROR|CRITICAL|Traceback)\b")
# A version that did not improve is kept back by its check, and Dagster tells that as an error.
KEPT_BACK = re.compile(r"blocking asset check failed| - train_version - .*(eval_report|'model_version')")
FAILED = """{ runsOrError(filter: {statuses: [FAILURE, CANCELED]}) { ... on Runs { results { jobName stepStats {
    stepKey status } } } }
  sensorsOrError(repositorySelector: {repositoryName: "__repository__", repositoryLocationName: "dpo_pipeline"}) {
    ... on Sensors { results { name sensorState { ticks(statuses: [FAILURE]) { error { message } } } } } } }"""


def memory(root: psutil.Process) -> dict[str, float]:
    """MB of private memory by program, over the processes of each."""
    found: dict[str, float] = defaultdict(float)
    for process in root.children(recursive=True):
        try:
            command = " ".join(process.cmdline())
            size = process.memory_full_info().uss / 1e6
            parent = process.parent()
            started_by = " ".join(parent.cmdline()) if parent else ""
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
        # Serving's own child generates; other spawned processes are runs, which come and go.
        if "spawn_main" in command and PROGRAMS["serving"] in started_by:
            found["generating"] += size
        for name, mark in PROGRAMS.items():
            if mark in command:
                found[name] += size
                break
    return dict(found)


def look_at_pages(settings: Settings) -> list[str]:
    """Open every page of serving, and some of Dagster and MLflow, in Chromium; errors that the pages met."""
    from playwright.sync_api import sync_playwright

    addresses = [settings.serving_address + page.address for page in PAGES]
    addresses += [f"{settings.dagster_address}/{path}" for path in ("asset-groups", "automation", "runs")]
    addresses += [f"{settings.mlflow_address}/#/models/{settings.registered_model}"]
    errors: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        for address in addresses:
            page = browser.new_page()

            def note(error: object, address: str = address) -> None:
                errors.append(f"{address}: {error}")

            page.on("pageerror", note)
            page.goto(address)
            page.wait_for_timeout(2000)
            page.close()
        browser.close()
    return errors


def watch(
    root: psutil.Process, crowd: Crowd, settings: Settings, minutes: float
) -> tuple[list[dict[str, float]], list[str]]:
    """Memory every so often, a line a minute, and what the pages met that were opened meanwhile."""
    seen: list[dict[str, float]] = []
    errors: list[str] = []
    if unknown := PROGRAMS.keys() - memory(root).keys():
        raise SystemExit(f"No process was recognised as {', '.join(unknown)}: look at PROGRAMS before an hour is lost.")
    began, looked = time.monotonic(), 0
    while (passed := time.monotonic() - began) < minutes * 60:
        seen.append(memory(root))
        if passed >= looked * PAGES_EVERY_S:
            errors += look_at_pages(settings)
            looked += 1
        if len(seen) % round(60 / EVERY_S) == 0:
            used = ", ".join(f"{name} {size:.0f}" for name, size in sorted(seen[-1].items()))
            say(f"{passed / 60:.0f} of {minutes:.0f} min: {crowd.votes} votes, {crowd.chats} chats; MB: {used}")
        time.sleep(max(began + len(seen) * EVERY_S - time.monotonic(), 0.0))
    return seen, errors


def growth(seen: list[dict[str, float]]) -> list[dict[str, Any]]:
    """Each program's median memory in the last tenth, over that of the tenth before the middle."""
    tenth = max(len(seen) // 10, 1)
    middle, last = seen[len(seen) // 2 - tenth : len(seen) // 2], seen[-tenth:]
    rows = []
    for name in (*PROGRAMS, "generating"):
        before, after = (statistics.median(each.get(name, 0.0) for each in part) for part in (middle, last))
        rows.append({"program": name, "MB, half-way": before, "MB, at the end": after, "growth": after / before})
    return rows


def draw(seen: list[dict[str, float]]) -> None:
    """Write `results/hour.svg`: each program's memory over the time."""
    minutes = [number * EVERY_S / 60 for number in range(len(seen))]

    def curves(axes: Any) -> None:
        for name in (*PROGRAMS, "generating"):
            axes.plot(minutes, [each.get(name, 0.0) for each in seen], linewidth=1.5, label=name)
        axes.axvline(minutes[-1] / 2, color=plots.GREY, linewidth=1, linestyle=":")
        axes.set_ylim(0)
        axes.set_xlabel("minutes since the first vote")
        axes.set_ylabel("private memory, MB")
        axes.legend(frameon=False, fontsize=8, ncols=3, loc="lower center")

    plot("hour", plots.svg(curves, 7.0, 4.0))


def failures(settings: Settings) -> tuple[list[str], list[str]]:
    """(runs that failed by more than a version that did not improve, sensor ticks that failed)."""
    answer = httpx.post(f"{settings.dagster_address}/graphql", json={"query": FAILED}, timeout=30).json()["data"]
    runs = []
    for run in answer["runsOrError"]["results"]:
        steps = [step["stepKey"] for step in run["stepStats"] if step["status"] == "FAILURE"]
        if steps != ["eval_report"]:  # its blocking check is how a version is kept back
            runs.append(f"{run['jobName']}: {', '.join(steps) or 'no step'}")
    ticks = [
        f"{sensor['name']}: {tick['error']['message']}"
        for sensor in answer["sensorsOrError"]["results"]
        for tick in sensor["sensorState"]["ticks"]
    ]
    return runs, ticks


def recorded(settings: Settings) -> int:
    """Votes in the log, each line read strictly."""
    lines = settings.prefs_log.read_bytes().split(b"\n")[:-1]
    return len({decode_preference(line).event_id for line in lines})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="study-hour-") as folder:
        settings = load_settings(data_dir=Path(folder))
        programs.preflight(settings)
        said = Path(folder) / "up.log"
        with said.open("wb") as out:
            command = [str(Path(sys.executable).with_name("dpo")), "up"]
            up = subprocess.Popen(command, env=environment(settings), stdout=out, stderr=out)
        crowd = Crowd([settings.serving_address], read_bank(settings.bank_dir), pace=2.0, key=local_key(settings))
        try:
            with said.open("rb") as heard:
                wait_until_answering(up, f"{settings.serving_address}/readyz", heard, seconds=900)
            crowd.start()
            seen, page_errors = watch(psutil.Process(up.pid), crowd, settings, args.minutes)
            crowd.stop()
            runs, ticks = failures(settings)
            # Before the stop: it cuts off what is running, and Dagster says so.
            logs = [path.read_text(errors="replace") for path in sorted(settings.logs_dir.glob("*.log*"))]
            errors = [line for log in logs for line in log.splitlines() if TROUBLE.search(line)]
            errors = page_errors + [line for line in errors if not KEPT_BACK.search(line)]
        finally:
            up.terminate()
            up.wait(timeout=60)
        with Ledger(settings.ledger_address) as ledger:
            versions = {record.name: record.status for record in ledger.versions()}
        lost = crowd.votes - recorded(settings)
    draw(seen)
    tell(growth(seen), crowd, lost, runs, ticks, errors, versions, args.minutes)


def tell(
    rows: list[dict[str, Any]],
    crowd: Crowd,
    lost: int,
    runs: list[str],
    ticks: list[str],
    errors: list[str],
    versions: dict[str, str],
    minutes: float,
) -> None:
    show(f"Memory of each program, {minutes:.0f} minutes of {crowd.votes} votes and {crowd.chats} chats", rows)
    for title, found in (("failed runs", runs), ("failed ticks", ticks), ("error lines", errors)):
        for line in found[:10]:
            say(f"{title}: {line[:300]}")
    goals = [
        Goal("acknowledged votes that are not in the log:", max(lost, 0), "at most", 0),
        Goal("troubles that people met:", sum(crowd.troubles.values()), "at most", 0),
        Goal("failed runs:", len(runs), "at most", 0),
        Goal("failed sensor ticks:", len(ticks), "at most", 0),
        Goal("error lines of programs and pages:", len(errors), "at most", 0),
        Goal("largest growth of a program's memory:", max(row["growth"] for row in rows), "at most", MAX_GROWTH),
    ]
    measured = {
        "minutes": minutes,
        "votes": crowd.votes,
        "chats": crowd.chats,
        "ratings": crowd.ratings,
        "troubles": dict(crowd.troubles),
        "memory": rows,
        "versions": versions,
        "failed_runs": runs,
        "failed_ticks": ticks,
        "errors": errors[:10],
    }
    report("hour", goals, measured)


if __name__ == "__main__":
    main()
