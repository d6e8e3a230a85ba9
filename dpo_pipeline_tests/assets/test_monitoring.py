"""The weekly report on a real warehouse, serving log and ledger; reminders to a real webhook."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq
import pytest

from dpo_pipeline.core.serving_records import FeedbackRecord, RequestRecord
from dpo_pipeline.core.votes import encode_preference
from dpo_pipeline.errors import NotificationFailed
from dpo_pipeline.loop.notify import error_alert, notify, reminder
from dpo_pipeline.loop.report import session_lengths
from dpo_pipeline.loop.trace import all_votes
from dpo_pipeline.settings import Settings, load_settings
from dpo_pipeline.stores.ledger import Ledger, utc_now, utc_text
from dpo_pipeline.stores.log import AppendLog
from dpo_pipeline.stores.reviews import ReviewLog
from dpo_pipeline.stores.serving_log import ServingLog
from dpo_pipeline_tests.assets.conftest import Loop
from dpo_pipeline_tests.examples import LONG, SHORT, preference, put_version, settings_in, withdrawal
from dpo_pipeline_tests.webhook import webhook

pytestmark = pytest.mark.slow


def people_were_here(settings: Settings) -> None:
    """Sixty votes for v1.1 over v1.0 by thirty people, and requests of both, one in twenty failing."""
    now = utc_now()
    votes = [
        preference(
            number, event_id=f"evt-{number}", recorded_at=now, model_a="v1.1", model_b="v1.0", source="ui",
            vote="a" if number % 4 else "b", response_a=LONG if number % 4 else SHORT,
            response_b=SHORT if number % 4 else LONG, annotator=f"p{number % 30}",
        )
        for number in range(60)
    ]  # fmt: skip
    AppendLog(settings.prefs_log).append_all([encode_preference(vote) for vote in votes])
    log = ServingLog(settings.serving_log_dir)
    for number in range(100):
        log.append_request(request(number, now, "error" if number % 20 == 0 else "ok"))
        if number % 2:
            log.append(
                FeedbackRecord(
                    event_id=f"r{number}", recorded_at=now, request_id=f"q{number}", user=f"u{number % 25}",
                    version="v1.1", signal="rating", value=5 if number % 4 == 1 else 4,
                )
            )  # fmt: skip
    log.close()


def request(number: int, moment: str, outcome: Any = "ok", session: str | None = None) -> RequestRecord:
    return RequestRecord(
        request_id=f"q{number}", recorded_at=moment, session_id=f"s{number // 4}" if session is None else session,
        user=f"u{number % 25}", version="v1.1", adapter_sha="0" * 64, stage="full", shadow=False, latency_ms=90.0,
        ttft_ms=None, tokens=5, outcome=outcome,
    )  # fmt: skip


def test_the_week_is_counted_told_and_alerted(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = loop.settings
    people_were_here(settings)
    with Ledger(settings.ledger_address) as ledger:
        put_version(ledger, "v1.0", status="retired", adapter_sha="0" * 64)
        put_version(ledger, "v1.1", status="champion", adapter_sha="1" * 64, parent="v1.0")
        ledger.install_champion("v1.1", actor="test")
    assert loop.run("ingest_and_validate").success
    with webhook() as (address, received):
        monkeypatch.setenv("DPO_NOTIFICATIONS__URLS", json.dumps([address]))
        result = loop.run("write_report")
    assert result.success
    told = json.loads((settings.reports_dir / "weekly.json").read_text())
    assert told["preferences_collected"] == 60 and told["model_comparison"]["v1.1_vs_v1.0"]["win_rate"] == 0.75
    assert told["data_quality"]["clear_winners"] == 1.0
    kpis = {row["name"]: row for row in pq.read_table(settings.reports_dir / "kpis.parquet").to_pylist()}
    assert kpis["error_rate"]["value"] == 0.05 and kpis["error_rate"]["alert"]
    assert kpis["user_satisfaction"]["value"] == 4.5 and kpis["session_length"]["value"] == 4.0
    page = (settings.reports_dir / "weekly.html").read_text()
    assert "Alert: Error rate" in page and "<svg" in page and "Invite people" in page
    # The longer answer won each time, whichever version gave it: that is named beside the raw win rate.
    assert "At equal length and side" in page and "v1.1 over v1.0: at equal lengths one side won every time" in page
    assert [message["title"] for message in received] == ["Alert: Error rate"]
    assert f"See {settings.serving_address}/reports/weekly." in received[0]["message"]
    days = pq.read_table(settings.reports_dir / "requests.parquet").to_pylist()
    assert sum(day["requests"] for day in days) == 100 and sum(day["errors"] for day in days) == 5
    [first, second] = pq.read_table(settings.reports_dir / "leaderboard.parquet").to_pylist()
    assert (first["version"], second["version"]) == ("v1.1", "v1.0")
    assert pq.read_table(settings.reports_dir / "trajectory.parquet").num_rows == 2
    assert "v1.1" in settings.report_page("trajectory").read_text()
    for asset, name in (("monitoring_report", "weekly"), ("improvement_trajectory", "trajectory")):
        shown = result.asset_materializations_for_node(asset)[0].metadata["page"]
        assert shown == dg.MetadataValue.url(f"{settings.serving_address}/reports/{name}")


def test_the_first_week_has_no_data_and_says_so(loop: Loop) -> None:
    assert loop.run("ingest_and_validate").success and loop.run("write_report").success
    told = json.loads((loop.settings.reports_dir / "weekly.json").read_text())
    assert told["preferences_collected"] == 0 and told["data_quality"]["clear_winners"] is None
    assert told["next_actions"][0] == "Continue collecting (100 more preferences)"


def test_people_are_invited_while_the_collection_is_behind(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = loop.settings
    people_were_here(settings)
    now = datetime.now(UTC)
    sunday = now + timedelta(days=6 - now.weekday())
    told = reminder(settings, sunday)
    assert told and told.title == "240 votes behind this week's target" and "50 questions" in told.body
    newest = max(all_votes(settings), key=lambda event: event.recorded_at)
    ReviewLog(settings.reviews_log).append(withdrawal(newest.event_id))
    told = reminder(settings, sunday)
    assert told and told.title == "241 votes behind this week's target"
    assert (
        reminder(
            settings.model_copy(update={"cadence": settings.cadence.model_copy(update={"weekly_target": 50})}), now
        )
        is None
    )
    # A week whose first day alone asks for more than these 59: a Monday may be today.
    monkeypatch.setenv("DPO_CADENCE__WEEKLY_TARGET", "700")
    with webhook() as (address, received):
        monkeypatch.setenv("DPO_NOTIFICATIONS__URLS", json.dumps([address]))
        assert loop.run("remind_people").success
    assert len(received) == 1 and "votes this week" in received[0]["message"]


def test_many_errors_in_an_hour_are_told_at_once(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, now = loop.settings, datetime.now(UTC)
    assert error_alert(settings, now) is None
    people_were_here(settings)
    told = error_alert(settings, datetime.now(UTC))
    assert told and told.title == "5.0% of the requests of the last hour failed"
    assert "`dpo rollout abort --reason" in told.body
    lenient = settings.model_copy(update={"kpis": settings.kpis.model_copy(update={"error_alert": 0.06})})
    assert error_alert(lenient, datetime.now(UTC)) is None
    with webhook() as (address, received):
        monkeypatch.setenv("DPO_NOTIFICATIONS__URLS", json.dumps([address]))
        assert loop.run("alert_people").success
    assert [message["title"] for message in received] == [told.title]


def test_errors_that_last_are_told_once_an_hour(tmp_path: Path) -> None:
    """One request a minute from ten o'clock on, of which every tenth fails from 10:55 on."""
    settings, log = settings_in(tmp_path), ServingLog(tmp_path / "llmops/serving")
    begin = datetime(2026, 11, 2, 10, tzinfo=UTC)
    for minute in range(240):
        failed = minute >= 55 and minute % 10 == 5
        log.append_request(request(minute, utc_text(begin + timedelta(minutes=minute)), "error" if failed else "ok"))
    log.close()
    quarters = [begin + timedelta(minutes=15 * number, seconds=5) for number in range(16)]
    told = [f"{quarter:%H:%M}" for quarter in quarters if error_alert(settings, quarter)]
    assert told == ["11:15", "12:00", "13:00"], "11:00 has one error in sixty, which is below 2 %"


def test_an_address_that_is_none_or_does_not_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPO_NOTIFICATIONS__URLS", '["nonsense"]')
    with pytest.raises(NotificationFailed, match="Address 1"):
        notify(load_settings().notifications, "title", "body")
    monkeypatch.setenv("DPO_NOTIFICATIONS__URLS", '["json://127.0.0.1:9/hook"]')
    with pytest.raises(NotificationFailed, match="could not be sent"):
        notify(load_settings().notifications, "title", "body")
    monkeypatch.delenv("DPO_NOTIFICATIONS__URLS")
    assert notify(load_settings().notifications, "title", "body") == 0


def test_visits_without_a_name_end_after_half_an_hour() -> None:
    moments = ["2026-01-05T10:00:00.000Z", "2026-01-05T10:20:00.000Z", "2026-01-05T11:00:00.000Z"]
    assert sorted(session_lengths([request(0, moment, session="") for moment in moments])) == [1, 2]
    assert session_lengths([request(0, moments[0], session="a"), request(1, moments[2], session="a")]) == [2]
