"""Every version and what is known of it, for its page."""

import threading
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from dpo_pipeline.core.judged_examples import JudgedExamples
from dpo_pipeline.core.version_card import CardFacts
from dpo_pipeline.core.versions import VersionRecord, served_name
from dpo_pipeline.errors import NotEvaluated
from dpo_pipeline.loop.describe import card_facts
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.ledger import DecisionRecord, Ledger

KEPT_S = 30.0


@dataclass(frozen=True)
class VersionView:
    """`decisions`: newest first, without holds; `examples`: of the newest evaluation."""

    record: VersionRecord
    facts: CardFacts
    decisions: tuple[DecisionRecord, ...]
    has_report: bool
    examples: JudgedExamples


class Versions:
    """What a page shows is kept for a while: satisfaction is counted over a month of the serving log."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._lock = settings, threading.Lock()
        self._kept: dict[str, tuple[float, VersionView]] = {}

    def records(self) -> list[VersionRecord]:
        """Oldest first."""
        with Ledger(self._settings.ledger_address) as ledger:
            return ledger.versions()

    def look(self, name: str) -> VersionView:
        """
        Raises:
            UnknownVersion: the ledger has none of that name.
        """
        name = served_name(name)
        with self._lock:
            kept = self._kept.get(name)
            if kept is None or time.monotonic() - kept[0] > KEPT_S:
                kept = self._kept[name] = (time.monotonic(), self._read(name))
            return kept[1]

    def _read(self, name: str) -> VersionView:
        with Ledger(self._settings.ledger_address) as ledger:
            decisions = [each for each in ledger.decisions(name) if each.decision != "hold"]
            facts = card_facts(self._settings, ledger, name)
            record, report = ledger.version(name), self._report(name)
        return VersionView(record, facts, tuple(reversed(decisions)), report is not None, _examples(report))

    def report(self, name: str) -> Path:
        """The page of its newest evaluation.

        Raises:
            NotEvaluated: it was not evaluated, or there is no such version.
        """
        known = next((record.name for record in self.records() if record.name == served_name(name)), None)
        found = self._report(known) if known else None
        if found is None:
            raise NotEvaluated(f"There is no evaluation of {name!r}. The versions page lists those that there are.")
        return found

    def _report(self, name: str) -> Path | None:
        """Of a name that is known to be a version's: it becomes part of a path."""
        pages = (self._settings.reports_dir / "evaluation").glob(f"{name}-attempt*.html")
        return max(pages, key=lambda path: path.stat().st_mtime, default=None)


def _examples(report: Path | None) -> JudgedExamples:
    """None of an evaluation from before they were kept."""
    kept = report.with_suffix(".json") if report else None
    return msgspec.json.decode(kept.read_bytes(), type=JudgedExamples) if kept and kept.exists() else JudgedExamples()
