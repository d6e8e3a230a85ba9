"""The loop at a glance, as a value: what `dpo status` prints. Reads the ledger, progress and the curation summary."""

from datetime import UTC, datetime
from typing import Any

from dpo_pipeline.core.rollout import traffic_of
from dpo_pipeline.loop.cadence import next_training
from dpo_pipeline.loop.overview import loop_overview
from dpo_pipeline.loop.roll_out import plan_of
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.curation import read_labels, read_summary
from dpo_pipeline.stores.ledger import Ledger


def loop_status(settings: Settings) -> dict[str, Any]:
    """Keys as documented in the README, "dpo status --json"; `rollout` is null where no version is rolled out."""
    summary, said = read_summary(settings.curation_summary), read_labels(settings.label_summary)
    with Ledger(settings.ledger_address) as ledger:
        versions, deployment, decisions = ledger.versions(), ledger.deployment(), ledger.decisions()
        cadence, seen = next_training(settings, ledger, datetime.now(UTC)), loop_overview(settings, ledger)
    rollout = None
    if deployment.stage:
        latest = decisions[-1]
        rollout = {
            "version": deployment.subject,
            "stage": deployment.stage,
            "traffic": traffic_of(deployment.stage, plan_of(deployment, settings.rollout).policy),
            "epoch": deployment.epoch,
            "paused": deployment.paused,
            "decision": latest.decision,
            "reasons": list(latest.reasons),
        }
    return {
        "preferences": {
            "recorded": summary.recorded,
            "quarantined": summary.quarantined,
            "valid": summary.valid,
            "rejected": summary.rejected,
            "set_aside": summary.set_aside,
            "unused": cadence.unused,
            "threshold": cadence.threshold,
            "phase": cadence.phase,
            "objective": cadence.objective,
        },
        "feedback": {
            "pairs": said.pairs,
            "labelled": said.labelled,
            "set_aside": said.set_aside,
            "sources": said.sources,
        },
        "versions": [
            {
                "name": record.name,
                "attempt": record.attempt,
                "status": record.status,
                "adapter_sha": record.adapter_sha,
                "parent": record.parent,
                "dataset_hash": record.dataset_hash,
                "pairs": record.pairs,
                "win_rate": record.win_rate,
                "mlflow_version": record.mlflow_version,
            }
            for record in versions
        ],
        "champion": deployment.champion,
        "challenger": deployment.challenger,
        "rollout": rollout,
        "now": seen.happening,
        "next": seen.next,
    }
