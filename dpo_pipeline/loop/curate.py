"""From preferences to valid pairs: validate what is new, apply people's reviews, publish the counts."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from dpo_pipeline.core.curation import (
    CurationSummary,
    summarise,
    with_second_looks,
    without_taken_out,
    without_withdrawn,
)
from dpo_pipeline.core.set_aside import Suspect
from dpo_pipeline.loop.ingest import LOG, validate_new
from dpo_pipeline.loop.label import label
from dpo_pipeline.loop.set_aside import set_aside, set_votes_aside
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.curation import publish_summary, read_summary
from dpo_pipeline.stores.log import file_bytes
from dpo_pipeline.stores.reviews import apply_reviews
from dpo_pipeline.stores.warehouse import Warehouse


@dataclass(frozen=True)
class Curated:
    """`validated_now`: preferences that this run gave a validation result; `set_aside_now`: how much a rollback
    put in question. `summary`: the counts as of now.
    """

    validated_now: int
    set_aside_now: int
    summary: CurationSummary


def curate(
    settings: Settings,
    warehouse: Warehouse,
    progress: Callable[[int], None] = lambda done: None,
    suspects: tuple[Suspect, ...] = (),
) -> Curated:
    """Incremental: run again after a crash, it goes on where the last whole batch ended.

    Args:
        suspects: versions that were rolled back for harm.
        progress: called with how many are validated so far.
    """
    count = validate_new(warehouse, settings.quality, progress)
    before = read_summary(settings.curation_summary)
    is_news = any(each.version not in before.suspects for each in suspects)
    # Later feedback is set aside where it is labelled.
    questioned = (set_aside if is_news else set_votes_aside)(settings, warehouse, suspects)
    reviews_bytes = file_bytes(settings.reviews_log)  # before they are read: what comes meanwhile is seen next time
    if is_news and questioned:  # what is published of it would make a version due by what was set aside
        label(settings, warehouse)
    taken_out = apply_reviews(warehouse, settings.reviews_log, settings.review_table)
    counted = summarise(warehouse.tallies(), warehouse.position(LOG).offset, reviews_bytes, before.rebuilt)
    counted = without_withdrawn(without_taken_out(counted, taken_out), warehouse.withdrawn_votes())
    summary = with_second_looks(counted, *warehouse.second_looks())
    simulated = warehouse.simulated_votes()
    summary = replace(summary, simulated=simulated, suspects=tuple(each.version for each in suspects))
    publish_summary(settings.curation_summary, summary)
    return Curated(count, questioned, summary)


def rebuild_warehouse(settings: Settings, now: str) -> None:
    """Delete what was derived from the log: the next curation run derives it again.

    The summary says when, so that the run that `new_votes` asks for is none that it asked for before.
    """
    derived = (settings.warehouse_path, settings.warehouse_path.with_suffix(".duckdb.wal"))
    for path in (*derived, settings.review_table, settings.correction_table):
        path.unlink(missing_ok=True)
    publish_summary(settings.curation_summary, CurationSummary(rebuilt=now))
