"""Every version and what is known of it, for its page."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from dpo_pipeline.core.judged_examples import JudgedExamples
from dpo_pipeline.core.teachers import Teachers
from dpo_pipeline.core.training_curve import Point
from dpo_pipeline.core.version_card import CardFacts, model_card
from dpo_pipeline.core.versions import VersionRecord, served_name
from dpo_pipeline.loop.describe import card_facts
from dpo_pipeline.request_errors import NotEvaluated, UnknownModel
from dpo_pipeline.serving.services.teachers import TeachersOfVersions
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.ledger import DecisionRecord, Ledger
from dpo_pipeline.stores.training_curves import read_curve

KEPT_S = 30.0


@dataclass(frozen=True)
class VersionView:
    """`decisions`: newest first, without holds; `examples`: of the newest evaluation; `curve`: of its training."""

    record: VersionRecord
    facts: CardFacts
    decisions: tuple[DecisionRecord, ...]
    has_report: bool
    examples: JudgedExamples
    curve: Sequence[Point]


class Versions:
    """What a page shows is kept for a while: satisfaction is counted over a month of the serving log."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._lock = settings, threading.Lock()
        self._kept: dict[str, tuple[float, VersionView]] = {}
        self._teachers = TeachersOfVersions(settings)

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
        curve = read_curve(self._settings.reports_dir, name, record.attempt)
        return VersionView(record, facts, tuple(reversed(decisions)), report is not None, _examples(report), curve)

    def teachers(self, record: VersionRecord) -> Teachers | None:
        """Whose votes and feedback it learned from; null while they are counted, and where there are none."""
        return self._teachers.of(record)

    def card(self, name: str) -> str:
        """The model card, as of now.

        Raises:
            UnknownModel: there is no such version.
        """
        if not self._is_known(name):
            raise UnknownModel(f"There is no version {name!r}. The versions page lists those that there are.")
        return model_card(self.look(name).facts)

    def report(self, name: str) -> Path:
        """The page of its newest evaluation.

        Raises:
            NotEvaluated: it was not evaluated, or there is no such version.
        """
        found = self._report(served_name(name)) if self._is_known(name) else None
        if found is None:
            raise NotEvaluated(f"There is no evaluation of {name!r}. The versions page lists those that there are.")
        return found

    def _is_known(self, name: str) -> bool:
        return any(record.name == served_name(name) for record in self.records())

    def _report(self, name: str) -> Path | None:
        """Of a name that is known to be a version's: it becomes part of a path."""
        pages = (self._settings.reports_dir / "evaluation").glob(f"{name}-attempt*.html")
        return max(pages, key=lambda path: path.stat().st_mtime, default=None)


def _examples(report: Path | None) -> JudgedExamples:
    """None of an evaluation from before they were kept."""
    kept = report.with_suffix(".json") if report else None
    return msgspec.json.decode(kept.read_bytes(), type=JudgedExamples) if kept and kept.exists() else JudgedExamples()
