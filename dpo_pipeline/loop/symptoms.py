"""What ledger, collection and ratings say of a version's last attempt: the input of `core.diagnosis`."""

from datetime import UTC, datetime, timedelta
from statistics import fmean
from typing import Any

from dpo_pipeline.core.diagnosis import Symptoms
from dpo_pipeline.core.version_metrics import person_means
from dpo_pipeline.core.versions import BASELINE
from dpo_pipeline.core.winrate import mean_interval
from dpo_pipeline.loop.demonstrations import usable_corrections
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.curation import read_labels, read_summary
from dpo_pipeline.stores.ledger import VersionRecord
from dpo_pipeline.stores.serving_log import read_records

RATED_WITHIN = timedelta(days=60)


def symptoms(settings: Settings, record: VersionRecord) -> Symptoms:
    """As of now. What was not measured is null."""
    evaluation, metrics, recipe = record.evaluation or {}, record.training_metrics or {}, record.recipe or {}
    drift = (evaluation.get("measured") or {}).get("drift") or {}
    summary = read_summary(settings.curation_summary)
    decided = summary.votes.get("a", 0) + summary.votes.get("b", 0)
    votes = sum(summary.votes.values())
    since = (datetime.now(UTC) - RATED_WITHIN).isoformat()
    corrected = usable_corrections(settings)
    liked = person_means(read_records(settings.serving_log_dir, since), BASELINE, settings.rollout.count_unproven)
    return Symptoms(
        win_rate=float(record.win_rate or 0.0),
        win_rate_high=float((evaluation.get("overall") or {}).get("high", 1.0)),
        margin=float(metrics.get("rewards/margins", 0.0)),
        chosen_shift=float(metrics.get("rewards/chosen", 0.0)) / float(recipe.get("beta", 1.0)),
        length_ratio=float(evaluation.get("length_ratio", 1.0)),
        diverged=record.status == "diverged",
        kl_per_token=drift.get("kl_per_token"),
        controlled_high=_controlled_high(evaluation),
        pairs=record.pairs,
        clear_share=decided / votes if votes else None,
        flip_rate=summary.flip_rate,
        flip_rate_low=summary.flip_rate_low or 0.0,
        categories=summary.valid_categories or None,
        sft_satisfaction=fmean(liked) if liked else None,
        sft_satisfaction_high=1 + 4 * mean_interval([(each - 1) / 4 for each in liked], settings.evaluation.alpha)[1],
        labelled=read_labels(settings.label_summary).labelled,
        demonstrations=len(corrected) + (record.pairs or 0),
        sft_rounds=int(recipe.get("sft_rounds", 0)),
    )


def _controlled_high(evaluation: dict[str, Any]) -> float:
    """Upper end, at two standard errors, of the win rate at equal lengths; 1 where there is none."""
    rate, error = evaluation.get("controlled"), evaluation.get("controlled_error")
    return 1.0 if rate is None or error is None else float(rate) + 2 * float(error)
