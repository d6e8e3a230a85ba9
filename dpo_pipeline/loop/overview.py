"""The loop at a glance, read from ledger, progress and the curation summary."""

from datetime import UTC, datetime

from dpo_pipeline.core.curation import CurationSummary
from dpo_pipeline.core.loop_facts import InProduction, LoopFacts
from dpo_pipeline.core.overview import Overview, overview
from dpo_pipeline.core.rollout import STAGES, stage_policy, traffic_of
from dpo_pipeline.loop.cadence import next_training
from dpo_pipeline.loop.roll_out import plan_of
from dpo_pipeline.loop.rollout_evidence import hours_since
from dpo_pipeline.settings import RolloutPolicy, Settings
from dpo_pipeline.stores.curation import read_summary
from dpo_pipeline.stores.ledger import DeploymentState, Ledger
from dpo_pipeline.stores.log import file_bytes
from dpo_pipeline.stores.progress import read_progress


def loop_overview(settings: Settings, ledger: Ledger) -> Overview:
    now, summary = datetime.now(UTC), read_summary(settings.curation_summary)
    return overview(
        LoopFacts(
            summary=summary,
            cadence=next_training(settings, ledger, now),
            versions=ledger.versions(),
            served=_served(settings.rollout, ledger.deployment(), now),
            tasks=read_progress(settings.data_dir / "progress"),
            max_attempts=settings.cadence.max_attempts,
            now=now.timestamp(),
            unread_s=_unread_s(settings, summary, now.timestamp()),
        )
    )


def _unread_s(settings: Settings, summary: CurationSummary, now: float) -> float:
    """For how long at least there are votes behind the place up to which curation has read; 0: there are none."""
    if file_bytes(settings.prefs_log) <= summary.log_offset:
        return 0.0
    files = (settings.prefs_log, settings.curation_summary)
    return max(now - max(each.stat().st_mtime for each in files if each.exists()), 0.0)


def _served(rollout: RolloutPolicy, state: DeploymentState, now: datetime) -> InProduction:
    if not (state.challenger and state.stage and state.stage_since):
        return InProduction(state.champion)
    policy = plan_of(state, rollout).policy
    least = [stage_policy(stage, policy).hours * policy.duration_scale for stage in STAGES[STAGES.index(state.stage) :]]
    left = max(least[0] - hours_since(state.stage_since, now), 0.0) + sum(least[1:-1])
    traffic = traffic_of(state.stage, policy)
    return InProduction(state.champion, state.challenger, state.stage, traffic, state.paused, left)
