"""Orders that a person gives in MLflow, taken by serving itself: within seconds, whether or not Dagster runs."""

import logging
import threading

from dpo_pipeline.errors import RegistryUnavailable
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.ledger import Ledger
from dpo_pipeline.stores.orders import RegistryAliases, follow_registry

EVERY_S = 2.0
WITHOUT_MLFLOW_S = 15.0
log = logging.getLogger(__name__)


class RegistryFollower:
    """Looks every two seconds, in a thread. Dagster's sensor looks too; an order is carried out once."""

    def __init__(self, settings: Settings):
        self._settings = settings
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="registry", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(timeout=30)

    def _follow(self) -> None:
        registry = RegistryAliases(self._settings.mlflow_address, self._settings.registered_model)
        with Ledger(self._settings.ledger_address) as ledger:
            wait = EVERY_S
            while not self._stop.wait(wait):
                wait = EVERY_S
                try:
                    for told in follow_registry(ledger, registry):
                        log.info("%s", told)
                except RegistryUnavailable:
                    wait = WITHOUT_MLFLOW_S  # serving goes on without it
                except Exception:
                    log.exception("the registry was not read; tried again in %g s", wait)
