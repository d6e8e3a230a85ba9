"""A month by a simulated clock: weekly votes, five versions, a bad one among them, an order in MLflow, outages.

What is simulated is the clock, the people and the training; the ledger, the serving log, MLflow and every decision are
real.
"""

import random
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dpo_pipeline.core.cadence import CadenceDecision, training_due, training_state
from dpo_pipeline.core.exposure import gets_challenger, unit_key
from dpo_pipeline.core.rollout import traffic_of
from dpo_pipeline.core.serving_records import FeedbackRecord, Record, RequestRecord
from dpo_pipeline.core.versions import next_version
from dpo_pipeline.core.winrate import Outcome
from dpo_pipeline.errors import RegistryUnavailable
from dpo_pipeline.loop.reconcile_registry import reconcile_registry
from dpo_pipeline.loop.roll_out import decide_now, plan_of
from dpo_pipeline.settings import RolloutPolicy, Settings
from dpo_pipeline.stores import artifacts
from dpo_pipeline.stores.ledger import Ledger
from dpo_pipeline.stores.log import AppendLog
from dpo_pipeline.stores.registry import Registry
from dpo_pipeline_tests.assets.conftest import mlflow  # noqa: F401  (fixture)
from dpo_pipeline_tests.examples import GivenVotes, put_version, settings_in

MODEL = "chat-month"
BEGIN = datetime(2026, 1, 5, tzinfo=UTC)
EVERY = timedelta(hours=6)
REQUESTS, PEOPLE = 240, 3000
BETTER = {"v1.1": 0.64, "v1.2": 0.62, "v1.3": 0.63, "v1.4": 0.62, "v1.5": 0.64}
"""How often each wins its A/B test. v1.2 pleases people and fails one request in five."""


