"""Who taught each version, counted once for each dataset: reading a long log takes longer than a page may wait."""

import threading
from concurrent.futures import Future

from dpo_pipeline.core.teachers import Teachers, teachers
from dpo_pipeline.core.versions import VersionRecord
from dpo_pipeline.loop.describe import dataset_manifest
from dpo_pipeline.loop.trace import givers_of, taught_by
from dpo_pipeline.settings import Settings

WAIT_S = 0.3
"""So long a page waits for the count; its next look has it then."""


class TeachersOfVersions:
    """A dataset never changes, and neither does what was counted of it."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._lock = settings, threading.Lock()
        self._counted: dict[str, Future[Teachers]] = {}

    def of(self, record: VersionRecord) -> Teachers | None:
        """Null while it is being counted, and of a version without a dataset."""
        if record.dataset_hash is None:
            return None
        with self._lock:
            if record.dataset_hash not in self._counted:
                counting = self._counted[record.dataset_hash] = Future[Teachers]()
                threading.Thread(target=self._count, args=(record, counting), name="teachers", daemon=True).start()
            counting = self._counted[record.dataset_hash]
        try:
            return counting.result(WAIT_S)
        except TimeoutError:
            return None

    def _count(self, record: VersionRecord, counting: Future[Teachers]) -> None:
        try:
            events = taught_by(dataset_manifest(self._settings, record))
            counting.set_result(teachers(givers_of(self._settings, events)))
        except Exception as error:  # the page that asked says what it was, and the next look tries again
            with self._lock:
                self._counted.pop(str(record.dataset_hash), None)
            counting.set_exception(error)
