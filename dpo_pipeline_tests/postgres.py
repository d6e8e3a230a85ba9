"""A real Postgres for tests: Debian's, on a free port of 127.0.0.1, in a folder of its own, and gone with the test."""

import os
import shutil
import subprocess
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

START_S = 30


class Postgres:
    """A server that can be stopped, killed and started again."""

    def __init__(self, folder: Path, binaries: Path):
        self._folder, self._binaries, self.port = folder, binaries, free_port()
        self._as_somebody_else = NOT_AS_ROOT if os.getuid() == 0 else ()
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True)
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
        options = ["-D", str(self._folder / "data"), "-p", str(self.port), "-h", "127.0.0.1", "-k", str(self._folder)]
        with (self._folder / "log").open("ab") as log:
            command = [*self._as_somebody_else, str(self._binaries / "postgres"), *options]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._folder)
        deadline = time.monotonic() + START_S
        while True:
            try:
                with self._connected():
                    return
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, (self._folder / "log").read_text()
                ended = self._process.poll()
                assert ended is None, f"{(self._folder / 'log').read_text()}It ended with {ended}."
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
        subprocess.run(command, check=True, capture_output=True, cwd=self._folder)


@contextmanager
def postgres(folder: Path) -> Iterator[Postgres]:
    """A running one; skips the test where none is installed."""
    try:
        found = postgres_binaries()
    except ServiceError as error:
        pytest.skip(str(error))
    server = Postgres(folder, found)
    server.start()
    try:
        yield server
    finally:
        server.stop()
