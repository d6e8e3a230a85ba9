"""Where the programs' output goes: a file each in the data folder's `logs`, of bounded size, fit to be read."""

import logging
import re
from collections.abc import Iterable
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

FILE_BYTES, FILES_KEPT = 10_000_000, 3
TAIL_LINES = 15
_ANSI = re.compile(r"\x1b\[[0-9;?]*+[A-Za-z]|\x1b\][^\x07\x1b]*+(?:\x07|\x1b\\)")
# What nanobind prints of DuckDB as a process ends: that Python ends before its objects do. Nothing is lost.
_LEAKED = re.compile(
    r"^(nanobind: (leaked \d+|this is likely caused by)| - (leaked |\.\.\. skipped)|See https://nanobind)"
)


class OneLine(logging.Formatter):
    """A message is one line, whatever stands in it: no text of people looks like a line of ours."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (logging's name)
        record.message = record.message.translate({10: "\\n", 13: "\\r", 27: "\\e"})
        return super().formatMessage(record)


def log_to_terminal() -> None:
    """Messages of this program to stderr, which `dpo up` writes to a file."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


class ProgramLogs:
    """A printer for honcho that writes each program's lines to `<name>.log`, without colours and cursor movements."""

    width = 0  # honcho sets it on its printers, for the column of names that files do not have

    def __init__(self, directory: Path):
        self._directory = directory
        self._logs: dict[str, logging.Handler] = {}

    def write(self, message: Any) -> None:
        """One message of honcho: a line of a program, or of honcho itself ("system")."""
        data = message.data
        text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
        handler = self._handler(message.name or "system")
        for line in readable(text.split("\n")):
            stamped = f"{message.time:%Y-%m-%d %H:%M:%S} {line}"
            handler.emit(logging.LogRecord("", logging.INFO, "", 0, stamped, None, None))

    def close(self) -> None:
        for handler in self._logs.values():
            handler.close()

    def _handler(self, name: str) -> logging.Handler:
        if name not in self._logs:
            path = log_file(self._directory, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._logs[name] = RotatingFileHandler(path, maxBytes=FILE_BYTES, backupCount=FILES_KEPT, encoding="utf-8")
        return self._logs[name]


def readable(lines: Iterable[str]) -> list[str]:
    """Lines without terminal codes, blank lines, and lists of leaked instances."""
    plain = (_ANSI.sub("", line).rstrip() for line in lines)
    return [line for line in plain if line and not _LEAKED.match(line)]


def log_file(directory: Path, program: str) -> Path:
    return directory / f"{program}.log"


def tail(path: Path) -> str:
    """The last lines of a log; empty where there is none."""
    return "\n".join(path.read_text(errors="replace").splitlines()[-TAIL_LINES:]) if path.exists() else ""
