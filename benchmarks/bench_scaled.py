"""What does a shared Postgres cost beside the files of one machine, and is every vote there once whatever is killed?

Ours is `stores.vote_log.SharedVotes` in two processes, as two servers have it, and `stores.shared_logs`, which brings
rows to a machine as a file; the rival in the same run is the default, `FileVotes` and the file itself. Votes are
1.9 kB each, 64 wait at once in each process; the writers are no HTTP servers, which would be the limit long before
(`bench_voters`). Half-way one process is killed with -9 and started again, and the database is killed and started
again. Postgres is Debian's with its defaults (fsync on), on the same cores and disk as everything else here.
Goals: every acknowledged vote once; 5,000 votes a second, p99 25 ms; open and read a ledger in 5 ms; rows become a file
and are ingested and judged at 20,000 a second within 2 GB; 1,000 more on top at most 1.5 × what they cost on 10,000.
"""

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from bench_ingest import SMALL, TICK, fresh_ticks, write_logs
from inputs import settings_for
from reporting import Goal, report, say, show
from synthetic_votes import vote_lines

from dpo_pipeline.core.votes import Preference, decode_preference
from dpo_pipeline.engines import postgres
from dpo_pipeline.errors import InvalidRecord, LogWriteError
from dpo_pipeline.stores.database import engine_of
from dpo_pipeline.stores.ledger import Ledger
from dpo_pipeline.stores.log import AppendLog
from dpo_pipeline.stores.log_tables import LINES, prepare
from dpo_pipeline.stores.shared_logs import SharedLogs
from dpo_pipeline.stores.vote_log import FileVotes, SharedVotes, VoteLog

AT_ONCE, RATE, P99_MS, OPEN_MS, INGEST_RATE, MEMORY_GB, GROWTH = 64, 5_000, 25, 5, 20_000, 2.0, 1.5
LOG = "llmops/dpo/prefs.jsonl"


def votes(bank_dir: Path, seed: int, count: int) -> list[Preference]:
    """Those of the synthetic lines that are whole."""
    found: list[Preference] = []
    for line in vote_lines(bank_dir, seed):
        try:
            found.append(decode_preference(line.rstrip(b"\n")))
        except InvalidRecord:
            continue
        if len(found) == count:
            break
    return found


async def send_all(log: VoteLog, events: list[Preference], told: int) -> list[float]:
    """Milliseconds of each; what is refused is sent again. The id of each that is acknowledged is written to `told`."""
    waiting, took = iter(events), list[float]()

    async def one_after_the_other() -> None:
        for event in waiting:
            begin = time.perf_counter()
            while True:
                try:
                    await log.record(event)
                    break
                except LogWriteError:
                    await asyncio.sleep(0.05)
            took.append(1000 * (time.perf_counter() - begin))
            os.write(told, f"{event.event_id}\n".encode())

    await asyncio.gather(*(one_after_the_other() for _ in range(AT_ONCE)))
    return took


def write(url: str, folder: Path, seed: int, count: int) -> None:
    """One server's part, in a process of its own; started again, it sends what was not acknowledged before."""
    settings = settings_for(None)
    path = folder / "acknowledged"
    folder.mkdir(parents=True, exist_ok=True)
    path.touch()
    known = set(path.read_text().split())
    events = [event for event in votes(settings.bank_dir, seed, count) if event.event_id not in known]
    log: VoteLog = (
        SharedVotes(SharedLogs(engine_of(url), folder), folder / LOG)
        if url
        else FileVotes(AppendLog(folder / LOG), settings.collection.max_line_bytes, None)
    )
    print("ready", flush=True)
    sys.stdin.readline()
    begin = time.perf_counter()
    told = os.open(path, os.O_WRONLY | os.O_APPEND)
    took = sorted(asyncio.run(send_all(log, events, told)))
    seconds = time.perf_counter() - begin
    print(json.dumps({"votes": len(took), "seconds": seconds, "p99_ms": took[int(0.99 * len(took))]}), flush=True)


