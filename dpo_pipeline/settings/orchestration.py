"""How often Dagster looks, how long it keeps what it saw, and where its runs and its records are."""

from typing import Any, Literal

from pydantic import Field

from dpo_pipeline.settings.section import Section


class Dagster(Section):
    sensor_interval_s: int = Field(
        30, ge=1, description="seconds between two looks of each sensor; a look costs some 0.1 s of a core"
    )
    keep_runs_days: int = Field(
        7, ge=1, description="days for which runs that only checked, ingested or sent messages stay in Dagster"
    )
    database_url: str | None = Field(
        None, description="Postgres of Dagster's own records; null: database_url, in a schema of its own, or SQLite"
    )
    launcher: Literal["default", "ray", "k8s"] = Field(
        "default", description="what starts runs: processes beside the daemon, jobs of a Ray cluster, or Kubernetes"
    )
    launcher_config: dict[str, Any] = Field(
        {}, description="what that launcher is told, in its own words, as JSON; see the guide on scaling"
    )
