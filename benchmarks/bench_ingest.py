"""What does it cost to read and judge a vote, does it grow with the votes already there, and does it fit into memory?

Ours is `loop.ingest`: the log into DuckDB, then a validation result on every pair, with all criteria, all
processes included. The rival is the user's four criteria written literally in Python (`json.loads`,
`difflib`, a split on ".") on the first lines of the same log, each criterion's outcome known as it is
with ours; two variants are shown beside it. Votes are drawn from the bank's words: answers of about
670 characters, 2,000 people, a tenth of the votes ties, some pairs near copies, some lines broken.
Goals: 30 × a pair; at most 2 GB of memory; linear in rows (per row at most 1.5 × from the smallest to the
largest); 1,000 new votes on top of all rows at most 1.5 × what they cost on top of 10,000.
"""

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from difflib import SequenceMatcher
from itertools import islice
from pathlib import Path
from typing import Any

import duckdb
from inputs import settings_for
from reporting import Goal, report, say, show
from synthetic_votes import vote_lines

from dpo_pipeline.core.curation import summarise, with_second_looks
from dpo_pipeline.loop.ingest import LOG, ingest, validate_new
from dpo_pipeline.stores.decode_pool import WORKERS
from dpo_pipeline.stores.reviews import apply_reviews
from dpo_pipeline.stores.warehouse import Warehouse, prepare

SMALL, TICK = 10_000, 1_000
GOAL, MEMORY_GB, GROWTH = 30.0, 2.0, 1.5


def sides(line: bytes) -> tuple[str, str] | None:
    """Chosen and rejected; null where nobody won or the line is no JSON."""
    try:
        vote = json.loads(line)
    except ValueError:
        return None
    chosen, rejected = vote["chosen"], vote["rejected"]
    return None if chosen is None or rejected is None else (chosen, rejected)


def all_four(chosen: str, rejected: str, junk: bool = True) -> list[bool]:
    """The user's four criteria, word for word, the outcome of each."""
    return [
        len(chosen) > 0.5 * len(rejected),
        SequenceMatcher(None, chosen, rejected, junk).ratio() < 0.8,
        len(chosen) > 10 and len(rejected) > 10,
        _dots(chosen) > _dots(rejected),
    ]


def first_failure(chosen: str, rejected: str) -> bool:
    """The same, stopping at the first criterion that fails: cheaper, but it cannot say what else was wrong."""
    return (
        len(chosen) > 0.5 * len(rejected)
        and SequenceMatcher(None, chosen, rejected).ratio() < 0.8
        and len(chosen) > 10
        and len(rejected) > 10
        and _dots(chosen) > _dots(rejected)
    )


def exact(chosen: str, rejected: str) -> list[bool]:
    """All four without difflib's shortcut, which takes frequent characters of texts over 200 for junk."""
    return all_four(chosen, rejected, junk=False)


def _dots(text: str) -> int:
    return len([part for part in text.split(".") if part.strip()])


def tick(log: Path) -> dict[str, float]:
    """What one run of our side does, in this process: open, ingest what is new, judge it, sum up, close."""
    settings = settings_for(None)
    begin = time.perf_counter()
    with duckdb.connect(str(log.with_suffix(".duckdb"))) as connection:
        prepare(connection)
        warehouse = Warehouse(connection, log)
        ingested = ingest(warehouse, log.with_suffix(".bad"), settings.collection.max_line_bytes, settings.quality)
        middle = time.perf_counter()
        judged = validate_new(warehouse, settings.quality)
        apply_reviews(warehouse, log.with_suffix(".reviews"), log.with_suffix(".parquet"))
        tallies = warehouse.tallies()
        with_second_looks(summarise(tallies, warehouse.position(LOG).offset), *warehouse.second_looks())
    end = time.perf_counter()
    return {
        "ingest_s": middle - begin,
        "judge_s": end - middle,
        "seconds": end - begin,
        "votes": ingested.recorded,
        "pairs": judged - tallies.get("failed:no_winner", 0),
        "valid": tallies.get("valid", 0),
        "quarantined": ingested.quarantined,
        "peak_gb": _peak_gb(),
    }


def _peak_gb() -> float:
    """The most this process and the ones it started can have held together: the sum of their peaks."""
    own, largest = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return (own + WORKERS * largest) * 1024 / 1e9