class Month:
    """One data folder, a clock that a test moves, and people who use what is served."""

    def __init__(self, settings: Settings, monkeypatch: pytest.MonkeyPatch):
        self.settings, self.now, self.draw = settings, BEGIN, random.Random(1)
        self.ledger = Ledger(settings.ledger_address, clock=self.stamp)
        self.votes: dict[tuple[str, str], list[tuple[str, Outcome]]] = {}
        self.traffic: list[float] = []
        self.serving, self.dagster, self.failing = True, True, {"v1.2"}
        self.disliked: set[str] = set()
        self.valid, self.valid_a_visit = 0, 0
        self.registry: Registry | None = None
        self.client: Any = None
        put_version(self.ledger, "v1.0", status="trained", adapter_sha="0" * 64)
        self.ledger.install_champion("v1.0", "test")

    def close(self) -> None:
        self.ledger.close()

    def use_mlflow(self, address: str, model: str) -> None:
        """From now on its aliases are followed, as serving and Dagster do it."""
        from mlflow import MlflowClient

        self.registry, self.client = Registry(address, model), MlflowClient(address)
        self.client.create_registered_model(model)
        self._publish("v1.0", "0" * 64)

    def _publish(self, name: str, sha: str) -> None:
        if self.registry:
            run = self.client.create_run("0").info.run_id
            made = self.client.create_model_version(MODEL, f"runs:/{run}/adapter", run, tags={"adapter_sha": sha})
            put_version(self.ledger, name, mlflow_version=made.version)

    def stamp(self) -> str:
        return self.now.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def due(self) -> CadenceDecision:
        """Whether the votes so far make a training due."""
        versions, challenger = self.ledger.versions(), self.ledger.deployment().challenger
        state = training_state(versions, challenger, lambda place: max(self.valid - place, 0), self.now)
        return training_due(state, self.settings.cadence, self.settings.recipe)

    def register(self, name: str) -> None:
        """A version as it is after training and a good evaluation."""
        parent = self.ledger.deployment().champion
        folder = self.settings.artifacts_dir / name
        folder.mkdir(parents=True)
        (folder / "notes.txt").write_text(name)
        sha = str(artifacts.write_manifest(folder, {"version": name})["sha256"])
        put_version(
            self.ledger,
            name,
            status="registered",
            adapter_sha=sha,
            adapter_dir=str(folder),
            parent=parent,
            pairs_seen=self.valid,
        )
        self._publish(name, sha)

    def live(self, until: datetime) -> None:
        """Six hours at a time: people come, then the decision that is due is made."""
        while self.now < until:
            if self.serving:
                self._people()
                self.valid += self.valid_a_visit
            if self.dagster and self.valid_a_visit and self.due().due:
                self.register(next_version([each.name for each in self.ledger.versions()]))
            state = self.ledger.deployment()
            waiting = [each.name for each in self.ledger.versions() if each.status == "registered"]
            name = state.challenger or (waiting[0] if waiting else state.champion)
            self.now += EVERY
            if self.registry:
                with suppress(RegistryUnavailable):
                    reconcile_registry(self.settings, self.ledger, self.registry)
            if not self.dagster:
                continue
            decide_now(self.settings, self.ledger, GivenVotes(self.votes), str(name), "simulated", self.now)
            state = self.ledger.deployment()
            self.traffic.append(traffic_of(state.stage, RolloutPolicy()) if state.challenger and state.stage else 0.0)

    def live_until(self, name: str, status: str, days: int) -> None:
        """Until a version has this status, or this is its stage; so many days at most."""
        last = self.now + timedelta(days=days)
        while not self._is(name, status):
            assert self.now < last, f"{name} is not {status} after {days} days; {self.due().reason}"
            self.live(self.now + EVERY)

    def _is(self, name: str, status: str) -> bool:
        state, names = self.ledger.deployment(), {each.name for each in self.ledger.versions()}
        return name in names and (self.status(name) == status or (state.challenger, state.stage) == (name, status))

    def _people(self) -> None:
        state = self.ledger.deployment()
        champion, challenger = str(state.champion), state.challenger
        plan = plan_of(state, self.settings.rollout)
        traffic = traffic_of(state.stage, plan.policy) if challenger and state.stage else 0.0
        staging = challenger and state.stage == "staging"
        if challenger and staging:
            asked = self.votes.setdefault((challenger, champion), [])
            for _ in range(60):
                won = self.draw.random() < BETTER[challenger]
                asked.append((f"voter {self.draw.randrange(2000)}", "win" if won else "loss"))
        records: list[Record] = []
        for number in range(REQUESTS):
            person = f"user {self.draw.randrange(PEOPLE)}"
            moment = (self.now + EVERY * number / REQUESTS).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            request_id = f"{moment}-{number}"
            key = unit_key(plan.unit, person, "", request_id)
            version = str(challenger if challenger and gets_challenger(key, challenger, traffic) else champion)
            failed = self._fails(version)
            usual: dict[str, Any] = {
                "recorded_at": moment, "session_id": "", "user": person, "adapter_sha": "",
                "stage": state.stage or "full", "latency_ms": self.draw.uniform(80, 500), "ttft_ms": None, "tokens": 20,
            }  # fmt: skip
            outcome: Any = "error" if failed else "ok"
            records.append(
                RequestRecord(request_id=request_id, version=version, shadow=False, outcome=outcome, **usual)
            )
            if challenger and staging and self.draw.random() < plan.shadow_share:
                copied: Any = "error" if self._fails(challenger) else "ok"
                records.append(
                    RequestRecord(
                        request_id=f"{request_id}-copy", version=challenger, shadow=True, outcome=copied, **usual
                    )
                )
            if not failed and self.draw.random() < 0.4:
                records.append(
                    FeedbackRecord(
                        event_id=f"r-{request_id}", recorded_at=moment, request_id=request_id, user=person,
                        version=version, signal="rating",
                        value=self.draw.choice((1, 1, 2, 2, 3) if version in self.disliked else (3, 4, 4, 5, 5)),
                    )
                )  # fmt: skip
        log = AppendLog(self.settings.serving_log_dir / f"{self.stamp()[:10]}.jsonl", durable=False)
        log.append_all([msgspec.json.encode(record) for record in records])

    def _fails(self, version: str) -> bool:
        return self.draw.random() < (0.2 if version in self.failing else 0.003)

    def status(self, name: str) -> str:
        return self.ledger.version(name).status

    def alias(self, name: str) -> str | None:
        """Which version MLflow's alias points to."""
        numbers = {record.mlflow_version: record.name for record in self.ledger.versions()}
        return numbers.get(self.client.get_registered_model(MODEL).aliases.get(name))


@pytest.fixture
def month(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Month]:
    made = Month(settings_in(tmp_path), monkeypatch)
    yield made
    made.close()


