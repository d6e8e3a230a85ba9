"""Where servers share a database: a thread that brings this one's copies of the logs, and of what was published for
people to look at, up to it, as long as the server runs.
"""

import logging
import threading

from dpo_pipeline.errors import DatabaseUnavailable
from dpo_pipeline.stores.database import SERVING, Leadership
from dpo_pipeline.stores.published_files import PublishedFiles
from dpo_pipeline.stores.shared_logs import SharedLogs

EVERY_S = 0.5
log = logging.getLogger(__name__)


class LogFollower:
    """
    Args:
        published: null where the files are written on this machine itself.
    """

    def __init__(self, logs: SharedLogs, published: PublishedFiles | None):
        self._logs, self._published, self._stop = logs, published, threading.Event()
        self._present = Leadership(logs.engine, SERVING, shared=True)
        self._thread = threading.Thread(target=self._follow, name="shared logs", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(timeout=10)
        self._present.close()

    def _follow(self) -> None:
        silent = False
        pause = 0.0
        while not self._stop.wait(pause):
            pause = EVERY_S
            try:
                self._present.held()
                self._logs.follow()
                if self._published:
                    self._published.follow()
                silent = False
            except DatabaseUnavailable as error:
                if not silent:  # said once for each outage
                    log.warning("pages show what was there before the database went away: %s", error)
                silent = True
            except Exception:
                log.exception("shared logs were not followed; tried again in %g s", EVERY_S)
