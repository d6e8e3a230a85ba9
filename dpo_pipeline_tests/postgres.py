"""A real Postgres for tests: Debian's, on a free port of 127.0.0.1, in a folder of its own, and gone with the test."""

import os
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from dpo_pipeline.engines import NOT_AS_ROOT, postgres_binaries
from dpo_pipeline.errors import ServiceError
from dpo_pipeline_tests.programs_under_test import free_port

START_S = 90
ANOTHER_PORT = "Address already in use"
AGAIN = (ANOTHER_PORT, "is still in use")
"""What a start says that succeeds later: its port was taken since it was found free; processes of one that was killed
still hold its memory."""


class Postgres:
    """A server that can be stopped, killed and started again."""

    def __init__(self, folder: Path, binaries: Path):
        self.folder, self._binaries, self.port = folder, binaries, free_port()
        self._as_somebody_else = NOT_AS_ROOT if os.getuid() == 0 else ()
        self._process: subprocess.Popen[bytes] | None = None
        if self._as_somebody_else:
            shutil.chown(folder, "nobody", "nogroup")
        self._run("initdb", "-D", str(folder / "data"), "-U", "dpo", "--auth=trust", "--no-sync", "-E", "UTF8")

    def url(self, name: str) -> str:
        return f"postgresql+psycopg://dpo@127.0.0.1:{self.port}/{name}"

    def new_database(self) -> str:
        """Its address."""
        name = f"t{uuid.uuid4().hex[:12]}"
        with self._connected() as connection:
            connection.execute(f"create database {name}".encode())
        return self.url(name)

    def start(self) -> None:
        """The first time, on another port than was thought if that is taken; after that, where clients know it."""
        first, deadline = self._process is None, time.monotonic() + START_S
        while (said := self._started(deadline)) is not None:
            assert time.monotonic() < deadline and any(each in said for each in AGAIN), said
            if first and ANOTHER_PORT in said:
                self.port = free_port()
            time.sleep(0.2)

    def _started(self, deadline: float) -> str | None:
        """None once it answers; what it said, where it ended before that or took too long."""
        options = ["-D", str(self.folder / "data"), "-p", str(self.port), "-h", "127.0.0.1", "-k", ""]
        log = self.folder / "log"
        said_before = log.stat().st_size if log.exists() else 0
        with log.open("ab") as out:
            command = [*self._as_somebody_else, str(self._binaries / "postgres"), *options]
            self._process = subprocess.Popen(command, stdout=out, stderr=out, cwd=self.folder)
        while True:
            ended = self._process.poll()
            said = log.read_bytes()[said_before:].decode(errors="replace")
            if ended is not None:
                return f"{said}Postgres ended with {ended}."
            try:
                with self._connected():
                    return None
            except psycopg.OperationalError as error:
                if time.monotonic() > deadline:
                    return f"{said}Postgres did not answer within {START_S} s: {error}"
                time.sleep(0.05)

    def kill(self) -> None:
        """As the power would."""
        assert self._process
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        if self._process and self._process.poll() is None:
            self._process.send_signal(3)  # SIGQUIT: at once; nobody needs the data any more
            self._process.wait(timeout=30)

    def _connected(self) -> psycopg.Connection:
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user="dpo", dbname="postgres", autocommit=True, connect_timeout=2
        )

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._as_somebody_else, str(self._binaries / program), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=self.folder)
        assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}"


@contextmanager
def new_postgres() -> Iterator[Postgres]:
    """One that does not run yet; skips the test where none is installed.

    Its folder is not one of pytest's: whoever is root starts it as nobody, and each pytest that starts closes
    `/tmp/pytest-of-root` to all others, also while this server works there.
    """
    try:
        found = postgres_binaries()
    except ServiceError as error:
        pytest.skip(str(error))
    with tempfile.TemporaryDirectory(prefix="dpo-test-postgres-", ignore_cleanup_errors=True) as folder:
        server = Postgres(Path(folder), found)
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A running one."""
    with new_postgres() as server:
        server.start()
        yield server
