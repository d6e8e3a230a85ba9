"""Targets of the weekly report, and where reminders and alerts go."""

from pydantic import Field, SecretStr

from dpo_pipeline.settings.section import Section


class Kpis(Section):
    """Targets of the weekly report."""

    satisfaction: float = Field(4.0, ge=1, le=5, description="mean rating, 1 to 5, to stay above")
    win_rate: float = Field(0.55, gt=0, lt=1, description="win rate over v1.0 by votes to stay above")
    error_rate: float = Field(0.01, gt=0, lt=1, description="share of failed requests to stay below")
    error_alert: float = Field(0.02, gt=0, lt=1, description="share of failed requests that is reported at once")
    clear_winners: float = Field(0.6, gt=0, le=1, description="share of votes that name a winner")
    quality_score: float = Field(0.5, gt=0, le=1, description="mean share of criteria that decided votes pass")


class Notifications(Section):
    """Where reminders and alerts go: apprise addresses, such as mailto://… or json://127.0.0.1:9000/hook."""

    urls: tuple[SecretStr, ...] = Field((), description="apprise addresses; none: reminders stand in Dagster only")
