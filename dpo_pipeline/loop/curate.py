"""From preferences to valid pairs: validate what is new, apply people's reviews, publish the counts."""

from collections.abc import Callable
from dataclasses import dataclass

from dpo_pipeline.core.curation import CurationSummary, summarise, with_second_looks, without_excluded
from dpo_pipeline.loop.ingest import LOG, validate_new
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.curation import publish_summary, read_summary
from dpo_pipeline.stores.log import file_bytes
from dpo_pipeline.stores.reviews import apply_reviews
from dpo_pipeline.stores.warehouse import Warehouse


@dataclass(frozen=True)
class Curated:
    """`validated_now`: preferences that this run gave a validation result. `summary`: the counts as of now."""

    validated_now: int
    summary: CurationSummary


def curate(settings: Settings, warehouse: Warehouse, progress: Callable[[int], None] = lambda done: None) -> Curated:
    """Incremental: run again after a crash, it goes on where the last whole batch ended.

    Args:
        progress: called with how many are validated so far.
    """
    reviews_bytes = file_bytes(settings.reviews_log)  # before they are read: what comes meanwhile is seen next time
    count = validate_new(warehouse, settings.quality, progress)
    excluded = apply_reviews(warehouse, settings.reviews_log, settings.review_table)
    rebuilt = read_summary(settings.curation_summary).rebuilt
    counted = summarise(warehouse.tallies(), warehouse.position(LOG).offset, reviews_bytes, rebuilt)
    summary = with_second_looks(without_excluded(counted, excluded), *warehouse.second_looks())
    publish_summary(settings.curation_summary, summary)
    return Curated(count, summary)


def rebuild_warehouse(settings: Settings, now: str) -> None:
    """Delete what was derived from the log: the next curation run derives it again.

    The summary says when, so that the run that `new_votes` asks for is none that it asked for before.
    """
    for path in (settings.warehouse_path, settings.warehouse_path.with_suffix(".duckdb.wal"), settings.review_table):
        path.unlink(missing_ok=True)
    publish_summary(settings.curation_summary, CurationSummary(rebuilt=now))
