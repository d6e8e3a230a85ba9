"""A thread that looks at the ledger again and again, as long as the server runs."""

import logging
import threading
from collections.abc import Callable

from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.ledger import Ledger

OPENED_AGAIN_S = 5.0
log = logging.getLogger(__name__)


class LedgerFollower:
    """Calls `look` with a ledger of its own, at once and then whenever the seconds that `look` returned are over.

    `look` raises nothing: whatever it meets, the next look may find it gone.

    Args:
        ended: called after the last look.
        failed: told why the ledger cannot be opened; it is tried again.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        look: Callable[[Ledger], float],
        ended: Callable[[], None] | None = None,
        failed: Callable[[Exception], None] | None = None,
    ):
        self._settings, self._look, self._ended, self._failed = settings, look, ended, failed
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(timeout=30)
        if self._ended:
            self._ended()

    def _follow(self) -> None:
        pause = 0.0
        while not self._stop.wait(pause):
            try:
                with Ledger(self._settings.ledger_address) as ledger:
                    pause = self._look(ledger)
                    while not self._stop.wait(pause):
                        pause = self._look(ledger)
            except Exception as error:
                if self._failed:
                    self._failed(error)
                log.exception("the ledger cannot be opened; tried again in %g s", OPENED_AGAIN_S)
                pause = OPENED_AGAIN_S
