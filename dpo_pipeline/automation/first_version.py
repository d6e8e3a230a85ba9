"""What Dagster shows of v1.0 at the assets that only later versions have: that there is nothing to make, and why.

The partition is there, because v1.0 is registered like any version, and its other cells would be "missing" for ever. An
event in Dagster's records is all that this is: nothing is made, and the ledger does not know of it.
"""

import dagster as dg

from dpo_pipeline.assets.deployment import rollout_decision
from dpo_pipeline.assets.evaluation import eval_report
from dpo_pipeline.assets.training import dpo_dataset, trained_adapter
from dpo_pipeline.core.versions import BASELINE

NOTHING: dict[dg.AssetsDefinition, str] = {
    dpo_dataset: "it was tuned on demonstrations and on no pairs",
    trained_adapter: "its adapter is the one of `sft_adapter`",
    eval_report: "there is no earlier version to compare it with; later ones are compared with it",
    rollout_decision: "it serves from the start; there was nothing to roll it out against",
}


def nothing_to_make() -> list[dg.AssetMaterialization]:
    """One event an asset, for the partition of v1.0."""
    return [
        dg.AssetMaterialization(
            asset.key,
            description=f"{BASELINE} is the start, tuned by SFT only: {why}. Nothing was made.",
            partition=BASELINE,
        )
        for asset, why in NOTHING.items()
    ]