@pytest.mark.nightly
def test_a_month_with_every_state_as_expected(month: Month, mlflow: str) -> None:  # noqa: F811
    month.use_mlflow(mlflow, MODEL)
    month.valid_a_visit = 5  # 140 valid votes a week
    month.live_until("v1.1", "champion", days=14)
    assert month.ledger.version("v1.1").pairs_seen == 100 and month.ledger.deployment().previous == "v1.0"
    reached = [decision.stage for decision in month.ledger.decisions("v1.1") if decision.decision == "promote"]
    assert reached == ["staging", "canary", "small", "half", "full"]

    # v1.2 pleases people, and fails one request in five.
    month.live_until("v1.2", "rolled_back", days=6)
    assert month.ledger.deployment().champion == "v1.1"
    last = month.ledger.decisions("v1.2")[-1]
    assert last.stage == "staging" and last.reasons[0] == "evidence of harm", "shadow copies saw it first"
    worst = max(
        record["literal"] for record in last.evidence["conditions"] if record["name"] == "error rate of the stage"
    )
    assert worst, "the letter of the rules says so too"
    assert month.due().reason.startswith("the newest version was given up; collect")

    month.live_until("v1.3", "canary", days=8)
    rolled_back, next_one = (month.ledger.version(name).pairs_seen for name in ("v1.2", "v1.3"))
    assert next_one - rolled_back == 100, "another hundred votes after the one that was rolled back"
    month.serving = False  # nobody is served for a day: nothing is promoted, nothing is lost
    month.live(month.now + timedelta(days=1))
    assert month.ledger.deployment().stage == "canary" and month.status("v1.3") == "rolling_out"
    month.serving = True
    month.dagster = False  # nobody decides for a day: people keep their side, and the day counts afterwards
    month.live(month.now + timedelta(days=1))
    assert month.ledger.deployment().stage == "canary" and month.status("v1.3") == "rolling_out"
    month.dagster = True
    there = month.registry
    month.registry = Registry("http://127.0.0.1:9", MODEL)  # MLflow is down: the rollout ends without it
    month.live_until("v1.3", "champion", days=8)
    assert month.alias("champion") == "v1.1"
    month.registry = there
    month.live(month.now + EVERY)
    assert (month.alias("champion"), month.alias("previous")) == ("v1.3", "v1.1")

    month.client.set_registered_model_alias(MODEL, "champion", month.ledger.version("v1.1").mlflow_version)
    month.live(month.now + EVERY)
    assert (month.status("v1.1"), month.status("v1.3")) == ("champion", "retired")
    assert month.status("v1.4") == "retired", "it was rolled out against v1.3; with the order its rollout is over"
    by_hand = [each.actor for each in month.ledger.decisions("v1.1") if each.decision == "manual promotion"]
    assert by_hand == ["a person in MLflow"]
    month.live_until("v1.5", "champion", days=18)
    assert month.ledger.version("v1.5").parent == "v1.1" == month.ledger.deployment().previous
    month.live(month.now + EVERY)
    assert (month.alias("champion"), month.alias("previous"), month.alias("challenger")) == ("v1.5", "v1.1", None)
    steps = [b for a, b in zip(month.traffic, month.traffic[1:], strict=False) if b > a]
    assert set(steps) == {0.05, 0.2, 0.5}, "the traffic never grew but by one stage"


def test_a_paused_version_waits_as_long_as_the_person_who_paused_it(month: Month) -> None:
    month.serving = False
    month.register("v1.1")
    month.live(BEGIN + timedelta(days=1))
    month.ledger.set_paused(True, month.ledger.deployment().epoch, ("holidays",), "ann")
    month.live(BEGIN + timedelta(days=20))
    assert month.status("v1.1") == "rolling_out"
    month.ledger.set_paused(False, month.ledger.deployment().epoch, ("back",), "ann")
    month.live(BEGIN + timedelta(days=21))
    assert month.status("v1.1") == "rolled_back"


@pytest.mark.nightly
def test_an_outage_after_weeks_of_good_answers_is_seen_the_same_day(month: Month) -> None:
    month.register("v1.1")
    month.live(BEGIN + timedelta(days=22))
    assert month.status("v1.1") == "champion"
    month.failing = {"v1.1"}
    month.live(BEGIN + timedelta(days=23))
    assert month.status("v1.1") == "rolled_back" and month.ledger.deployment().champion == "v1.0"
    assert month.ledger.decisions("v1.1")[-1].reasons[0] == "evidence of harm"