def fresh_ticks(logs: dict[int, Path]) -> list[dict[str, Any]]:
    """`tick` on each log, by its rows, in a process of its own, so that its peak of memory is its own."""
    rows = []
    for size, log in logs.items():
        command = [sys.executable, __file__, "--tick", str(log)]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        rows.append({"rows": size, **json.loads(told.splitlines()[-1])})
        say(f"on the log of {size:,}: {rows[-1]['seconds']:.2f} s")
    return rows


def write_logs(folder: Path, rows: int, bank_dir: Path) -> dict[int, Path]:
    """A log of `rows` votes, and beside it smaller ones: its first tenth, and its first `SMALL` lines."""
    sizes = sorted({min(SMALL, rows), max(rows // 10, 1), rows})
    paths = {size: folder / f"{size}.jsonl" for size in sizes}
    with paths[rows].open("wb") as file:
        file.writelines(islice(vote_lines(bank_dir), rows))
    for size in sizes[:-1]:
        with paths[rows].open("rb") as source, paths[size].open("wb") as file:
            file.writelines(islice(source, size))
    return paths


def measure_rivals(log: Path, sample: int) -> dict[str, float]:
    """Microseconds a pair (a line somebody won) of each way to write the criteria; the exact one on a 20th."""
    rivals: dict[str, tuple[Callable[[str, str], object], int]] = {
        "literal, all four": (all_four, sample),
        "literal, first failure": (first_failure, sample),
        "all four, no junk shortcut": (exact, max(sample // 20, 1)),
    }
    costs = {}
    for name, (judge, count) in rivals.items():
        begin, pairs = time.perf_counter(), 0
        with log.open("rb") as file:
            for line in islice(file, count):
                if texts := sides(line):
                    judge(*texts)
                    pairs += 1
        costs[name] = 1e6 * (time.perf_counter() - begin) / pairs
    return costs


def measure_ticks(logs: dict[int, Path], ticks: int, bank_dir: Path) -> list[dict[str, Any]]:
    """1,000 new votes at a time on each log, the logs in turn: medians by log."""
    new, seen = vote_lines(bank_dir, seed=2), []
    for _ in range(ticks):
        batch = list(islice(new, TICK))
        for log in logs.values():
            with log.open("ab") as file:
                file.writelines(batch)
        seen += fresh_ticks(logs)
    names = ("seconds", "ingest_s", "judge_s")
    return [
        {
            "votes there": size,
            **{name: statistics.median(row[name] for row in seen if row["rows"] == size) for name in names},
        }
        for size in logs
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--sample", type=int, default=5_000, help="lines that the rival judges")
    parser.add_argument("--ticks", type=int, default=7)
    parser.add_argument("--tick", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.tick:
        print(json.dumps(tick(args.tick)))
        return
    folder = Path(tempfile.mkdtemp(prefix="bench-ingest-"))
    try:
        compare(folder, args.rows, args.sample, args.ticks)
    finally:
        shutil.rmtree(folder)


def compare(folder: Path, rows: int, sample: int, ticks: int) -> None:
    bank_dir = settings_for(None).bank_dir
    logs = write_logs(folder, rows, bank_dir)
    say(f"{rows:,} votes written, {logs[rows].stat().st_size / 1e9:.2f} GB")
    sizes = fresh_ticks(logs)
    for row in sizes:
        row["us a pair"] = 1e6 * row["seconds"] / row["pairs"]
    costs = {"ours": sizes[-1]["us a pair"], **measure_rivals(logs[rows], sample)}
    show("Ours: log to validation results, each size in a fresh process", sizes)
    ahead = measure_ticks({size: logs[size] for size in (min(logs), rows)}, ticks, bank_dir)
    show(f"One run with {TICK:,} new votes, median of {ticks}", ahead)
    show(f"A pair; rivals on {sample:,} lines", [{"side": name, "us": cost} for name, cost in costs.items()])
    growth = sizes[-1]["us a pair"] / sizes[0]["us a pair"]
    tick_growth = ahead[-1]["seconds"] / ahead[0]["seconds"]
    goals = [
        Goal("speed-up a pair over literal Python", costs["literal, all four"] / costs["ours"], "at least", GOAL),
        Goal("peak memory in GB", max(row["peak_gb"] for row in sizes), "at most", MEMORY_GB),
        Goal("cost a row, largest over smallest log,", growth, "at most", GROWTH),
        Goal("1,000 more votes, on top of all over on top of 10,000,", tick_growth, "at most", GROWTH),
    ]
    report("ingest", goals, {"sizes": sizes, "us_a_pair": costs, "sample": sample, "ticks": ahead})


if __name__ == "__main__":
    main()
