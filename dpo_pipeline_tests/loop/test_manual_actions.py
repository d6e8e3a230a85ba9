"""What a person decides: one step, with actor and reason, never past a failed check; and what they are asked."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dpo_pipeline.core.exposure import Audience, gets_challenger, is_control, plan_rollout
from dpo_pipeline.core.rollout import STAGES
from dpo_pipeline.core.serving_records import RequestRecord
from dpo_pipeline.core.winrate import Outcome
from dpo_pipeline.loop.manual_actions import order
from dpo_pipeline.loop.roll_out import decide_now
from dpo_pipeline.loop.rollout_evidence import gather
from dpo_pipeline.request_errors import InvalidRequest, OrderRefused
from dpo_pipeline.settings import RolloutPolicy, Settings
from dpo_pipeline.stores import artifacts
from dpo_pipeline.stores.ledger import Ledger, utc_now, utc_text
from dpo_pipeline.stores.serving_log import ServingLog
from dpo_pipeline_tests.examples import GivenVotes, put_version, request
from dpo_pipeline_tests.webhook import webhook

WON: list[tuple[str, Outcome]] = [(f"p{n % 8}", "loss" if n % 5 == 0 else "win") for n in range(120)]
VOTES = GivenVotes(WON)
LATER = timedelta(days=3)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path)


@pytest.fixture
def ledger(settings: Settings) -> Iterator[Ledger]:
    """v1.0 is champion, v1.1 is registered with a whole adapter."""
    with Ledger(settings.ledger_address) as opened:
        for name in ("v1.0", "v1.1"):
            folder = settings.artifacts_dir / name
            folder.mkdir(parents=True)
            (folder / "notes.txt").write_text(name)
            sha = str(artifacts.write_manifest(folder, {"version": name})["sha256"])
            put_version(opened, name, status="registered", adapter_sha=sha, adapter_dir=str(folder))
        opened.install_champion("v1.0", "test")
        yield opened


def served(settings: Settings, outcome: str) -> None:
    """Forty requests that the canary serves with v1.1, and as many of its control, which v1.0 answers well."""
    log = ServingLog(settings.serving_log_dir)
    names = [f"r{n}" for n in range(4000)]
    ours = [each for each in names if gets_challenger(each, "v1.1", 0.05)][:40]
    control = [each for each in names if is_control(each, "v1.1", 0.05)][:40]
    for name in (*ours, *control):
        version, met = ("v1.1", outcome) if name in ours else ("v1.0", "ok")
        log.append(
            RequestRecord(
                request_id=name, recorded_at=utc_now(), session_id="", user="ada", version=version, adapter_sha="1",
                stage="canary", shadow=False, latency_ms=90.0, ttft_ms=None, tokens=9, outcome=met,
            )
        )  # fmt: skip
    log.close()


def test_a_person_takes_a_version_to_full_traffic_step_by_step(settings: Settings, ledger: Ledger) -> None:
    with pytest.raises(OrderRefused, match=r"No version is being rolled out; v1\.0 is champion"):
        order(settings, ledger, "promote", "go", "ada")
    decide_now(settings, ledger, VOTES, "v1.1", "test")
    for stage in STAGES[1:]:
        assert order(settings, ledger, "promote", f"to {stage}, says a@home.example", "ada").stage == stage
    newest = ledger.decisions()[-1]
    assert (newest.decision, newest.stage, newest.actor) == ("promote", "full", "ada")
    assert newest.reasons == ("to full, says [e-mail]",), "redacted as everything that people type"
    assert ledger.deployment().champion == "v1.1"
    assert order(settings, ledger, "abort", "no", "ada").champion == "v1.0"


def test_a_promotion_by_hand_is_no_won_ab_test(settings: Settings, ledger: Ledger) -> None:
    decide_now(settings, ledger, VOTES, "v1.1", "test")
    order(settings, ledger, "promote", "go", "ada")
    plan = plan_rollout(settings.rollout, Audience())
    assert not gather(settings.serving_log_dir, ledger, ledger.deployment(), plan, datetime.now(UTC)).ab_won


def test_evidence_is_of_the_epoch_however_the_clock_is_set(settings: Settings, ledger: Ledger) -> None:
    """The clock is set back by half an hour in the canary: what it meets counts, what staging met does not."""
    decide_now(settings, ledger, VOTES, "v1.1", "test")
    order(settings, ledger, "promote", "go", "ada")
    state = ledger.deployment()
    now = datetime.now(UTC)
    in_canary = (f"r-{number}" for number in range(4000) if gets_challenger(f"r-{number}", "v1.1", 0.05))
    log = ServingLog(settings.serving_log_dir)
    for epoch in (state.epoch - 1, state.epoch, state.epoch + 1):
        moment = utc_text(now if epoch < state.epoch else now - timedelta(minutes=30))
        log.append_request(request(0, request_id=next(in_canary), recorded_at=moment, epoch=epoch))
    log.close()
    plan = plan_rollout(settings.rollout.model_copy(update={"unit": "request"}), Audience())
    assert gather(settings.serving_log_dir, ledger, state, plan, now).new.requests == 2, "not the one of staging"


def test_a_version_is_not_promoted_past_a_failed_check(settings: Settings, ledger: Ledger) -> None:
    decide_now(settings, ledger, VOTES, "v1.1", "test")
    with pytest.raises(InvalidRequest, match="Give a reason"):
        order(settings, ledger, "promote", " ", "ada")
    (settings.artifacts_dir / "v1.1" / "notes.txt").write_text("changed")
    with pytest.raises(OrderRefused, match=r"v1\.1 is not promoted: its adapter is not whole"):
        order(settings, ledger, "promote", "go", "ada")
    (settings.artifacts_dir / "v1.1" / "notes.txt").write_text("v1.1")
    put_version(ledger, "v1.0", base_sha="a")
    put_version(ledger, "v1.1", base_sha="b")
    with pytest.raises(OrderRefused, match=r"bound to another base model than v1\.0"):
        order(settings, ledger, "promote", "go", "ada")
    assert ledger.deployment().stage == "staging"


def test_a_version_is_not_promoted_past_evidence_of_harm(settings: Settings, ledger: Ledger) -> None:
    decide_now(settings, ledger, VOTES, "v1.1", "test")
    order(settings, ledger, "promote", "go", "ada")
    served(settings, "crash")
    with pytest.raises(OrderRefused, match=r"evidence of harm \(.*crash rate.*The next check rolls it back"):
        order(settings, ledger, "promote", "go on", "ada")
    assert decide_now(settings, ledger, VOTES, "v1.1", "test").decision == "rollback"


def test_paused_it_stays_and_resumed_it_goes_on(settings: Settings, ledger: Ledger) -> None:
    decide_now(settings, ledger, VOTES, "v1.1", "test")
    order(settings, ledger, "pause", "Sunday", "ada")
    held = decide_now(settings, ledger, VOTES, "v1.1", "test", datetime.now(UTC) + LATER)
    assert (held.decision, held.reasons[0]) == ("hold", "paused by a person; it would be promoted now")
    order(settings, ledger, "resume", "Monday", "ada")
    assert decide_now(settings, ledger, VOTES, "v1.1", "test", datetime.now(UTC) + LATER).decision == "promote"


def test_what_cannot_be_ruled_out_is_asked_once(tmp_path: Path) -> None:
    with webhook() as (address, received):
        asking = Settings(
            data_dir=tmp_path,
            rollout=RolloutPolicy(undecided="ask", min_requests=20),
            notifications={"urls": [address]},
        )
        with Ledger(asking.ledger_address) as ledger:
            for name in ("v1.0", "v1.1"):
                put_version(ledger, name, status="registered", adapter_sha=name[-1] * 64, adapter_dir="there")
            ledger.install_champion("v1.0", "test")
            decide_now(asking, ledger, VOTES, "v1.1", "test")
            ledger.promote("canary", ledger.deployment().epoch, ("won",), {}, "test")
            served(asking, "ok")
            for hours in (40, 41, 42):
                held = decide_now(asking, ledger, VOTES, "v1.1", "test", datetime.now(UTC) + timedelta(hours=hours))
                assert held.decision == "hold" and held.asks
            assert ledger.decisions()[-1].evidence["asked"]
    [asked] = received
    assert asked["title"] == "v1.1 is waiting for you: does it go from canary to small?"
    assert "are not ruled out: up to" in asked["message"], "with the figures"
    assert "dpo rollout promote --reason" in asked["message"] and "/rollout" in asked["message"]


def test_the_forecast_stands_beside_the_begin_of_staging(settings: Settings, ledger: Ledger) -> None:
    decide_now(settings, ledger, VOTES, "v1.1", "test")
    begun = ledger.decisions()[-1]
    assert [stage["stage"] for stage in begun.evidence["forecast"]["stages"]] == list(STAGES[:-1])
    assert set(begun.evidence["forecast"]["votes_needed"]) == {"55%", "60%", "65%", "75%"}


def test_the_same_orders_from_the_command_line(
    settings: Settings, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    from dpo_pipeline.cli import app

    monkeypatch.setenv("DPO_DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("LOGNAME", "ada")

    def dpo(*words: str) -> str:
        return CliRunner().invoke(app, ["rollout", *words]).output

    assert "No version is being rolled out; champion v1.0." in dpo("show")
    decide_now(settings, ledger, VOTES, "v1.1", "test")
    assert "v1.1 is promoted from staging to canary." in dpo("promote", "--reason", "read its answers")
    assert "v1.1 is paused at canary" in dpo("pause", "--reason", "Sunday")
    assert "v1.1 at canary, 5% of the traffic, paused" in dpo("show")
    assert "v1.1 is resumed at canary" in dpo("resume", "--reason", "Monday")
    assert "v1.1 is rolled back; v1.0 answers everybody" in dpo("abort", "--reason", "slow")
    actors = [each.actor for each in ledger.decisions("v1.1")]
    assert actors[1:] == [f"ada, dpo rollout {what}" for what in ("promote", "pause", "resume", "abort")]
