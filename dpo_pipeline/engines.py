"""Past one machine, on one: the engines that a team would already have, so that the loop can be seen on them.

A Postgres (Debian's), an S3 (moto's server, in memory) and the head of a Ray cluster, each on loopback, started again
when it is killed. Whoever has real ones names them in the settings instead; see the guide on scaling.
"""

import hashlib
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx

from dpo_pipeline.errors import DatabaseUnavailable, ServiceError
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.artifacts import write_text
from dpo_pipeline.stores.database import connected, engine_of

DEBIAN = Path("/usr/lib/postgresql")
BUCKET, START_S = "dpo", 120.0
OBJECT_STORE_BYTES = 100_000_000
NOT_AS_ROOT = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups")


@contextmanager
def engines(settings: Settings) -> Iterator[dict[str, str]]:
    """All three, running; yields the variables by which the programs of the loop work on them.

    Raises:
        ServiceError: one is not installed, or did not start.
    """
    logs, kept = settings.logs_dir, settings.data_dir / "engines"
    for folder in (logs, kept):
        folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as running:
        database = running.enter_context(postgres(kept / "postgres", logs))
        store = running.enter_context(_s3(logs))
        ray = running.enter_context(_ray(logs, store))
        worker = store | {"DPO_DATA_DIR": str(settings.data_dir / "machines" / "ray"), "DPO_PROFILE": settings.profile}
        yield {
            **store,
            "DPO_DATABASE_URL": database,
            "DPO_ARTIFACTS_URL": f"s3://{BUCKET}/artifacts",
            "DPO_TRAINING__BACKEND": "ray",
            "DPO_TRAINING__RAY_ADDRESS": ray,
            "DPO_TRAINING__RAY_PYTHON": sys.executable,
            "DPO_TRAINING__RAY_RUNTIME_ENV": json.dumps({"env_vars": worker}),
        }


def postgres_binaries() -> Path:
    """Where `initdb` and `postgres` are.

    Raises:
        ServiceError: nowhere.
    """
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    for path in sorted(DEBIAN.glob("*/bin/initdb"), reverse=True):
        return path.parent
    raise ServiceError("Postgres is not installed; on Debian: apt-get install postgresql.")


@contextmanager
def postgres(folder: Path, logs: Path) -> Iterator[str]:
    binaries, port = postgres_binaries(), _free_port()
    prefix = NOT_AS_ROOT if os.getuid() == 0 else ()  # it refuses to run as root
    if prefix:
        folder = _for_nobody(folder)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    data, password = folder / "data", folder / "password"
    if not (data / "PG_VERSION").exists():
        write_text(password, secrets.token_hex(16), mode=0o600)
        if prefix:
            for each in (folder, password):
                shutil.chown(each, "nobody", "nogroup")
        # Whoever may log in as its superuser may run programs: nobody else of this machine shall.
        login = ["-U", "dpo", "--auth=scram-sha-256", f"--pwfile={password}"]
        _run([*prefix, str(binaries / "initdb"), "-D", str(data), "-E", "UTF8", *login], folder)
    # No socket in a folder: its name may have 107 characters at most.
    listening = ["-p", str(port), "-h", "127.0.0.1", "-k", ""]
    command = [*prefix, str(binaries / "postgres"), "-D", str(data), *listening]
    url = f"postgresql+psycopg://dpo:{password.read_text()}@127.0.0.1:{port}/postgres"

    def answers() -> bool:
        with suppress(DatabaseUnavailable), connected(engine_of(url)):
            return True
        return False

    with _supervised("postgres", command, logs, {}, answers):
        yield url


@contextmanager
def _s3(logs: Path) -> Iterator[dict[str, str]]:
    port = _free_port()
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        # The bucket is gone with the server's memory: made again wherever this one asks.
        with suppress(httpx.HTTPError):
            return httpx.put(f"{url}/{BUCKET}", timeout=5).status_code in (200, 409)
        return False

    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with _supervised("s3", command, logs, {}, answers):
        yield {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "dpo",
            "AWS_SECRET_ACCESS_KEY": "of this machine alone",
            "AWS_DEFAULT_REGION": "us-east-1",
        }


@contextmanager
def _ray(logs: Path, variables: dict[str, str]) -> Iterator[str]:
    dashboard = _free_port()
    url, token = f"http://127.0.0.1:{dashboard}", secrets.token_hex(16)
    # Not in the data folder: the name of a socket may have 107 characters at most.
    with tempfile.TemporaryDirectory(prefix="dpo-ray-", ignore_cleanup_errors=True) as folder:
        command = [
            *(str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--disable-usage-stats"),
            *("--node-ip-address=127.0.0.1", f"--port={_free_port()}", f"--temp-dir={folder}"),
            *("--include-dashboard=true", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"),
            f"--object-store-memory={OBJECT_STORE_BYTES}",
        ]
        # Whoever reached the dashboard could run anything as this user.
        login = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}

        def answers() -> bool:
            with suppress(httpx.HTTPError):
                headers = {"Authorization": f"Bearer {token}"}
                return httpx.get(f"{url}/api/version", headers=headers, timeout=5).status_code == 200
            return False

        with _supervised("ray", command, logs, variables | login, answers), _set(login):
            yield url


@contextmanager
def _set(variables: dict[str, str]) -> Iterator[None]:
    """For the programs that are started from here, which send jobs."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _supervised(
    name: str, command: list[str], logs: Path, variables: dict[str, str], answers: Callable[[], bool]
) -> Iterator[None]:
    """Started, and started again whenever it ends, until the block is left; then interrupted, as by Ctrl-C."""
    log = logs / f"{name}.log"
    with log.open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "dpo_pipeline.restart", *command],
            stdout=out,
            stderr=out,
            env={**os.environ, **variables},
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + START_S
        while not answers():
            ended = process.poll() is not None
            if ended or time.monotonic() > deadline:
                said = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
                how = "ended before it answered" if ended else f"did not answer within {START_S:.0f} s"
                raise ServiceError(f"{name} {how}. The last lines of {log}:\n{said}")
            time.sleep(0.3)
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)  # of a SIGTERM, Postgres waits for its clients
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=20)
        with suppress(ProcessLookupError):  # what the engine itself has left in its group
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _for_nobody(folder: Path) -> Path:
    """Root's own folders are closed to others: as root, Postgres keeps its data in the system's, by the same name.

    Raises:
        ServiceError: somebody else made that folder.
    """
    name = hashlib.sha256(str(folder).encode()).hexdigest()[:12]
    place = Path(tempfile.gettempdir()) / f"dpo-postgres-{name}"
    with suppress(FileExistsError):
        place.mkdir(mode=0o700)
    found = place.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (0, pwd.getpwnam("nobody").pw_uid):
        raise ServiceError(f"{place} was made by somebody else. Look at it, and delete it.")
    return place


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    if done.returncode:
        raise ServiceError(f"{' '.join(command)} ended with status {done.returncode}:\n{done.stderr[-2000:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
