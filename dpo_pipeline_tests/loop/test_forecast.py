"""Last week's usage from the logs, and the command that people run."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dpo_pipeline.core.forecast import Forecast
from dpo_pipeline.core.serving_records import RequestRecord
from dpo_pipeline.core.votes import encode_preference
from dpo_pipeline.loop.forecast import WeeklyUsage, last_week
from dpo_pipeline.reports import plots
from dpo_pipeline.reports.forecast_plot import rollout_forecast
from dpo_pipeline.settings import RolloutPolicy
from dpo_pipeline.stores.log import AppendLog
from dpo_pipeline_tests.browser import PICTURES
from dpo_pipeline_tests.examples import preference, settings_in

NOW = datetime.now(UTC)


def test_usage_is_read_from_the_logs(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    assert last_week(settings, NOW).people == 0
    begun = NOW - timedelta(days=2)
    for number in range(40):
        moment = (begun + timedelta(hours=number)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        record = RequestRecord(
            request_id=f"r-{number}", recorded_at=moment, session_id="", user=f"p{number % 8}", version="v1.0",
            adapter_sha="", stage="full", shadow=number % 4 == 3, latency_ms=1.0, ttft_ms=None, tokens=1, outcome="ok",
        )  # fmt: skip
        AppendLog(settings.serving_log_dir / f"{moment[:10]}.jsonl").append(msgspec.json.encode(record))
        AppendLog(settings.prefs_log).append(
            encode_preference(preference(number, recorded_at=moment, source="import" if number % 2 else "ui"))
        )
    found = last_week(settings, NOW)
    assert found.people == 6, "the shadow copies were nobody's"
    assert found.requests_a_day == pytest.approx(15, rel=0.01) and found.votes_a_day == pytest.approx(10, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--runs", "2", "--new-win-rate", "0.75"]])
def test_json_is_one_object_and_nothing_else(tmp_path: Path, more: list[str]) -> None:
    command = [sys.executable, "-m", "dpo_pipeline.cli", "forecast", "--people", "8", "--requests-a-day", "160"]
    command += ["--votes-a-day", "25", "--ratings-share", "0.3", "--json", *more]
    variables = {**os.environ, "DPO_DATA_DIR": str(tmp_path)}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True, timeout=120)
    found: dict[str, Any] = json.loads(done.stdout)
    wanted = {"won_ab", "reached_full", "rolled_back_for_harm", "rolled_back", "asked", "days_to_full"} if more else {
        "stages", "votes_needed", "advice"}  # fmt: skip
    assert found.keys() >= wanted


@pytest.mark.slow
def test_the_guides_plot_shows_three_audiences() -> None:
    """Drawn from the forecast itself; SCREENSHOTS=1 writes it into the guide."""
    audiences = {"8 people": (8, 160, 25), "40 people": (40, 800, 25), "1,000 people": (1000, 4000, 200)}
    forecasts = {}
    for name, (people, requests, votes) in audiences.items():
        usage = WeeklyUsage(people, requests, votes, ratings_share=0.3, conversations_a_day=requests / 4)
        forecasts[name] = usage.forecast(RolloutPolicy())
    drawn = plots.svg(rollout_forecast(forecasts), width=9.0, height=3.4)
    assert "<svg" in drawn and forecasts["8 people"] == Forecast.from_json(asdict(forecasts["8 people"]))
    seen = [forecasts[name].seen_error_rate for name in audiences]
    assert None not in seen and seen == sorted(seen, reverse=True), "larger audiences see smaller rates"  # type: ignore
    if os.environ.get("SCREENSHOTS") == "1":
        (PICTURES / "forecast.svg").write_text(drawn, encoding="utf-8")
