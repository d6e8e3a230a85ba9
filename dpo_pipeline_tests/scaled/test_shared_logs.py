"""Logs that several machines share: every copy is the file that one machine would have written, and no line is lost."""

import asyncio
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from dpo_pipeline.core.votes import Preference, Vote, encode_preference
from dpo_pipeline.errors import DatabaseUnavailable, LogReplaced, LogWriteError, MigrationRefused
from dpo_pipeline.stores.log import AppendLog
from dpo_pipeline.stores.log_reading import Position, read_batches
from dpo_pipeline.stores.log_tables import LINES, prepare
from dpo_pipeline.stores.shared_logs import SharedLogs
from dpo_pipeline.stores.vote_log import Recording, SharedVotes
from dpo_pipeline_tests.examples import preference
from dpo_pipeline_tests.postgres import Postgres

pytestmark = pytest.mark.slow

NAMES = ("llmops/dpo/prefs.jsonl", "llmops/serving/2026-11-28.jsonl")


@pytest.fixture
def machines(engine: sa.Engine, tmp_path: Path) -> list[SharedLogs]:
    """Three, each with a folder of its own."""
    prepare(engine)
    return [SharedLogs(engine, tmp_path / name) for name in "abc"]


def write(logs: SharedLogs, folder: Path, *lines: bytes, log: str = NAMES[0]) -> None:
    logs.open(folder / log, durable=False).append_all(lines)


