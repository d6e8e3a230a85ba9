"""Where the logs of a data folder stand, as it is set: in its files, or in the database that machines share."""

from functools import cache
from pathlib import Path

from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.database import engine_of
from dpo_pipeline.stores.log import FILES, Logs
from dpo_pipeline.stores.log_reading import days_of
from dpo_pipeline.stores.log_tables import prepare
from dpo_pipeline.stores.shared_logs import SharedLogs


def logs_of(settings: Settings) -> Logs:
    """
    Raises:
        DatabaseUnavailable: one is set, and does not answer.
        MigrationRefused: the folder has logs of its own, be the database empty or not.
    """
    if shared := shared_logs(settings):
        shared.copies.refuse_own(shared_files(settings))
        return shared
    return FILES


def shared_logs(settings: Settings) -> SharedLogs | None:
    """Null without a database; raises DatabaseUnavailable."""
    if settings.database_url is None:
        return None
    _prepare_once(settings.database_url)
    return SharedLogs(engine_of(settings.database_url), settings.data_dir)


def follow_logs(settings: Settings) -> None:
    """Bring the copies of shared logs in the data folder up to the database; does nothing without one.

    Raises:
        DatabaseUnavailable: they stay as far as they are.
        MigrationRefused: the folder has logs of its own, be the database empty or not.
    """
    if shared := shared_logs(settings):
        shared.copies.refuse_own(shared_files(settings))
        shared.follow()


def shared_files(settings: Settings) -> list[Path]:
    """The logs that a database holds for all machines, those that are there."""
    logs = [settings.prefs_log, settings.reviews_log, settings.keys_log]
    days = [*days_of(settings.serving_log_dir), *days_of(settings.served_texts_dir)]
    return [path for path in (*logs, *days) if path.exists()]


@cache
def _prepare_once(url: str) -> None:
    prepare(engine_of(url))
