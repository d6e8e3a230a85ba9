"""The loop at a glance, as a value: what `dpo status` prints. Reads the ledger, progress and the curation summary."""

import time
from datetime import UTC, datetime
from typing import Any

from dpo_pipeline.core.progress import STILL_S, first_version
from dpo_pipeline.core.rollout import traffic_of
from dpo_pipeline.loop.cadence import next_training
from dpo_pipeline.loop.roll_out import plan_of
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.curation import read_summary
from dpo_pipeline.stores.ledger import DeploymentState, Ledger
from dpo_pipeline.stores.progress import read_progress

DOING = {
    "base_model": "the base model is being built",
    "sft": "an adapter is being tuned",
    "dpo": "the next version is being trained",
    "eval": "the next version is being evaluated",
}


def loop_status(settings: Settings) -> dict[str, Any]:
    """Keys as documented in the README, "dpo status --json"; `rollout` is null where no version is rolled out."""
    summary = read_summary(settings.curation_summary)
    with Ledger(settings.ledger_address) as ledger:
        versions, deployment, decisions = ledger.versions(), ledger.deployment(), ledger.decisions()
        cadence = next_training(settings, ledger, datetime.now(UTC))
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
            "unused": cadence.unused,
            "threshold": cadence.threshold,
            "phase": cadence.phase,
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
        "now": _now(settings, deployment, f"{cadence.unused} of {cadence.threshold} unused valid preferences"),
    }


def _now(settings: Settings, deployment: DeploymentState, collected: str) -> str:
    """One sentence: what is going on."""
    tasks = read_progress(settings.data_dir / "progress")
    if deployment.champion is None:
        return first_version(tasks, None, time.time())
    at_work = [
        f"{DOING[task.task]}: {task}"
        for task in tasks
        if task.task in DOING and not task.done and time.time() - task.updated < STILL_S
    ]
    if deployment.challenger and deployment.stage:
        traffic = traffic_of(deployment.stage, plan_of(deployment, settings.rollout).policy)
        serving = f"{deployment.challenger} is in stage {deployment.stage} ({traffic:.0%} of the traffic)"
    else:
        serving = f"{deployment.champion} serves all of the traffic"
    return "; ".join((serving, collected, *at_work)) + "."