def test_copies_are_equal_and_are_the_file_of_one_machine(machines: list[SharedLogs], tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    for turn in range(5):
        for name, logs in zip("ab", machines, strict=False):
            lines = [f"{name} {turn} {number} \u2028".encode() for number in range(turn)]
            for log in NAMES:
                write(logs, tmp_path / name, *lines, log=log)
                AppendLog(alone / log).append_all(lines)
        machines[turn % 3].follow()
    for name, logs in zip("abc", machines, strict=True):
        logs.follow()
        assert logs.follow() == 0
        for log in NAMES:
            assert (tmp_path / name / log).read_bytes() == (alone / log).read_bytes()


def test_a_line_that_is_committed_late_is_not_lost(
    machines: list[SharedLogs], engine: sa.Engine, tmp_path: Path
) -> None:
    """A number is drawn when a line is written, and may be committed after later ones have been read."""
    slow = engine.connect()
    slow.execute(sa.insert(LINES).values(log=NAMES[0], line=b"early, and slow"))
    write(machines[0], tmp_path / "a", b"late, and quick")
    assert machines[0].follow() == 0, "what came after one that is under way waits for it"
    slow.commit()
    slow.close()
    assert [logs.follow() for logs in machines] == [2, 2, 2]
    copies = {(tmp_path / name / NAMES[0]).read_bytes() for name in "abc"}
    assert copies == {b"early, and slow\nlate, and quick\n"}


def test_what_is_rolled_back_holds_nobody_up(machines: list[SharedLogs], engine: sa.Engine, tmp_path: Path) -> None:
    with engine.connect() as given_up:
        given_up.execute(sa.insert(LINES).values(log=NAMES[0], line=b"never"))
        given_up.rollback()
    write(machines[0], tmp_path / "a", b"always")
    assert machines[1].follow() == 1
    assert (tmp_path / "b" / NAMES[0]).read_bytes() == b"always\n"


def test_a_copy_that_was_cut_short_or_deleted_is_made_again(machines: list[SharedLogs], tmp_path: Path) -> None:
    logs, copy = machines[0], tmp_path / "a" / NAMES[0]
    write(logs, tmp_path / "a", b"one", b"two")
    logs.follow()
    whole = copy.read_bytes()
    with copy.open("ab") as file:  # killed between the lines and the note of how far they go
        file.write(b"thr")
    write(logs, tmp_path / "a", b"three")
    logs.follow()
    assert copy.read_bytes() == whole + b"three\n"
    copy.write_bytes(copy.read_bytes()[:5])  # what a power cut leaves
    logs.follow()
    assert copy.read_bytes() == whole + b"three\n"
    copy.unlink()
    logs.follow()
    assert copy.read_bytes() == whole + b"three\n"


def test_what_is_forgotten_goes_everywhere_and_whoever_was_reading_is_told(
    machines: list[SharedLogs], tmp_path: Path
) -> None:
    for number in range(10):
        write(machines[0], tmp_path / "a", b"ann %d" % number, b"bob %d" % number)
    for logs in machines:
        logs.follow()
    [read] = read_batches(tmp_path / "b" / NAMES[0], Position(), 1000)
    gone = machines[0].rewrite(tmp_path / "a" / NAMES[0], lambda line: None if line.startswith(b"ann") else line)
    assert gone == 10
    assert machines[0].rewrite(tmp_path / "a" / NAMES[0], lambda line: line) == 0
    write(machines[2], tmp_path / "c", b"bob again")
    for name, logs in zip("abc", machines, strict=True):
        logs.follow()
        lines = (tmp_path / name / NAMES[0]).read_bytes().splitlines()
        assert lines == [*(b"bob %d" % number for number in range(10)), b"bob again"]
    with pytest.raises(LogReplaced):
        list(read_batches(tmp_path / "b" / NAMES[0], read.end, 1000))


def test_a_log_whose_time_is_over_goes_and_the_others_stay(machines: list[SharedLogs], tmp_path: Path) -> None:
    for log in NAMES:
        write(machines[0], tmp_path / "a", b"line", log=log)
    for logs in machines[:2]:
        logs.follow()
    machines[0].remove(tmp_path / "a" / NAMES[1])
    for name, logs in zip("abc", machines, strict=True):
        logs.follow()
        assert (tmp_path / name / NAMES[0]).exists() and not (tmp_path / name / NAMES[1]).exists()


def test_many_writers_and_readers_lose_nothing(machines: list[SharedLogs], tmp_path: Path) -> None:
    """Four writers on two machines, three readers that follow all the while."""
    done = threading.Event()

    def keep_up(logs: SharedLogs) -> None:
        while not done.is_set():
            logs.follow()

    def write_all(number: int) -> None:
        name = "ab"[number % 2]
        for turn in range(50):
            write(machines[number % 2], tmp_path / name, b"%d %d" % (number, turn), b"%d %d more" % (number, turn))

    readers = [threading.Thread(target=keep_up, args=[logs]) for logs in machines]
    writers = [threading.Thread(target=write_all, args=[number]) for number in range(4)]
    for thread in (*readers, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    for thread in readers:
        thread.join()
    for logs in machines:
        logs.follow()
    found = [(tmp_path / name / NAMES[0]).read_bytes() for name in "abc"]
    assert found[0] == found[1] == found[2]
    lines = found[0].splitlines()
    assert len(lines) == len(set(lines)) == 400
    for number in range(4):
        own = [line for line in lines if line.startswith(b"%d " % number)]
        assert own == [b"%d %d%s" % (number, turn, more) for turn in range(50) for more in (b"", b" more")]


def a_vote(number: int, vote: Vote) -> Preference:
    return preference(event_id=f"evt-{number}", vote=vote)


def test_opposite_votes_on_two_servers_are_one(machines: list[SharedLogs], tmp_path: Path) -> None:
    """A hundred comparisons, each voted on at both at once, twice: one vote is recorded, and all are told which."""

    async def vote_at(logs: SharedLogs, name: str, vote: Vote) -> list[Recording]:
        log = SharedVotes(logs, tmp_path / name / NAMES[0])
        return list(await asyncio.gather(*(log.record(a_vote(number // 2, vote)) for number in range(200))))

    told: dict[str, list[Recording]] = {}

    def run(name: str, logs: SharedLogs, vote: Vote) -> None:
        told[name] = asyncio.run(vote_at(logs, name, vote))

    threads = [threading.Thread(target=run, args=each) for each in zip("ab", machines[:2], ("a", "b"), strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(100):
        at_both = [*told["a"][2 * number : 2 * number + 2], *told["b"][2 * number : 2 * number + 2]]
        assert sum(recorded.is_new for recorded in at_both) == 1
        assert len({recorded.vote for recorded in at_both}) == 1
    elsewhere = SharedVotes(machines[2], tmp_path / "c" / NAMES[0])
    seventh = a_vote(7, "a").event_id
    assert elsewhere.recorded([seventh, "evt-of-nobody"]) == {seventh: told["a"][14].vote}
    machines[2].follow()
    stored = (tmp_path / "c" / NAMES[0]).read_bytes().splitlines()
    assert len(stored) == 100
    assert encode_preference(a_vote(7, told["a"][14].vote)) in stored


def test_without_the_database_nothing_is_acknowledged_and_afterwards_all_goes_on(
    server: Postgres, machines: list[SharedLogs], tmp_path: Path
) -> None:
    log = SharedVotes(machines[0], tmp_path / "a" / NAMES[0])

    async def record(number: int) -> Recording:
        return await log.record(a_vote(number, "a"))

    async def through_an_outage() -> None:
        await record(1)
        server.kill()
        with pytest.raises(LogWriteError, match="DPO_DATABASE_URL"):
            await record(2)
        with pytest.raises(DatabaseUnavailable):
            machines[1].follow()
        server.start()
        assert (await record(2)).is_new
        assert not (await record(1)).is_new

    asyncio.run(through_an_outage())
    assert machines[1].follow() == 2


def test_a_folder_with_logs_of_its_own_is_not_overwritten(machines: list[SharedLogs], tmp_path: Path) -> None:
    """Somebody sets the database and forgets to migrate."""
    own = tmp_path / "c" / NAMES[0]
    AppendLog(own).append_all([b"fifty", b"thousand", b"votes"])
    write(machines[0], tmp_path / "a", b"line")
    with pytest.raises(MigrationRefused, match="dpo migrate"):
        machines[2].follow()
    assert own.read_bytes() == b"fifty\nthousand\nvotes\n"


def test_requests_and_feedback_that_are_sent_again_stand_once(machines: list[SharedLogs], tmp_path: Path) -> None:
    for _ in range(2):
        write(machines[0], tmp_path / "a", b'{"request_id":"r"}', b'{"event_id":"e","request_id":"r"}', log=NAMES[1])
    assert machines[1].follow() == 2
