"""What `dpo demo` shows while the loop turns: one line a phase, each with its own bar."""

import subprocess
import time
from collections.abc import Callable

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from dpo_pipeline.answering import answering, code_location_error
from dpo_pipeline.core.lifecycle import CLOSED, RECORDED
from dpo_pipeline.core.rollout import STAGES
from dpo_pipeline.core.versions import next_version
from dpo_pipeline.errors import DatabaseUnavailable, ServiceError
from dpo_pipeline.in_words import duration, spoken
from dpo_pipeline.settings import Settings
from dpo_pipeline.simulation.crowd import Crowd
from dpo_pipeline.stores.curation import read_summary
from dpo_pipeline.stores.ledger import Ledger, VersionRecord
from dpo_pipeline.stores.progress import read_progress

STILL_S = 600.0
"""A slow machine takes as long as it takes; only where nothing at all has moved for so long, something is wrong."""
PLAIN_LINE_EVERY_S = 10
CHECK_DAGSTER_EVERY_S = 15
BUSY, PROMOTING, CALM = 14.0, 9.0, 1.0


class DemoScreen:
    """The screen: one line a phase, each with its own bar."""

    def __init__(
        self, console: Console, settings: Settings, ledger: Ledger, crowd: Crowd, up: "subprocess.Popen[bytes]"
    ):
        self.settings, self.ledger, self.crowd, self.up, self.console = settings, ledger, crowd, up, console
        self.seen: object = None
        self.moved_at = time.monotonic()
        self.target = next_version([record.name for record in ledger.versions()] or ["v1.0"])
        self.bars = Progress(
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._said = 0.0
        self._look_again = 0.0

    def until_decided(self) -> VersionRecord:
        with self.bars:
            self._phase("MLflow, Dagster and serving start", 3, self._programs_up)
            self._phase("base model is ready", 100, self._base_model)
            self._phase("v1.0 is tuned", 100, self._baseline)
            self.crowd.start()
            self.crowd.pace, self.crowd.chat_share = BUSY, 0.25
            self._phase("people vote", 100, self._collect)
            self.crowd.pace = CALM
            self._phase(f"{self.target} is trained", 100, self._train)
            self._phase(f"{self.target} is evaluated and registered", 100, self._evaluate)
            self.crowd.pace, self.crowd.chat_share = BUSY, 0.2
            self._phase(f"A/B test of {self.target}", 100, self._staging)
            self.crowd.pace, self.crowd.chat_share = PROMOTING, 0.95
            self._phase(f"rollout of {self.target}", len(STAGES) - 1, self._rollout)
        return self.ledger.version(self.target)

    def _phase(self, title: str, total: float, look: Callable[[], tuple[float, float, str]]) -> None:
        """Show one phase until `look` says (done, total, note) with done ≥ total."""
        task = self.bars.add_task(title, total=total, note="")
        while True:
            try:
                done, total, note = look()
            except DatabaseUnavailable:  # somebody killed it: whoever keeps it running starts it again
                self.bars.update(task, note="the database is away")
                self._check_programs()
                time.sleep(1.0)
                continue
            self.bars.update(task, completed=min(done, total), total=total, note=note)
            self._say(title, done, total, note, finished=done >= total)
            if done >= total:
                return
            self._check(title, done, total, note)
            time.sleep(0.4)

    def _say(self, title: str, done: float, total: float, note: str, finished: bool) -> None:
        """Where there is no terminal, a line now and then instead of a bar."""
        if self.console.is_terminal:
            return
        if finished or time.monotonic() - self._said > PLAIN_LINE_EVERY_S:
            self._said = time.monotonic()
            self.console.print(f"{'✓' if finished else '…'} {title}: {done:.0f} of {total:.0f} {note}")

    def _check_programs(self) -> None:
        log = self.settings.logs_dir / "up.log"
        if self.up.poll() is not None:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise ServiceError(f"The programs ended with status {self.up.returncode}. The last lines of {log}:\n{tail}")

    def _check(self, title: str, done: float, total: float, note: str) -> None:
        self._check_programs()
        if time.monotonic() > self._look_again:
            self._look_again = time.monotonic() + CHECK_DAGSTER_EVERY_S
            if trouble := code_location_error(self.settings):
                raise ServiceError(f"Dagster cannot load the definitions: {trouble}")
        try:
            seen = (title, done, *self._movements())
        except DatabaseUnavailable:
            return
        if seen != self.seen:
            self.seen, self.moved_at = seen, time.monotonic()
        elif time.monotonic() - self.moved_at > STILL_S:
            phase = f"{title} ({done:.0f} of {total:.0f}; {note})"
            raise ServiceError(
                f"Nothing has moved for {duration(STILL_S)} at: {phase}. No training or evaluation went a step on, no "
                f"vote was taken in, nothing was decided. Look at the runs in {self.settings.dagster_address} and "
                f"at the logs in {self.settings.logs_dir}, then run `make demo` again: it goes on where this one ended."
            )

    def _movements(self) -> tuple[object, ...]:
        """What changes while anything goes on at all."""
        tasks = read_progress(self.settings.data_dir / "progress")
        return (
            tuple((task.task, task.step, task.updated) for task in tasks),
            read_summary(self.settings.curation_summary).recorded,
            self.ledger.deployment().epoch,
            len(self.ledger.decisions()),
        )

    def _programs_up(self) -> tuple[float, float, str]:
        state = answering(self.settings)
        return sum(state.values()), len(state), ", ".join(name for name, up in state.items() if up)

    def _task(self, name: str, finished: bool, note: str = "") -> tuple[float, float, str]:
        """Progress of a task that reports to a file; `finished` as the ledger or serving sees it."""
        found = next((p for p in read_progress(self.settings.data_dir / "progress") if p.task == name), None)
        if finished:
            return 1, 1, note
        if found is None:
            return 0, 100, "waiting for its Dagster run"
        metrics = ", ".join(f"{key} {value:.3g}" for key, value in list(found.metrics.items())[:2])
        return min(found.step, found.total * 0.99), found.total, metrics

    def _base_model(self) -> tuple[float, float, str]:
        tasks = {p.task: p for p in read_progress(self.settings.data_dir / "progress")}
        base = tasks.get("base_model")
        built = "sft" in tasks or bool(self.ledger.versions()) or (base is not None and base.done)
        return self._task("base_model", built)

    def _baseline(self) -> tuple[float, float, str]:
        return self._task("sft", self._ready(), "loaded by serving")

    def _ready(self) -> bool:
        try:
            return httpx.get(f"{self.settings.serving_address}/readyz", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def _version(self) -> VersionRecord | None:
        return next((record for record in self.ledger.versions() if record.name == self.target), None)

    def _collect(self) -> tuple[float, float, str]:
        summary, cadence = read_summary(self.settings.curation_summary), self.settings.cadence.startup
        note = f"{self.crowd.votes} votes, {summary.valid} valid, {summary.rejected} rejected so far"
        if self._version():
            return 1, 1, note
        used = max((record.pairs_seen for record in self.ledger.versions()), default=0)
        return min(summary.valid - used, cadence.min_samples - 1), cadence.min_samples, note

    def _train(self) -> tuple[float, float, str]:
        version = self._version()
        finished = version is not None and version.status not in ("training", "diverged")
        note = f"attempt {version.attempt}, {version.pairs} pairs" if version else ""
        done, total, metrics = self._task("dpo", finished)
        return done, total, f"{note} {metrics}"

    def _evaluate(self) -> tuple[float, float, str]:
        version = self._version()
        if version and version.status in RECORDED | CLOSED:
            rate = "" if version.win_rate is None else f"win rate {version.win_rate:.0%}"
            return 1, 1, f"{spoken(version.status)} {rate}"
        return self._task("eval", False)

    def _staging(self) -> tuple[float, float, str]:
        state, version = self.ledger.deployment(), self._version()
        if version and version.status in CLOSED:
            return 1, 1, spoken(version.status)
        if state.stage not in (None, "staging") or (version and version.status == "champion"):
            return 1, 1, "won"
        history = self.ledger.decisions(self.target)
        return 0.5, 1, f"{self.crowd.votes} votes; " + (history[-1].reasons[0] if history else "")

    def _rollout(self) -> tuple[float, float, str]:
        state, version = self.ledger.deployment(), self._version()
        assert version
        last = len(STAGES) - 1
        history = self.ledger.decisions(self.target)
        if version.status in CLOSED:
            return last, last, f"rolled back: {history[-1].reasons[0] if history else version.status}"
        if version.status == "champion":
            return last, last, "all of the traffic"
        stage = state.stage or STAGES[0]
        return STAGES.index(stage), last, f"{stage}; {history[-1].reasons[0] if history else ''}"
