"""A thread that does something with the database that servers share, again and again, as long as the server runs."""

import logging
import threading
from collections.abc import Callable

from dpo_pipeline.errors import DatabaseUnavailable

log = logging.getLogger(__name__)


class DatabaseFollower:
    """Does its turn at once, and then every so many seconds; an outage is told once, and anything else each time.

    Args:
        name: of the thread.
        without: what an outage means for people.
    """

    def __init__(self, name: str, every_s: float, turn: Callable[[], object], without: str):
        self._name, self._every_s, self._turn, self._without = name, every_s, turn, without
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(timeout=10)

    def _follow(self) -> None:
        told, pause = False, 0.0
        while not self._stop.wait(pause):
            pause = self._every_s
            try:
                self._turn()
                told = False
            except DatabaseUnavailable as error:
                if not told:
                    log.warning("%s until the database answers: %s", self._without, error)
                told = True
            except Exception:
                log.exception("%s: a turn failed; tried again in %g s", self._name, self._every_s)
