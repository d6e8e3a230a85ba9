"""How many durable votes a second do 32 writers get, against one sync for each vote?

Ours is `stores.group_commit`, which the vote route awaits: coroutines that wait together share one
`fdatasync`. The rival writes as carefully (lock, one write, one `fdatasync`) but for each vote alone, in
a thread for each writer, since it blocks. Both acknowledge a vote only when it is on disk; the sides
take turns on the same disk. Goal: at least 10 ×.
"""

import argparse
import asyncio
import fcntl
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from inputs import settings_for
from reporting import Goal, report, show
from synthetic_votes import vote_lines

from dpo_pipeline.stores.group_commit import GroupCommit, committing
from dpo_pipeline.stores.log import AppendLog

WRITERS = 32


def one_sync_each(path: Path) -> Callable[[bytes], None]:
    """The plain way: nobody shares anything."""

    def append(line: bytes) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            os.write(descriptor, line + b"\n")
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)

    return append


def votes_a_second(append: Callable[[bytes], None], lines: list[bytes]) -> float:
    """Threads: every writer has its share of the lines, and sends the next when the last is on disk."""

    def write(share: list[bytes]) -> None:
        for line in share:
            append(line)

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(append, lines[:WRITERS]))
        begin = time.perf_counter()
        list(pool.map(write, [lines[writer::WRITERS] for writer in range(WRITERS)]))
        return len(lines) / (time.perf_counter() - begin)


async def shared_votes_a_second(log: GroupCommit[bytes, None], lines: list[bytes]) -> float:
    """Coroutines: the same."""

    async def write(share: list[bytes]) -> None:
        for line in share:
            await log.submit(line)

    await asyncio.gather(*(log.submit(line) for line in lines[:WRITERS]))
    begin = time.perf_counter()
    await asyncio.gather(*(write(lines[writer::WRITERS]) for writer in range(WRITERS)))
    return len(lines) / (time.perf_counter() - begin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="a directory on the disk to measure; default: of the settings")
    parser.add_argument("--votes", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    settings = settings_for(args.data_dir)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    lines = [line.rstrip(b"\n") for line in itertools.islice(vote_lines(settings.bank_dir), args.votes)]
    found: dict[str, list[float]] = {"shared sync": [], "one sync a vote": []}
    with tempfile.TemporaryDirectory(dir=settings.data_dir) as directory:
        for turn in range(args.rounds):
            ours = committing(AppendLog(Path(directory) / f"ours-{turn}"))
            found["shared sync"].append(asyncio.run(shared_votes_a_second(ours, lines)))
            rival = one_sync_each(Path(directory) / f"rival-{turn}")
            found["one sync a vote"].append(votes_a_second(rival, lines[: args.votes // 4]))
        written = (Path(directory) / "ours-0").read_bytes().count(b"\n")
    assert written == args.votes + WRITERS, f"{written} lines are on disk"
    rows = [{"side": name, "votes a second, median": statistics.median(runs)} for name, runs in found.items()]
    our_rate, rival_rate = (row["votes a second, median"] for row in rows)
    show(f"{WRITERS} writers, every vote on disk before it is acknowledged", rows)
    report("votes", [Goal("durable votes over one sync each,", our_rate / rival_rate, "at least", 10)], {"rows": rows})  # type: ignore[operator]


if __name__ == "__main__":
    main()
