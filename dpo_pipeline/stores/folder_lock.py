"""One program of a kind on a data folder: a lock that lasts as long as its process, however that ends."""

import fcntl
import os
from pathlib import Path

from dpo_pipeline.errors import ServiceError

SERVING, DAEMON = "serving.lock", "daemon.lock"
"""In the data folder, and in Dagster's home within it."""


def take_lock(path: Path, program: str, otherwise: str) -> int:
    """The descriptor that holds the lock; it ends with the process, or where it is closed.

    Args:
        program: what there may be one of.
        otherwise: what two of them would do.

    Raises:
        ServiceError: another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise ServiceError(
            f"Another {program} works on {path.parent}; two would {otherwise}. Stop that one, or set DPO_DATA_DIR to "
            "another folder."
        ) from error
    return lock


def is_held(path: Path) -> bool:
    """Whether a process holds this lock now."""
    try:
        lock = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False
