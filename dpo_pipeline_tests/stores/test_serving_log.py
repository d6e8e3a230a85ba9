"""The serving log: what a broken line costs."""

import logging
from pathlib import Path

import msgspec
import pytest

from dpo_pipeline.stores.serving_log import ServingLog, read_records
from dpo_pipeline_tests.examples import MOMENT, request


def test_a_line_that_is_no_record_is_told_and_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = ServingLog(tmp_path)
    log.append_request(request(1))
    log.append_request(request(2, outcome="error"))
    log.close()
    path = tmp_path / "2026-01-05.jsonl"
    first, second, _ = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([first, first[:40], b"\xff\xfe", second, b""]))
    with caplog.at_level(logging.WARNING):
        found = list(read_records(tmp_path, MOMENT))
    assert [msgspec.structs.asdict(each)["request_id"] for each in found] == ["r-1", "r-2"]
    assert [line for line in caplog.messages if "line 2 is no record" in line or "line 3 is no record" in line]
