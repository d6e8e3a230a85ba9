"""Whether anything can be answered yet, and what is being made until then."""

import time
from pathlib import Path

from dpo_pipeline.core.progress import first_version
from dpo_pipeline.request_errors import NotReady
from dpo_pipeline.serving.engines.engine import Engine
from dpo_pipeline.serving.router import Router
from dpo_pipeline.stores.progress import read_progress


class Readiness:
    """
    Args:
        progress_dir: where whoever makes a version says how far it is.
    """

    def __init__(self, progress_dir: Path, engine: Engine, router: Router):
        self._progress_dir, self._engine, self._router = progress_dir, engine, router

    @property
    def ready(self) -> bool:
        """A champion is loaded and answers."""
        return self._engine.ready and self._router.route.champion is not None

    def not_ready(self) -> NotReady:
        """What is being made while no version can answer yet, how far it is, and how long it takes."""
        message = first_version(read_progress(self._progress_dir), self._router.champion_to_load, time.time())
        return NotReady(" ".join(filter(None, (message, self._router.trouble))))
