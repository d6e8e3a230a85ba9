"""The programs of the loop: what must be free before they start, their environment, starting and waiting for them.

`Procfile` says which they are; `honcho` runs them, and stops all when one ends that `restart` gave up.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import yaml

from dpo_pipeline.dagster_instance import dagster_database, place_instance_config
from dpo_pipeline.errors import DiskFull, PortTaken, ServiceError
from dpo_pipeline.nearest import did_you_mean
from dpo_pipeline.program_environment import environment
from dpo_pipeline.program_logs import ProgramLogs
from dpo_pipeline.request_errors import InvalidRequest
from dpo_pipeline.settings import PROJECT_DIR, Settings
from dpo_pipeline.stores.database import create_schemas
from dpo_pipeline.stores.folder_lock import DAEMON, take_lock
from dpo_pipeline.stores.ledger import Ledger
from dpo_pipeline.stores.logs import follow_logs

CODE_LOCATION = "dpo_pipeline"
MIN_FREE_BYTES = 1_000_000_000
START_TIMEOUT_S = 180


def preflight(settings: Settings, replicas: int = 1) -> None:
    """
    Args:
        replicas: servers, each on the port after that of the one before.

    Raises:
        PortTaken, DiskFull: with the setting that moves the port or the data.
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(settings.data_dir).free
    if free < MIN_FREE_BYTES:
        raise DiskFull(
            f"{settings.data_dir} has {free / 1e9:.1f} GB free; {MIN_FREE_BYTES / 1e9:.0f} GB are required. "
            "Free some space, or set DPO_DATA_DIR to another disk."
        )
    ports, others = settings.ports, ("dagster",) if settings.mlflow_url else ("dagster", "mlflow")
    wanted = [("serving", ports.serving + number) for number in range(replicas)]
    wanted += [(name, getattr(ports, name)) for name in others]
    for place, (name, port) in enumerate(wanted):
        if port in (found for _, found in wanted[:place]):
            raise PortTaken(
                f"Port {port} is wanted by two programs, one of them {name}; servers take {replicas} from "
                f"DPO_PORTS__SERVING on. Set DPO_PORTS__{name.upper()} to another."
            )
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((ports.host, port))
            except (OSError, OverflowError) as error:
                why = getattr(error, "strerror", None) or error
                raise PortTaken(
                    f"Port {port} for {name} cannot be used on {ports.host}: {why}. Stop the program that listens "
                    f"there, or set DPO_PORTS__{name.upper()} to a free port."
                ) from error


