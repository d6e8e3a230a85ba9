"""What a curation run publishes for pages and sensors."""

from pathlib import Path

import duckdb

from dpo_pipeline.core.vote_count import VoteCount
from dpo_pipeline.core.votes import encode_preference
from dpo_pipeline.loop.curate import curate
from dpo_pipeline.loop.ingest import ingest
from dpo_pipeline.stores.curation import read_summary
from dpo_pipeline.stores.log import AppendLog
from dpo_pipeline.stores.warehouse import Warehouse, prepare
from dpo_pipeline_tests.examples import preference, settings_in


def test_votes_of_people_and_simulated_ones_are_published_apart(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    sources = ("ui", "simulated", "simulated", "import")
    events = [preference(number, source=source) for number, source in enumerate(sources)]
    AppendLog(settings.prefs_log).append_all([encode_preference(event) for event in events])
    settings.warehouse_path.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(str(settings.warehouse_path)) as connection:
        prepare(connection)
        store = Warehouse(connection, settings.prefs_log)
        ingest(store, settings.quarantine_log, 1 << 20, settings.quality)
        curate(settings, store)
    summary = read_summary(settings.curation_summary)
    assert (summary.recorded, summary.voted, summary.brought_in) == (4, VoteCount(people=1, simulated=2), 1)
