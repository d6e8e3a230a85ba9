"""The log keeps what it acknowledged: torn tails, many writers, full disks, kill -9."""

import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpo_pipeline.errors import LogReplaced, LogWriteError
from dpo_pipeline.stores.log import AppendLog
from dpo_pipeline.stores.log_reading import Position, read_batches, spans

LIMIT = 1 << 20


def lines_of(path: Path, start: Position | None = None, chunk: int = 1 << 24) -> list[bytes | None]:
    return [line.data for batch in read_batches(path, start or Position(), LIMIT, chunk) for line in batch.lines]


def end_of(path: Path) -> Position:
    return [batch.end for batch in read_batches(path, Position(), LIMIT)][-1]


def test_what_is_appended_is_read_back_in_order(tmp_path: Path) -> None:
    log = AppendLog(tmp_path / "new" / "prefs.jsonl")
    for i in range(5):
        log.append(b"line %d \xe2\x80\xa8 still the same line" % i)
    assert lines_of(log.path) == [b"line %d \xe2\x80\xa8 still the same line" % i for i in range(5)]


def test_a_newline_inside_a_record_is_refused(tmp_path: Path) -> None:
    log = AppendLog(tmp_path / "log")
    with pytest.raises(LogWriteError, match="must not hold a newline"):
        log.append(b"two\nlines")
    assert not log.path.exists()


def test_a_torn_tail_waits_and_the_next_record_stands_alone(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b'{"whole": 1}\n{"torn": ')
    assert lines_of(path) == [b'{"whole": 1}']
    AppendLog(path).append(b'{"next": 2}')
    assert lines_of(path) == [b'{"whole": 1}', b'{"torn": ', b'{"next": 2}']


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=40).map(lambda b: b.replace(b"\n", b"")), max_size=12), st.integers(1, 17))
def test_chunks_do_not_change_what_is_read(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], chunk: int
) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    path.write_bytes(b"".join(line + b"\n" for line in lines) + b"tail")
    assert lines_of(path, chunk=chunk) == lines


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.binary(max_size=40).map(lambda b: b.replace(b"\n", b"")), max_size=12),
    st.integers(1, 60),
    st.booleans(),
)
def test_spans_hold_every_line_once(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], size: int, torn: bool
) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    path.write_bytes(b"".join(line + b"\n" for line in lines) + b"tail" * torn)
    found = [
        (line.offset, line.data)
        for start, until in spans(path, Position(), size)
        for batch in read_batches(path, start, LIMIT, until=until)
        for line in batch.lines
    ]
    offsets = [sum(len(line) + 1 for line in lines[:index]) for index in range(len(lines))]
    assert found == list(zip(offsets, lines, strict=True))


def test_reading_goes_on_where_it_stopped(tmp_path: Path) -> None:
    log = AppendLog(tmp_path / "log")
    log.append(b"one")
    position = end_of(log.path)
    assert lines_of(log.path, position) == []
    log.append(b"two")
    assert lines_of(log.path, position) == [b"two"]


def test_of_an_oversized_line_only_its_place_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"short\n" + b"x" * (3 * LIMIT) + b"\nafter\n")
    found = [line for batch in read_batches(path, Position(), LIMIT, chunk_bytes=LIMIT // 4) for line in batch.lines]
    assert [line.data for line in found] == [b"short", None, b"after"]
    assert (found[1].offset, found[1].length) == (6, 3 * LIMIT)
    assert found[2].offset == 6 + 3 * LIMIT + 1


@pytest.mark.parametrize("how", ["truncated", "replaced", "deleted", "shifted"])
def test_a_log_that_changed_under_the_reader_is_refused(tmp_path: Path, how: str) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"first line\nsecond line\n")
    position = end_of(path)
    if how == "truncated":
        os.truncate(path, 11)
    elif how == "shifted":
        with path.open("r+b") as file:
            file.write(b"first line, longer than it was before\n")
    else:
        path.unlink()
        if how == "replaced":
            (tmp_path / "keep-the-inode").write_bytes(b"")
            path.write_bytes(b"another file, as long as the old one was\n")
    with pytest.raises(LogReplaced, match="dpo rebuild"):
        list(read_batches(path, position, LIMIT))
    with pytest.raises(LogReplaced, match="dpo rebuild"):
        list(spans(path, position, LIMIT))


def test_many_threads_and_processes_write_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    code = textwrap.dedent(
        """
        import sys, threading, json
        from pathlib import Path
        from dpo_pipeline.stores.log import AppendLog
        log, who = AppendLog(Path(sys.argv[1])), sys.argv[2]
        def write(t):
            for i in range(20):
                log.append(json.dumps([who, t, i, "x" * 30000]).encode())
        threads = [threading.Thread(target=write, args=(t,)) for t in range(4)]
        [t.start() for t in threads]; [t.join() for t in threads]
        """
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(path), str(n)]) for n in range(3)]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0, 0]
    rows = [json.loads(line or b"") for line in lines_of(path)]
    assert len({tuple(row[:3]) for row in rows}) == len(rows) == 3 * 4 * 20


def test_a_full_disk_is_an_error_and_the_next_record_is_whole(tmp_path: Path) -> None:
    """A real short write: the file size limit cuts the line, as a full disk does."""
    path = tmp_path / "log"
    code = textwrap.dedent(
        """
        import resource, signal, sys
        from pathlib import Path
        from dpo_pipeline.errors import LogWriteError
        from dpo_pipeline.stores.log import AppendLog
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        log = AppendLog(Path(sys.argv[1]))
        log.append(b"first")
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        try:
            log.append(b"x" * 5000)
        except LogWriteError as error:
            print(error)
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        log.append(b"after")
        """
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert "not recorded" in done.stdout
    assert lines_of(path) == [b"first", b"after"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 1000


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "log"
    code = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from dpo_pipeline.stores.log import AppendLog
        log, i = AppendLog(Path(sys.argv[1])), 0
        while True:
            log.append(b"%d" % i)
            print(i, flush=True)
            i += 1
        """
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout
        acknowledged = [int(writer.stdout.readline()) for _ in range(50)]
        writer.send_signal(signal.SIGKILL)
        rest = writer.stdout.read().split()
    acknowledged += [int(number) for number in rest]
    on_disk = [int(line or b"") for line in lines_of(path)]
    assert on_disk[: len(acknowledged)] == acknowledged
    assert len(on_disk) - len(acknowledged) <= 1