def prepare(settings: Settings) -> None:
    """Create directories and databases once, before several programs would race to create them."""
    for directory in (settings.dagster_home, settings.mlflow_dir, settings.logs_dir, settings.prefs_log.parent):
        directory.mkdir(parents=True, exist_ok=True)
    with Ledger(settings.ledger_address):
        pass
    follow_logs(settings)
    if settings.database_url:
        create_schemas(settings.database_url, "dagster", "mlflow")
    place_instance_config(settings)
    if dagster_database(settings) or not (settings.dagster_home / "history").exists():
        done = subprocess.run(
            ["dagster", "instance", "migrate"], env=environment(settings), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise ServiceError(f"The Dagster instance in {settings.dagster_home} failed:\n{done.stderr[-2000:]}")


def become(settings: Settings, name: str) -> None:
    """Replace this process by one of the programs, for whatever starts and watches each by itself, such as containers.

    Raises:
        InvalidRequest: there is no such program.
    """
    from honcho.environ import parse_procfile

    known = parse_procfile((PROJECT_DIR / "Procfile").read_text()).processes
    if name not in known:
        raise InvalidRequest(f"There is no program {name!r}; there are {', '.join(known)}.{did_you_mean(name, known)}")
    if name != "serving":  # a server needs nothing of Dagster
        prepare(settings)
    # Whoever starts containers starts them again.
    command = known[name].replace("python -m dpo_pipeline.restart ", "")
    os.chdir(PROJECT_DIR)
    os.execvpe("sh", ["sh", "-c", command], environment(settings))


def become_daemon(settings: Settings) -> None:
    """Replace this process by Dagster's daemon; the lock stays with it until it ends, however it ends.

    Before, runs are ended that went down with the machine.

    Raises:
        ServiceError: another daemon works on this data folder.
    """
    lock = take_lock(settings.dagster_home / DAEMON, "Dagster daemon", "launch everything twice")
    os.set_inheritable(lock, True)
    variables = environment(settings)
    os.environ.update(variables)
    # Elsewhere a run's process has no number of this machine.
    if settings.dagster.launcher == "default" and (settings.dagster_home / "dagster.yaml").exists():
        _end_lost_runs()
    command = ["dagster-daemon", "run", "--workspace", variables["DPO_RUN_WORKSPACE"], "--log-level", "warning"]
    os.execvpe(command[0], command, variables)


def _end_lost_runs() -> None:
    import dagster as dg  # not at the top: no other program here needs it

    from dpo_pipeline.automation.lost_runs import fail_lost_runs

    with dg.DagsterInstance.get() as instance:
        if lost := fail_lost_runs(instance):
            print(f"{len(lost)} runs had gone down with their process and are marked as failed.", file=sys.stderr)


def run_all(settings: Settings, people: bool, watch: Callable[[threading.Event], None], replicas: int = 1) -> int:
    """Run every program until one ends or a signal comes; returns the exit status of the first that ended.

    What they print goes to files (`program_logs`). Webserver and daemon share one code server, on a socket that only
    this user can reach.

    Args:
        people: let simulated people use the system too.
        watch: called in a thread of its own, to show how they are until the event is set.
        replicas: so many servers, which share nothing but the database and the artifact store.

    Raises:
        InvalidRequest: several servers, and no database that they could share.
    """
    if replicas > 1 and not settings.database_url:
        raise InvalidRequest(
            "Several servers agree on votes through a database: set DPO_DATABASE_URL, or start one server."
        )
    from honcho.environ import parse_procfile
    from honcho.manager import Manager

    prepare(settings)
    logs = ProgramLogs(settings.logs_dir)
    # Not in the data folder: the name of a socket may have 107 characters at most.
    with tempfile.TemporaryDirectory(prefix="dpo-") as folder:
        variables = environment(settings) | _shared_code_server(Path(folder))
        stopping = threading.Event()

        class Stopping(Manager):
            def terminate(self) -> None:
                stopping.set()
                super().terminate()

        manager = Stopping(logs)
        for name, command in parse_procfile((PROJECT_DIR / "Procfile").read_text()).processes.items():
            if name == "mlflow" and settings.mlflow_url:
                continue  # somebody else's server is named
            for title, own in _copies(settings, name, replicas):
                manager.add_process(title, command, env=variables | own, cwd=str(PROJECT_DIR))
        if people:
            command = "exec python -m dpo_pipeline.restart dpo people"
            manager.add_process("people", command, env=variables, cwd=str(PROJECT_DIR))
        watching = threading.Thread(target=watch, args=(stopping,), daemon=True)
        watching.start()
        manager.loop()
        watching.join(timeout=5)
    logs.close()
    return int(manager.returncode or 0)


def _copies(settings: Settings, name: str, replicas: int) -> list[tuple[str, dict[str, str]]]:
    """A program's title and its own variables; of a server that runs more than once, each with a folder and a port."""
    if name != "serving" or replicas == 1:
        return [(name, {})]
    return [
        (
            f"serving-{number}",
            {
                "DPO_DATA_DIR": str(settings.data_dir / "machines" / f"serving-{number}"),
                "DPO_PORTS__SERVING": str(settings.ports.serving + number - 1),
            },
        )
        for number in range(1, replicas + 1)
    ]


def _shared_code_server(folder: Path) -> dict[str, str]:
    """Variables for one code server: its socket, and the workspace that names it, both in `folder`."""
    socket_path, workspace = folder / "code.sock", folder / "workspace.yaml"
    server = {"grpc_server": {"socket": str(socket_path), "location_name": CODE_LOCATION}}
    workspace.write_text(yaml.safe_dump({"load_from": [server]}), encoding="utf-8")
    return {"DPO_RUN_CODE_SOCKET": str(socket_path), "DPO_RUN_WORKSPACE": str(workspace)}
