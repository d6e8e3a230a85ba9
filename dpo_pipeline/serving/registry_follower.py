"""What a person promotes or rolls back in MLflow, followed by serving itself: in seconds, with or without Dagster."""

import logging

from dpo_pipeline.errors import DatabaseUnavailable, RegistryError, RegistryRefused
from dpo_pipeline.loop.reconcile_registry import reconcile_registry
from dpo_pipeline.serving.ledger_follower import LedgerFollower
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.database import engine_of
from dpo_pipeline.stores.leadership import Leadership
from dpo_pipeline.stores.ledger import Ledger
from dpo_pipeline.stores.registry import Registry

EVERY_S = 4.0
WITHOUT_MLFLOW_S = 15.0
log = logging.getLogger(__name__)


def registry_follower(settings: Settings) -> LedgerFollower:
    """Looks every four seconds. Dagster's sensor looks too; what a person did is carried out once.

    Of several servers one does, and another within four seconds where that one has ended.
    """
    registry = Registry(settings.mlflow_address, settings.registered_model)
    leadership = Leadership(engine_of(settings.database_url), "registry") if settings.database_url else None
    refused: list[str] = []

    def look(ledger: Ledger) -> float:
        try:
            if leadership and not leadership.held():
                return EVERY_S
            if done := reconcile_registry(settings, ledger, registry, wait_s=0):
                log.info("%s", "; ".join(done))
        except RegistryRefused as error:
            if refused != [str(error)]:  # said once, not every quarter of a minute
                refused[:] = [str(error)]
                log.warning("%s", error)
            return WITHOUT_MLFLOW_S
        except RegistryError:
            return WITHOUT_MLFLOW_S  # serving goes on without it
        except DatabaseUnavailable as error:
            log.warning("%s", error)
        except Exception:
            log.exception("the registry was not read; tried again in %g s", EVERY_S)
        return EVERY_S

    return LedgerFollower("registry", settings, look, leadership.close if leadership else None)
