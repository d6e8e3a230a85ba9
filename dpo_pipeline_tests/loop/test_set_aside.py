"""A version that harmed people is rolled back: what taught it waits for a person, and the loop for new votes."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import duckdb
import pytest

from dpo_pipeline.core.cadence import CadenceDecision
from dpo_pipeline.core.curation import CurationSummary
from dpo_pipeline.core.rollout import HARM
from dpo_pipeline.core.votes import encode_preference
from dpo_pipeline.loop.build_dataset import build_dataset
from dpo_pipeline.loop.cadence import next_training
from dpo_pipeline.loop.curate import curate, rebuild_warehouse
from dpo_pipeline.loop.ingest import ingest
from dpo_pipeline.loop.set_aside import find_suspects
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.ledger import Ledger
from dpo_pipeline.stores.log import AppendLog
from dpo_pipeline.stores.reviews import Review, ReviewLog, read_validated_pairs
from dpo_pipeline.stores.warehouse import Warehouse, prepare
from dpo_pipeline_tests.examples import preference, put_version, settings_in

Result = TypeVar("Result")
SEEN, ALONE, LATER = 40, 50, 10
"""Valid pairs that v1.1 was trained on, those beyond that only v1.2 was, and those that came since."""
ANSWERED = 3
"""Of the later ones, how many v1.2 answered."""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = settings_in(tmp_path, recipe={"batch_size": 4})
    settings.warehouse_path.parent.mkdir(parents=True, exist_ok=True)
    total = SEEN + ALONE + LATER
    votes = [preference(number, model_b="v1.2" if number >= total - ANSWERED else "v1.0") for number in range(total)]
    AppendLog(settings.prefs_log).append_all([encode_preference(vote) for vote in votes])
    return settings


@pytest.fixture
def ledger(settings: Settings) -> Iterator[Ledger]:
    """v1.2 is being rolled out over v1.1."""
    with Ledger(settings.ledger_address) as ledger:
        long_ago = (datetime.now(UTC) - timedelta(days=9)).isoformat()
        put_version(ledger, "v1.0", status="registered", adapter_sha="0" * 64)
        ledger.install_champion("v1.0", "test")
        put_version(ledger, "v1.1", status="champion", pairs_seen=SEEN, created_at=long_ago)
        put_version(ledger, "v1.2", status="registered", pairs_seen=SEEN + ALONE, created_at=long_ago)
        ledger.start_rollout("v1.2", ledger.deployment().epoch, ("test",), "test")
        yield ledger


def curated(settings: Settings, ledger: Ledger) -> CurationSummary:
    def work(store: Warehouse) -> CurationSummary:
        ingest(store, settings.quarantine_log, 1 << 20, settings.quality)
        return curate(settings, store, suspects=find_suspects(ledger)).summary

    return opened(settings, work)


def opened(settings: Settings, work: Callable[[Warehouse], Result]) -> Result:
    with duckdb.connect(str(settings.warehouse_path)) as connection:
        prepare(connection)
        return work(Warehouse(connection, settings.prefs_log))


def roll_back(ledger: Ledger, *reasons: str) -> None:
    ledger.roll_back(ledger.deployment().epoch, reasons, {}, "loop")


def due(settings: Settings, ledger: Ledger) -> CadenceDecision:
    return next_training(settings, ledger, datetime.now(UTC))


@pytest.mark.slow
def test_what_it_answered_and_alone_was_trained_on_is_set_aside_with_the_reason(
    settings: Settings, ledger: Ledger
) -> None:
    before = curated(settings, ledger)
    assert (before.valid, before.set_aside) == (SEEN + ALONE + LATER, 0)
    roll_back(ledger, HARM, "crash rate: 4.0 % after 0.0 %")
    after = curated(settings, ledger)
    assert after.set_aside == ALONE + ANSWERED and after.valid == SEEN + LATER - ANSWERED
    assert after.suspects == ("v1.2",)
    pairs = {pair.event_id: pair for pair in read_validated_pairs(settings.review_table)}
    assert pairs["evt-0"].valid and pairs[f"evt-{SEEN}"].failed == ("set_aside",)
    assert pairs[f"evt-{SEEN}"].reason == (
        "v1.2 was rolled back (crash rate: 4.0 % after 0.0 %); it wrote one of these answers, or it alone was trained "
        "on this pair"
    )
    kept = {pair.event_id for pair in opened(settings, lambda store: store.valid_pairs())}
    assert kept == {f"evt-{n}" for n in (*range(SEEN), *range(SEEN + ALONE, SEEN + ALONE + LATER - ANSWERED))}


def test_no_other_rollback_puts_a_pair_in_question(settings: Settings, ledger: Ledger) -> None:
    roll_back(ledger, "A/B test lost: 40 % of 90 votes")
    assert curated(settings, ledger).set_aside == 0


def test_what_a_later_version_was_accepted_with_is_not_put_in_question(settings: Settings, ledger: Ledger) -> None:
    """A folder from before pairs were set aside: v1.3 learned from the same pairs, and serves."""
    curated(settings, ledger)
    roll_back(ledger, HARM, "crash rate")
    put_version(ledger, "v1.3", status="champion", pairs_seen=SEEN + ALONE)
    assert curated(settings, ledger).set_aside == ANSWERED, "what came since"


def test_what_a_person_restored_stays_also_in_a_warehouse_that_is_built_again(
    settings: Settings, ledger: Ledger
) -> None:
    roll_back(ledger, HARM, "crash rate")
    first, log = curated(settings, ledger), ReviewLog(settings.reviews_log)
    restored = Review(
        review_id="rev-1",
        recorded_at="2026-01-02T00:00:00.000Z",
        event_id=f"evt-{SEEN}",
        action="restore",
        reason="it is right",
        actor="Rita",
    )
    log.append(restored)
    again = curated(settings, ledger)
    assert (again.set_aside, again.valid) == (first.set_aside - 1, first.valid + 1)
    rebuild_warehouse(settings, "2026-01-03T00:00:00Z")
    rebuilt = curated(settings, ledger)
    assert (rebuilt.set_aside, rebuilt.valid, rebuilt.taken_out) == (again.set_aside, again.valid, again.taken_out)


def test_the_next_version_waits_for_votes_of_its_own(settings: Settings, ledger: Ledger) -> None:
    threshold = settings.cadence.startup.min_samples
    curated(settings, ledger)
    roll_back(ledger, HARM, "crash rate")
    assert due(settings, ledger).reason == (
        "v1.2 was rolled back for harm; the pairs that this puts in question come first"
    )
    curated(settings, ledger)
    left = LATER - ANSWERED
    decision = due(settings, ledger)
    assert (decision.due, decision.unused, decision.threshold) == (False, left, threshold)
    more = [preference(1_000 + number) for number in range(threshold - left)]
    AppendLog(settings.prefs_log).append_all([encode_preference(vote) for vote in more])
    curated(settings, ledger)
    assert (due(settings, ledger).due, due(settings, ledger).unused) == (True, threshold), "and no more than these"


def test_a_dataset_never_holds_them_even_before_curation_ran(settings: Settings, ledger: Ledger) -> None:
    curated(settings, ledger)
    roll_back(ledger, HARM, "crash rate")
    built = opened(settings, lambda store: build_dataset(settings, ledger, store, "v1.3"))
    events = {pair.event_id for pair in (*built.split.train, *built.split.eval)}
    assert len(events) == SEEN + LATER - ANSWERED and f"evt-{SEEN}" not in events
    manifest = json.loads((built.directory / "manifest.json").read_text())
    assert manifest["left_out"]["set_aside"] == ALONE + ANSWERED
