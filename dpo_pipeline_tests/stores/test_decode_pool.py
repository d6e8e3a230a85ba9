"""Several processes read what one reads, in the same order; they end with the reader and never hide a fault."""

import os
from pathlib import Path

import duckdb
import psutil
import pytest

from dpo_pipeline.core.dataset import split_pairs
from dpo_pipeline.core.votes import encode_preference
from dpo_pipeline.errors import LogError, LogReplaced
from dpo_pipeline.loop import ingest as ingesting
from dpo_pipeline.loop.ingest import ingest, validate_new
from dpo_pipeline.settings import QualityCriteria
from dpo_pipeline.stores import decode_pool
from dpo_pipeline.stores.decode import Piece, Task
from dpo_pipeline.stores.decode_pool import read_log
from dpo_pipeline.stores.log_reading import Position
from dpo_pipeline.stores.warehouse import Warehouse, prepare
from dpo_pipeline_tests.examples import LONG, SHORT, preference

pytestmark = pytest.mark.slow

CRITERIA = QualityCriteria()
LIMIT = 5_000


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Votes of every kind, lines sent twice, and dirt, with a torn tail."""
    votes = [
        encode_preference(
            preference(
                i % 90,
                vote=("a", "a", "b", "tie", "both_bad")[i % 5],
                event_id=f"evt-{i % 190}",
                response_a=f"{LONG} \u2028 Nummer {i % 31}.",
                annotator=f"person-{i % 3}",
            )
        )
        for i in range(200)
    ]
    dirt = [votes[0][:60], b"", b"\x00" * 9, b'{"event_id": "\xff"}', b"x" * (LIMIT + 1), b"x" * 3 * LIMIT]
    for index, line in enumerate(dirt):
        votes.insert(30 * index + 7, line)
    path = tmp_path / "prefs.jsonl"
    path.write_bytes(b"\n".join(votes) + b'\n{"torn')
    return path


def by_processes(monkeypatch: pytest.MonkeyPatch, wanted: bool) -> None:
    monkeypatch.setattr(decode_pool, "SPAN_BYTES", 9_000)
    monkeypatch.setattr(decode_pool, "PARALLEL_BYTES", 0 if wanted else 1 << 40)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)


def children() -> set[int]:
    return {
        process.pid for process in psutil.Process().children() if "stores.decode_pool" in " ".join(process.cmdline())
    }


def test_processes_read_what_one_reads(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pieces(several: bool) -> list[Piece]:
        by_processes(monkeypatch, several)
        return list(read_log(log, Position(), LIMIT, CRITERIA))

    alone, together = pieces(False), pieces(True)
    assert len(alone) > 5
    assert [(p.bad, p.end) for p in together] == [(p.bad, p.end) for p in alone]
    assert all(one.votes.equals(other.votes) for one, other in zip(together, alone, strict=True))
    assert alone[-1].end.offset == log.stat().st_size - len(b'{"torn')
    assert sum(len(p.bad) for p in alone) == 5
    assert children() == set()


def test_the_warehouse_is_the_same_whoever_read(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingesting, "COMMIT_ROWS", 50)
    found = []
    for several in (False, True):
        by_processes(monkeypatch, several)
        quarantine = tmp_path / f"{several}.jsonl"
        with duckdb.connect(str(tmp_path / f"{several}.duckdb")) as connection:
            prepare(connection)
            warehouse = Warehouse(connection, log)
            report = ingest(warehouse, quarantine, LIMIT, CRITERIA)
            validate_new(warehouse, CRITERIA)
            verdicts = connection.execute("select * from validations order by sequence").fetchall()
            rows = connection.execute("select * from preferences order by sequence").fetchall()
            dataset = split_pairs(warehouse.valid_pairs(), frozenset(), 0.1, 8).content_hash
            found.append((report, verdicts, rows, dataset, warehouse.tallies(), quarantine.read_text()))
    assert found[0] == found[1]
    assert found[0][0].repeats == 10


def test_it_goes_on_behind_what_was_read(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_processes(monkeypatch, True)
    [first, *rest] = read_log(log, Position(), LIMIT, CRITERIA)
    assert [p.end for p in read_log(log, first.end, LIMIT, CRITERIA)] == [p.end for p in rest]


def test_whoever_stops_early_leaves_no_process(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_processes(monkeypatch, True)
    pieces = read_log(log, Position(), LIMIT, CRITERIA)
    next(pieces)
    assert len(children()) == decode_pool.WORKERS
    pieces.close()
    assert children() == set()


def test_a_process_that_dies_is_an_error(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_processes(monkeypatch, True)
    pieces = read_log(log, Position(), LIMIT, CRITERIA)
    next(pieces)
    for pid in children():
        psutil.Process(pid).kill()
    with pytest.raises(LogError, match=r"status -9.*run it again"):
        list(pieces)
    assert children() == set()


def test_a_process_refuses_a_log_that_was_replaced(log: Path) -> None:
    worker = decode_pool._Worker()
    try:
        end = log.stat().st_size
        worker.begin(Task(str(log), Position(100, inode=1, device=1), end, LIMIT, CRITERIA))
        with pytest.raises(LogReplaced, match="dpo rebuild"):
            worker.result()
    finally:
        worker.close()


def test_no_log_is_no_votes(tmp_path: Path) -> None:
    assert list(read_log(tmp_path / "none.jsonl", Position(), LIMIT, CRITERIA)) == []


def test_what_a_process_is_told_fits_on_a_line(log: Path) -> None:
    worker = decode_pool._Worker()
    odd = log.rename(log.with_name("pre\nfs \u2028.jsonl"))
    odd.write_bytes(encode_preference(preference(response_b=SHORT)) + b"\n")
    try:
        worker.begin(Task(str(odd), Position(), odd.stat().st_size, LIMIT, CRITERIA))
        assert worker.result().votes["line_bytes"].to_pylist() == [odd.stat().st_size - 1]
    finally:
        worker.close()
