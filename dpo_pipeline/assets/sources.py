"""What serving writes and the loop reads: the logs, as sources that can be observed."""

import warnings

import dagster as dg

from dpo_pipeline.assets.partitions import data_version
from dpo_pipeline.resources import LoopResource
from dpo_pipeline.stores.log import file_bytes

# The warning would be the first line of every program's log; the definitions snapshot tells when the beta changes.
warnings.filterwarnings("ignore", "Function `observable_source_asset` is currently in beta", dg.BetaWarning)


@dg.observable_source_asset(
    group_name="logs",
    tags={"dagster/kind/jsonl": ""},
    description="`prefs.jsonl` and the reviews: what people voted and reviewed. Append-only; serving writes it.",
)
def vote_log(loop: LoopResource) -> dg.DataVersion:
    settings = loop.settings()
    return data_version(file_bytes(settings.prefs_log), file_bytes(settings.reviews_log))


def votes_seen(votes: int, reviews: int) -> dg.AssetObservation:
    """What an observation of `vote_log` would say, for a run that reads it anyway.

    Args:
        votes, reviews: bytes.
    """
    return dg.AssetObservation(
        vote_log.key,
        tags={"dagster/data_version": data_version(votes, reviews).value},
        metadata={"bytes": votes, "bytes_of_reviews": reviews},
    )


@dg.observable_source_asset(
    group_name="logs",
    tags={"dagster/kind/jsonl": ""},
    automation_condition=dg.AutomationCondition.on_cron("0 * * * *"),
    description="Requests and what people said of the answers, a file a day. Append-only; serving writes it.",
)
def serving_log(loop: LoopResource) -> dg.DataVersion:
    days = sorted(loop.settings().serving_log_dir.glob("*.jsonl"))
    return data_version(*((day.name, file_bytes(day)) for day in days))