class Writer:
    """A process of `write`, ready and waiting."""

    def __init__(self, url: str, folder: Path, seed: int, count: int):
        self._command = [sys.executable, __file__, "--write", url, str(folder), str(seed), str(count)]
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout and self._process.stdin
        self._out, self._in = self._process.stdout, self._process.stdin
        assert self._out.readline() == "ready\n"

    def go(self) -> None:
        print(file=self._in, flush=True)

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def result(self) -> dict[str, float]:
        told: dict[str, float] = json.loads(self._out.readline())
        self._process.wait()
        return told


def rate(writers: list[Writer]) -> dict[str, Any]:
    """All of them at once."""
    begin = time.perf_counter()
    for each in writers:
        each.go()
    told = [each.result() for each in writers]
    seconds = time.perf_counter() - begin
    return {
        "votes a second": sum(each["votes"] for each in told) / seconds,
        "p99, ms": max(each["p99_ms"] for each in told),
    }


def through_kills(url: str, folder: Path, count: int, server: "Killable") -> dict[str, int]:
    """How often each vote is there that two servers were sent, one of which is killed, and then the database."""
    folders = [folder / name for name in ("killed", "other")]
    writers = [Writer(url, each, seed, count // 2) for seed, each in enumerate(folders, 100)]
    for each in writers:
        each.go()
    while len((folders[0] / "acknowledged").read_text().split()) < count // 8:
        time.sleep(0.05)
    writers[0].kill()
    say("one server is killed and started again")
    writers[0].start()
    writers[0].go()
    time.sleep(1)
    say("the database is killed and started again")
    server.kill()
    for each in writers:
        each.result()
    acknowledged = Counter(line for each in folders for line in (each / "acknowledged").read_text().split())
    keys = sa.select(LINES.c.key).where(LINES.c.key.like("100-%") | LINES.c.key.like("101-%"))
    with engine_of(url).connect() as connection:
        there = Counter(connection.scalars(keys))
    return {
        "acknowledged": len(acknowledged),
        "not there": len(acknowledged.keys() - there.keys()),
        "there twice": sum(times > 1 for times in there.values()),
        "there": len(there),
    }


class Killable:
    """The Postgres of this run; its supervisor starts it again."""

    def __init__(self, url: str):
        with engine_of(url).connect() as connection:
            self._data = str(connection.scalar(sa.text("show data_directory")))

    def kill(self) -> None:
        os.kill(int((Path(self._data) / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)


def milliseconds_to_read(address: str, times: int = 50) -> float:
    """To open a ledger and read the deployment, warm."""
    took = []
    for _ in range(times):
        begin = time.perf_counter()
        with Ledger(address) as ledger:
            ledger.deployment()
        took.append(1000 * (time.perf_counter() - begin))
    return statistics.median(took[5:])


def fill(url: str, folder: Path, log: Path) -> float:
    """Put the lines of a file into the database, with their keys left out; returns the seconds."""
    shared, begin = SharedLogs(engine_of(url), folder), time.perf_counter()
    with log.open("rb") as file:
        while batch := [line.removesuffix(b"\n") for line in islice(file, 5_000)]:
            shared.append(folder / LOG, batch, [None] * len(batch))
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="a directory on the disk to measure; default: of the settings")
    parser.add_argument("--votes", type=int, default=100_000, help="votes that two servers are sent")
    parser.add_argument("--rows", type=int, default=1_000_000, help="votes that are ingested")
    parser.add_argument("--write", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.write:
        write(args.write[0], Path(args.write[1]), int(args.write[2]), int(args.write[3]))
        return
    settings = settings_for(args.data_dir)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=settings.data_dir) as directory:
        folder = Path(directory)
        with postgres(folder / "postgres", folder) as url:
            measured, goals = measure(url, folder, args.votes, args.rows, settings.bank_dir)
    report("scaled", goals, measured)


def measure(url: str, folder: Path, count: int, rows: int, bank_dir: Path) -> tuple[dict[str, Any], list[Goal]]:
    prepare(engine_of(url))
    sides = {
        "two servers, Postgres": rate([Writer(url, folder / f"rate-{n}", n, count // 2) for n in range(2)]),
        "one server, file": rate([Writer("", folder / "rival", 9, count)]),
    }
    show(f"{count:,} votes, {AT_ONCE} at once in each", [{"side": name, **row} for name, row in sides.items()])
    kept = through_kills(url, folder, count, Killable(url))
    show("one server and the database killed meanwhile", [kept])
    reads = {"Postgres": milliseconds_to_read(url), "SQLite": milliseconds_to_read(f"sqlite:///{folder / 'ledger.db'}")}
    show("to open a ledger and read it, warm", [{"ledger": name, "ms": ms} for name, ms in reads.items()])
    ingested, plain = measure_ingest(url, folder, rows, bank_dir)
    ours, shared = sides["two servers, Postgres"], ingested[-1]
    goals = [
        Goal("votes a second at two servers:", ours["votes a second"], "at least", RATE),
        Goal("p99 of a vote, ms:", ours["p99, ms"], "at most", P99_MS),
        Goal("acknowledged votes that are not there, or twice:", kept["not there"] + kept["there twice"], "at most", 0),
        Goal("to open and read a ledger, ms:", reads["Postgres"], "at most", OPEN_MS),
        Goal("votes copied, ingested and judged a second:", shared["votes a second"], "at least", INGEST_RATE),
        Goal("memory of that, GB:", shared["peak_gb"], "at most", MEMORY_GB),
        Goal(
            f"{TICK:,} more on top of {rows:,}, over on {SMALL:,}:",
            shared["tick_s"] / ingested[0]["tick_s"],
            "at most",
            GROWTH,
        ),
    ]
    return {"sides": sides, "kills": kept, "ledger_ms": reads, "ingest": ingested, "file": plain}, goals


def measure_ingest(
    url: str, folder: Path, rows: int, bank_dir: Path
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """From the table into judged pairs, on a small log and on the large one; and the same from the file."""
    logs = write_logs(folder, rows, bank_dir)
    sizes = {size: logs[size] for size in (min(SMALL, rows), rows)}
    found = []
    for size, file in sizes.items():
        machine = folder / f"machine-{size}"
        with engine_of(url).begin() as connection:
            connection.execute(sa.delete(LINES))
        say(f"{size:,} votes into the database: {fill(url, machine, file):.1f} s")
        found.append(copied_and_judged(url, machine, size, bank_dir))
    show("from the table: copied as a file, ingested and judged", found)
    plain = [{"rows": row["rows"], "seconds": row["seconds"]} for row in fresh_ticks(sizes)]
    show("from the file that is there", plain)
    return found, plain


def copied_and_judged(url: str, machine: Path, size: int, bank_dir: Path) -> dict[str, Any]:
    log = machine / LOG
    begin = time.perf_counter()
    SharedLogs(engine_of(url), machine).follow()
    copied = time.perf_counter() - begin
    [judged] = fresh_ticks({size: log})
    more = [line.rstrip(b"\n") for line in islice(vote_lines(bank_dir, seed=2), TICK)]
    ticks = []
    for _ in range(3):
        SharedLogs(engine_of(url), machine).append(log, more, [None] * len(more))
        begin = time.perf_counter()
        SharedLogs(engine_of(url), machine).follow()
        followed = time.perf_counter() - begin
        ticks.append(followed + fresh_ticks({size: log})[0]["seconds"])
    return {
        "rows": size,
        "copied_s": copied,
        "judged_s": judged["seconds"],
        "votes a second": size / (copied + judged["seconds"]),
        "peak_gb": judged["peak_gb"],
        "tick_s": statistics.median(ticks),
    }


if __name__ == "__main__":
    main()