@pytest.mark.nightly
def test_a_champion_that_people_stop_liking_is_rolled_back(month: Month) -> None:
    """At full traffic nobody meets the one before it any more: what its people said last stands beside it."""
    month.register("v1.1")
    month.live(BEGIN + timedelta(days=10))
    assert month.status("v1.1") == "champion"
    month.disliked = {"v1.1"}
    month.live(BEGIN + timedelta(days=12))
    assert month.status("v1.1") == "rolled_back"
    assert "satisfaction" in " ".join(month.ledger.decisions("v1.1")[-1].reasons)


@pytest.mark.nightly
def test_a_clock_set_back_or_on_promotes_nothing_by_itself(month: Month) -> None:
    """In canary nobody comes any more; the clock goes an hour back, then three days on: the stage's hours are over."""
    month.register("v1.1")
    while month.ledger.deployment().stage != "canary":
        month.live(month.now + EVERY)
    begun, month.serving = month.now, False
    month.now = begun - timedelta(hours=1) - EVERY
    month.live(begun - timedelta(hours=1))
    back = month.ledger.decisions("v1.1")[-1]
    assert back.decision == "hold" and "lasts at least 24 h; 0 s so far" in " ".join(back.reasons)
    month.now = begun + timedelta(days=3)
    month.live(month.now + EVERY)
    on = month.ledger.decisions("v1.1")[-1]
    assert on.decision == "hold" and "requests to the new version" in " ".join(on.reasons)
    assert month.ledger.deployment().stage == "canary"
    assert [each.decision for each in month.ledger.decisions("v1.1")] == [
        each.decision for each in sorted(month.ledger.decisions("v1.1"), key=lambda each: each.epoch)
    ], "decisions are in the order they were made, not in that of the clock"


@pytest.mark.slow
def test_a_new_ledger_may_be_opened_by_many_at_once(tmp_path: Path) -> None:
    for turn in range(10):
        address = settings_in(tmp_path / str(turn)).ledger_address
        together = threading.Barrier(8)

        def open_it(address: str = address, together: threading.Barrier = together) -> int:
            together.wait()
            with Ledger(address) as ledger:
                return len(ledger.versions())

        with ThreadPoolExecutor(8) as pool:
            assert [each.result() for each in [pool.submit(open_it) for _ in range(8)]] == [0] * 8


@pytest.mark.slow
def test_of_two_promoters_one_is_refused(tmp_path: Path) -> None:
    """Two processes that saw the same epoch, at the same moment, twenty times."""
    settings = settings_in(tmp_path)
    with Ledger(settings.ledger_address) as ledger:
        put_version(ledger, "v1.0", status="trained", adapter_sha="0" * 64)
        ledger.install_champion("v1.0", "test")
        for turn in range(20):
            put_version(ledger, f"v1.{turn + 1}", status="registered", adapter_sha=f"v1.{turn + 1}")
    code = textwrap.dedent(
        """
        import sys, time
        from dpo_pipeline.errors import NoRollout, StaleEpoch
        from dpo_pipeline.stores.ledger import Ledger
        with Ledger(sys.argv[1]) as ledger:
            won = 0
            for turn in range(20):
                name = f"v1.{turn + 1}"
                time.sleep(0.05)
                epoch = turn * 2 + 1
                while ledger.deployment().epoch < epoch:
                    time.sleep(0.002)
                try:
                    ledger.start_rollout(name, epoch, ("mine",), sys.argv[2])
                    won += 1
                    ledger.roll_back(epoch + 1, ("next",), {}, sys.argv[2])
                except (StaleEpoch, NoRollout):
                    pass
            print(won)
        """
    )
    command = [sys.executable, "-c", code, settings.ledger_address]
    both = [subprocess.Popen([*command, who], stdout=subprocess.PIPE, text=True) for who in ("first", "second")]
    won = [int(process.communicate(timeout=120)[0]) for process in both]
    with Ledger(settings.ledger_address) as ledger:
        assert sum(won) == 20 and ledger.deployment().epoch == 41
        started = [each for each in ledger.decisions() if each.reasons == ("mine",)]
    assert len(started) == 20
