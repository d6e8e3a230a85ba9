"""A copy of the data folder that can be opened again, made while the programs run, and put back elsewhere.

Databases are copied by SQLite's own backup, at one moment each and before all else: what the ledger names, such as an
adapter, was there before it was named. Logs are copied to their last whole line. What is derived from the rest is left
out. The manifest comes last, so a backup without one was interrupted.
"""

import json
import shutil
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from dpo_pipeline import __version__
from dpo_pipeline.errors import BackupRefused
from dpo_pipeline.loop import looked_for
from dpo_pipeline.loop.curate import rebuild_warehouse
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.artifacts import file_sha256, write_text
from dpo_pipeline.stores.ledger import Ledger, utc_now

DERIVED = ("warehouse", "progress", "logs", "training", "checkpoints", looked_for.FILE)
"""What is made again from what is kept or only says what happened, and words of somebody who is being forgotten."""
MANIFEST, DATABASE, LINES, LOCK = "backup.json", ".db", ".jsonl", ".lock"
BESIDE_DATABASES = ("-wal", "-shm", "-journal")
SHOWN, LONGEST_LINE = 5, 16_000_000


@dataclass(frozen=True)
class Backup:
    """`elsewhere`: settings whose databases or servers lie outside the data folder, and so not in the backup."""

    files: int
    size_bytes: int
    elsewhere: tuple[str, ...] = ()


def back_up(settings: Settings, directory: Path) -> Backup:
    """Copy what must not be lost; the programs may run.

    Raises:
        BackupRefused: there is no data folder, or the directory is in it or not empty.
    """
    source, directory = settings.data_dir.resolve(), directory.resolve()
    if not source.is_dir():
        raise BackupRefused(f"{source} is no folder: there is nothing to back up. DPO_DATA_DIR names another.")
    if directory.is_relative_to(source):
        raise BackupRefused(f"{directory} is in the data folder itself. Name one outside {source}.")
    _require_empty(directory)
    copied = [_copy(source, directory, path) for path in _kept(source) if path.suffix == DATABASE]
    # Listed again: an adapter that came meanwhile may stand in the ledger already.
    copied += [_copy(source, directory, path) for path in _kept(source) if path.suffix != DATABASE]
    files = {str(path.relative_to(directory)): file_sha256(path) for path in copied}
    told = {"made_at": utc_now(), "program": __version__, "data_dir": str(source), "files": files}
    write_text(directory / MANIFEST, json.dumps(told, indent=1, ensure_ascii=False), mode=0o600)
    names = ("database_url", "ledger_url", "mlflow_url", "mlflow_database_url")
    elsewhere = {f"DPO_{name.upper()}": getattr(settings, name) for name in names}
    size = sum(path.stat().st_size for path in copied)
    return Backup(len(copied), size, tuple(name for name, value in elsewhere.items() if value))


def restore(settings: Settings, backup: Path) -> Backup:
    """Put a backup into an empty data folder, which need not lie where the old one lay.

    Raises:
        BackupRefused: it is no backup, not whole, or the data folder is not empty.
        LedgerTooNew: a later version of this program made it.
    """
    if not (backup / MANIFEST).is_file():
        raise BackupRefused(f"{backup} holds no {MANIFEST}: it is no backup, or making it was interrupted.")
    told = json.loads((backup / MANIFEST).read_bytes())
    broken = [name for name, digest in told["files"].items() if not _is_whole(backup / name, digest)]
    if broken:
        raise BackupRefused(
            f"{backup} is not as it was made: {len(broken)} files are missing or changed, such as "
            f"{', '.join(broken[:SHOWN])}. Nothing was restored; use another backup."
        )
    target = settings.data_dir.resolve()
    _require_empty(target)
    for name in told["files"]:
        copy = target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(backup / name, copy)
        copy.chmod(0o600)
    with Ledger(settings.ledger_address) as ledger:
        ledger.relocate(told["data_dir"], str(target))
    rebuild_warehouse(settings, utc_now())
    return Backup(len(told["files"]), sum((backup / name).stat().st_size for name in told["files"]))


def _kept(source: Path) -> Iterable[Path]:
    for path in sorted(source.rglob("*")):
        if path.relative_to(source).parts[0] in DERIVED or path.is_symlink() or not path.is_file():
            continue
        if path.suffix != LOCK and not path.name.endswith(BESIDE_DATABASES):
            yield path


def _copy(source: Path, directory: Path, path: Path) -> Path:
    copy = directory / path.relative_to(source)
    copy.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == DATABASE:
        with closing(sqlite3.connect(path, timeout=60)) as live, closing(sqlite3.connect(copy)) as still:
            live.backup(still)
    else:
        shutil.copyfile(path, copy)
        if path.suffix == LINES:
            _end_with_a_line(copy)
    copy.chmod(0o600)
    return copy


def _end_with_a_line(log: Path) -> None:
    """Somebody may have been writing the last one."""
    with log.open("r+b") as file:
        start = file.seek(max(log.stat().st_size - LONGEST_LINE, 0))
        file.truncate(start + file.read().rfind(b"\n") + 1)


def _is_whole(path: Path, digest: str) -> bool:
    return path.is_file() and file_sha256(path) == digest


def _require_empty(directory: Path) -> None:
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise BackupRefused(f"{directory} is there already and not empty. Name a new folder.")
