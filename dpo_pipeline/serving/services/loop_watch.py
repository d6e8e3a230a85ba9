"""The loop at a glance, for a page that many people watch: read once a second at most, shown to all."""

import threading
import time

from dpo_pipeline.core.overview import Overview
from dpo_pipeline.loop.overview import loop_overview
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.ledger import Ledger

KEPT_S = 1.0


class LoopWatch:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._kept: tuple[float, Overview] | None = None

    def look(self) -> Overview:
        with self._lock:
            if self._kept is None or time.monotonic() - self._kept[0] > KEPT_S:
                with Ledger(self._settings.ledger_address) as ledger:
                    self._kept = (time.monotonic(), loop_overview(self._settings, ledger))
            return self._kept[1]
