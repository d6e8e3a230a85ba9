"""How often Dagster looks, and how long it keeps what it saw."""

from pydantic import Field

from dpo_pipeline.settings.section import Section


class Dagster(Section):
    sensor_interval_s: int = Field(
        30, ge=1, description="seconds between two looks of each sensor; a look costs some 0.1 s of a core"
    )
    keep_runs_days: int = Field(
        7, ge=1, description="days for which runs that only checked, ingested or sent messages stay in Dagster"
    )
