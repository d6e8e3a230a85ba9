"""The serving log: what is counted of it, and what a broken line costs."""

import logging
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dpo_pipeline.core.exposure import Unit, gets_challenger, unit_key
from dpo_pipeline.stores.log import AppendLog
from dpo_pipeline.stores.serving_log import (
    FeedbackRecord,
    RequestRecord,
    ServingLog,
    read_records,
    stage_metrics,
    version_metrics,
)

DAY = "2026-01-05T10:00:00.000Z"


def rating(person: str, stars: int, request: str) -> FeedbackRecord:
    event = f"evt-{person}-{request}-{stars}"
    return FeedbackRecord(
        event_id=event, recorded_at=DAY, request_id=request, user=person, version="v1.1", signal="rating", value=stars
    )


def request(number: int, **fields: Any) -> RequestRecord:
    usual: dict[str, Any] = {
        "request_id": f"r-{number}", "recorded_at": DAY, "session_id": "", "user": "ann", "version": "v1.1",
        "adapter_sha": "0" * 64, "stage": "canary", "shadow": False, "latency_ms": 100.0, "ttft_ms": None,
        "tokens": 5, "outcome": "ok",
    }  # fmt: skip
    return RequestRecord(**{**usual, **fields})


def test_one_person_is_one_voice_and_a_request_is_rated_once(tmp_path: Path) -> None:
    log = ServingLog(tmp_path)
    for number in range(100):
        log.append(rating("flood", 1, "r-1" if number % 2 else f"r-{number}"))
    for person in ("ann", "bob", "cleo"):
        log.append(rating(person, 2, f"r-of-{person}"))
        log.append(rating(person, 5, f"r-of-{person}"))
    log.close()
    metrics = version_metrics(tmp_path, DAY, ["v1.1"])["v1.1"]
    assert metrics.satisfaction == (1 + 5 + 5 + 5) / 4
    assert metrics.ratings == 51 + 3, "the newest rating of each request"


def test_whoever_names_a_version_is_not_among_its_people(tmp_path: Path) -> None:
    """A load test of v1.1 by name, by somebody whom the rollout serves v1.0, and the other way round."""
    served = next(f"user {n}" for n in range(1000) if gets_challenger(f"user {n}", "v1.1", 0.2))
    others = next(f"user {n}" for n in range(1000) if not gets_challenger(f"user {n}", "v1.1", 0.2))
    log = ServingLog(tmp_path)
    for number, (user, version) in enumerate([(served, "v1.1"), (others, "v1.1"), (served, "v1.0"), (others, "v1.0")]):
        log.append_request(request(number, user=user, version=version))
    log.append(rating(others, 1, "r-1"))
    log.close()
    new, baseline, people = stage_metrics(tmp_path, DAY, "v1.1", "v1.0", 0.2, 2000.0)
    assert (new.requests, new.ratings, people.new, baseline.requests) == (1, 0, 1, 1)


def test_what_nobody_vouches_for_is_no_evidence(tmp_path: Path) -> None:
    """Strangers who fail, and who rate badly, beside one person with a key and one from before keys were."""
    log = ServingLog(tmp_path)
    served = [f"user {n}" for n in range(1000) if gets_challenger(f"user {n}", "v1.1", 0.2)]
    for number, (person, identity) in enumerate(zip(served, ["named", "anonymous", "new", None], strict=False)):
        known = {"identity": identity} if identity else {}
        outcome = "ok" if identity in ("named", None) else "error"
        log.append_request(request(number, user=person, outcome=outcome, **known))
        log.append(msgspec.structs.replace(rating(person, 5 if identity != "anonymous" else 1, f"r-{number}"), **known))
    log.close()
    new, _, met = stage_metrics(tmp_path, DAY, "v1.1", "v1.0", 0.2, 2000.0)
    assert (new.requests, new.errors, new.satisfaction, met.opinions.units) == (2, 0, 5, 2)
    everybody, _, _ = stage_metrics(tmp_path, DAY, "v1.1", "v1.0", 0.2, 2000.0, count_unproven=True)
    assert (everybody.requests, everybody.errors, everybody.ratings) == (4, 2, 4)


def test_a_line_that_is_no_record_is_told_and_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = ServingLog(tmp_path)
    log.append_request(request(1))
    log.append_request(request(2, outcome="error"))
    log.close()
    path = tmp_path / "2026-01-05.jsonl"
    first, second, _ = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([first, first[:40], b"\xff\xfe", second, b""]))
    with caplog.at_level(logging.WARNING):
        found = list(read_records(tmp_path, DAY))
    assert [msgspec.structs.asdict(each)["request_id"] for each in found] == ["r-1", "r-2"]
    assert [line for line in caplog.messages if "line 2 is no record" in line or "line 3 is no record" in line]
    assert version_metrics(tmp_path, DAY, ["v1.1"])["v1.1"].errors == 1


@pytest.mark.parametrize("unit", ["person", "conversation", "request"])
def test_a_rating_counts_also_where_it_is_written_before_its_request(tmp_path: Path, unit: Unit) -> None:
    """Requests are written a moment later than answered: who rates at once is in the log first."""
    numbers = [
        number
        for number in range(200)
        if gets_challenger(unit_key(unit, f"p{number}", f"talk {number}", f"r-{number}"), "v1.1", 0.2)
    ]
    day = AppendLog(tmp_path / f"{DAY[:10]}.jsonl")
    day.append_all([msgspec.json.encode(rating(f"p{number}", 4, f"r-{number}")) for number in numbers])
    asked = [request(number, user=f"p{number}", conversation=f"talk {number}") for number in numbers]
    day.append_all([msgspec.json.encode(each) for each in asked])
    new, _, met = stage_metrics(tmp_path, DAY, "v1.1", "v1.0", 0.2, 2000.0, unit)
    assert len(numbers) > 20 and (new.requests, new.ratings, met.opinions.units) == (len(numbers),) * 3
    assert new.satisfaction == 4
