"""Who did what that needs a key, and who was refused: `audit.jsonl`, each line bound to the one before it.

A line's hash covers the hash of the line before: one that is changed, left out or put in breaks the chain behind it.
Whoever may write the file can write a new chain, so keep its last hash elsewhere; `dpo audit verify` prints it.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec
from filelock import FileLock, Timeout

from dpo_pipeline.core.redaction import Redactor, redact
from dpo_pipeline.errors import ArtifactCorrupt, LogWriteError
from dpo_pipeline.stores.ledger import utc_now
from dpo_pipeline.stores.log import AppendLog

FIRST = "0" * 64
Admittance = Literal["allowed", "refused"]
LONGEST, LONGEST_DETAIL = 500, 1_000
"""In characters: a detail has room for a whole reason and what it belongs to: what is cut, `dpo forget` might miss."""
TAIL_BYTES = 32_768
"""More than the longest entry: JSON writes some characters in six bytes."""
LOCKED_S = 5.0


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """`address`: where it came from; `command line` for a person at the machine."""

    recorded_at: str
    who: str
    what: str
    address: str
    outcome: Admittance
    detail: str = ""
    previous: str = FIRST
    hash: str = ""

    def hashed(self) -> str:
        """sha256 of everything but the hash itself."""
        return hashlib.sha256(msgspec.json.encode(msgspec.structs.replace(self, hash=""))).hexdigest()


class AuditLog:
    """Appends; several programs may write.

    Args:
        redact: what details go through, such as reasons that people give.
    """

    def __init__(self, path: Path, redact: Redactor = redact):
        self.path, self._redact = path, redact

    def record(self, who: str, what: str, address: str, outcome: Admittance, detail: str = "") -> None:
        """On return it is on disk.

        Raises:
            LogWriteError, RedactionFailed: it is not; what it tells of should not be done then.
        """
        detail = self._redact(detail) if detail else ""
        with self._alone():
            entry = AuditEntry(
                recorded_at=utc_now(), who=_written(who), what=_written(what), address=_written(address),
                outcome=outcome, detail=_written(detail, LONGEST_DETAIL), previous=self._last_hash(),
            )  # fmt: skip
            entry = msgspec.structs.replace(entry, hash=entry.hashed())
            AppendLog(self.path).append(msgspec.json.encode(entry))

    def entries(self) -> Iterator[AuditEntry]:
        """Oldest first.

        Raises:
            ArtifactCorrupt: at the first line that was changed, left out or put in; what comes before it is given.
        """
        previous = FIRST
        if not self.path.exists():
            return
        with self.path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    entry = msgspec.json.decode(line, type=AuditEntry)
                except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                    raise ArtifactCorrupt(f"{self.path}, line {number} is no entry: {error}.") from error
                if entry.previous != previous or entry.hash != entry.hashed():
                    raise ArtifactCorrupt(
                        f"{self.path}, line {number} does not follow from the line before it: this line was changed, "
                        "or lines were left out or put in before it. Compare with a backup."
                    )
                previous = entry.hash
                yield entry

    def _last_hash(self) -> str:
        """Of the last line; one that is no entry breaks the chain here, and `entries` says so."""
        if not self.path.exists():
            return FIRST
        with self.path.open("rb") as file:
            file.seek(max(self.path.stat().st_size - TAIL_BYTES, 0))
            lines = file.read().splitlines()
        try:
            return msgspec.json.decode(lines[-1], type=AuditEntry).hash if lines else FIRST
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return FIRST

    @contextmanager
    def _alone(self) -> Iterator[None]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self.path.with_suffix(".lock"), timeout=LOCKED_S):
                yield
        except (OSError, Timeout) as error:
            raise LogWriteError(
                f"{self.path} cannot be written: {error}. What must be noted there is not done; fix that and try again."
            ) from error


def _written(text: str, longest: int = LONGEST) -> str:
    """As a file takes it: half a surrogate pair is no text."""
    return text.encode("utf-8", "replace").decode()[:longest]
