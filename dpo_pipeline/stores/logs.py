"""Where the logs of a data folder stand, as it is set: in its files, or in the database that machines share."""

from functools import cache

from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.database import engine_of
from dpo_pipeline.stores.log import FILES, Logs
from dpo_pipeline.stores.shared_logs import SharedLogs, prepare


def logs_of(settings: Settings) -> Logs:
    """
    Raises:
        DatabaseUnavailable: one is set, and does not answer.
    """
    return shared_logs(settings) or FILES


def shared_logs(settings: Settings) -> SharedLogs | None:
    """Null without a database; raises as `logs_of`."""
    if settings.database_url is None:
        return None
    _prepare_once(settings.database_url)
    return SharedLogs(engine_of(settings.database_url), settings.data_dir)


def follow_logs(settings: Settings) -> None:
    """Bring the copies of shared logs in the data folder up to the database; does nothing without one.

    Raises:
        DatabaseUnavailable: they stay as far as they are.
    """
    if shared := shared_logs(settings):
        shared.follow()


@cache
def _prepare_once(url: str) -> None:
    prepare(engine_of(url))
