"""The configuration of the Dagster instance: the repository's `dagster.yaml`, and what settings move elsewhere.

Dagster reads its storage and its launcher from a file only. Where everything is as in the repository, the data folder
has a link to that file; otherwise a file that is written again at every start.
"""

from pathlib import Path
from typing import Any

import yaml

from dpo_pipeline.errors import SettingsError
from dpo_pipeline.settings import PROJECT_DIR, Settings
from dpo_pipeline.stores.artifacts import write_text
from dpo_pipeline.stores.database import with_schema

COMMITTED = PROJECT_DIR / "dagster.yaml"
HEAD = "# Written by `dpo` from dagster.yaml of the repository and the settings; changes made here are lost.\n"
DATABASE = "DPO_RUN_DAGSTER_DATABASE"
"""Variable that names Dagster's Postgres, so that its password stands in no file."""
LAUNCHERS: dict[str, dict[str, Any]] = {
    "ray": {"module": "dagster_ray", "class": "RayRunLauncher"},
    "k8s": {"module": "dagster_k8s", "class": "K8sRunLauncher"},
}


def dagster_database(settings: Settings) -> str | None:
    """The address of Dagster's records in Postgres, by the driver that Dagster needs; null: they are SQLite files."""
    if settings.dagster.database_url:
        return settings.dagster.database_url
    return with_schema(settings.database_url, "dagster", "psycopg2") if settings.database_url else None


def moved(settings: Settings) -> dict[str, Any]:
    """What differs from the repository's file."""
    changed: dict[str, Any] = {}
    if dagster_database(settings):
        changed["storage"] = {"postgres": {"postgres_url": {"env": DATABASE}}}
    if settings.dagster.launcher != "default":
        config = settings.dagster.launcher_config
        changed["run_launcher"] = LAUNCHERS[settings.dagster.launcher] | {"config": config}
    elif settings.dagster.launcher_config:
        raise SettingsError(
            "DPO_DAGSTER__LAUNCHER_CONFIG is set, and the default launcher takes none. Set DPO_DAGSTER__LAUNCHER to "
            f"one of {', '.join(LAUNCHERS)}, or leave it out."
        )
    return changed


def place_instance_config(settings: Settings) -> None:
    """Put `dagster.yaml` into Dagster's home. One that a person put there is left as it is.

    Raises:
        SettingsError: the settings contradict each other.
    """
    place, changed = settings.dagster_home / "dagster.yaml", moved(settings)
    if place.is_file() and not place.is_symlink() and not place.read_text(encoding="utf-8").startswith(HEAD):
        return
    if changed:
        config = yaml.safe_load(COMMITTED.read_text(encoding="utf-8")) | changed
        write_text(place, HEAD + yaml.safe_dump(config, sort_keys=False))
    elif not _points_to(place, COMMITTED):
        place.unlink(missing_ok=True)
        place.symlink_to(COMMITTED)


def _points_to(link: Path, target: Path) -> bool:
    return link.is_symlink() and link.exists() and link.resolve() == target.resolve()
