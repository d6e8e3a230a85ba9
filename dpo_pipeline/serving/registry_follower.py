"""Orders that a person gives in MLflow, taken by serving itself: within seconds, whether or not Dagster runs."""

import logging

from dpo_pipeline.errors import RegistryUnavailable
from dpo_pipeline.loop.registry_orders import RegistryAliases, take_orders
from dpo_pipeline.serving.ledger_follower import LedgerFollower
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.ledger import Ledger

EVERY_S = 3.0
WITHOUT_MLFLOW_S = 15.0
log = logging.getLogger(__name__)


def registry_follower(settings: Settings) -> LedgerFollower:
    """Looks every three seconds. Dagster's sensor looks too; an order is carried out once."""
    registry = RegistryAliases(settings.mlflow_address, settings.registered_model)

    def look(ledger: Ledger) -> float:
        try:
            if done := take_orders(settings, ledger, registry):
                log.info("%s", "; ".join(done))
        except RegistryUnavailable:
            return WITHOUT_MLFLOW_S  # serving goes on without it
        except Exception:
            log.exception("the registry was not read; tried again in %g s", EVERY_S)
        return EVERY_S

    return LedgerFollower("registry", settings, look)
