"""A version that harmed people is rolled back: what taught it waits for a person, and the loop for new votes."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg
import duckdb
import pytest

from dpo_pipeline.assets.curation import labelled_answers
from dpo_pipeline.core.cadence import CadenceDecision
from dpo_pipeline.core.curation import CurationSummary
from dpo_pipeline.core.pair_export import exported
from dpo_pipeline.core.rollout import HARM
from dpo_pipeline.core.serving_records import FeedbackRecord
from dpo_pipeline.core.votes import encode_preference
from dpo_pipeline.loop.build_dataset import build_dataset
from dpo_pipeline.loop.cadence import next_training
from dpo_pipeline.loop.curate import curate, rebuild_warehouse
from dpo_pipeline.loop.ingest import ingest
from dpo_pipeline.loop.label import label
from dpo_pipeline.loop.set_aside import find_suspects
from dpo_pipeline.loop.weekly_report import write_weekly_report
from dpo_pipeline.resources import LoopResource, WarehouseResource
from dpo_pipeline.settings import Settings
from dpo_pipeline.status import loop_status
from dpo_pipeline.stores.curation import read_labels
from dpo_pipeline.stores.ledger import Ledger
from dpo_pipeline.stores.log import AppendLog
from dpo_pipeline.stores.reviews import Review, ReviewLog, read_validated_pairs
from dpo_pipeline.stores.serving_log import ServingLog
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


def labelled(settings: Settings) -> int:
    """Good and bad answers, as the asset counts them."""
    resources = {"loop": LoopResource(), "warehouse": WarehouseResource()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DPO_DATA_DIR", str(settings.data_dir))
        done = dg.materialize([labelled_answers], resources=resources, selection=[labelled_answers])
    counts = done.asset_materializations_for_node("labelled_answers")[0].metadata
    return int(counts["good_answers"].value) + int(counts["bad_answers"].value)  # type: ignore[arg-type]


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
        "on them"
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


def said(number: int, version: str, **fields: Any) -> FeedbackRecord:
    return FeedbackRecord(
        event_id=f"said-{number}", recorded_at=f"2026-01-0{1 + number // 50}T00:00:{number % 50:02}.000Z",
        request_id=f"chatcmpl-{number}", user=f"person-{number % 7}", version=version,
        prompt=f"How far is the moon, the {number}th time?", answer=f"About 384,000 kilometres, {version} thinks.",
        **{"signal": "thumb", "value": "up", **fields},
    )  # fmt: skip


def test_what_was_said_of_its_answers_or_taught_it_alone_is_set_aside_too(settings: Settings, ledger: Ledger) -> None:
    """Thumbs 0 to 9 taught v1.1 too, 10 to 19 v1.2 alone; two of the later ones praise answers of v1.2, two do not."""
    log = ServingLog(settings.serving_log_dir)
    for number in range(24):
        log.append(said(number, "v1.2" if number in (20, 21) else "v1.0"))
    log.append(said(24, "v1.2", signal="correction", value="It is 384,400 kilometres away, on average."))
    log.append(said(25, "v1.2", value="down"))
    log.close()
    curated(settings, ledger)
    read = {"feedback_pairs": 0, "labelled": 1}
    put_version(
        ledger,
        "v1.1",
        status="champion",
        feedback_mark={"days": {"2026-01-01": 10}, "votes": 0},
        pairs_seen=SEEN,
        **read,
    )
    put_version(ledger, "v1.2", feedback_mark={"days": {"2026-01-01": 20}, "votes": 0}, pairs_seen=SEEN + ALONE, **read)
    before = opened(settings, lambda store: label(settings, store))
    assert len(before.labelled) == 25 and len(before.pairs) == 1
    roll_back(ledger, HARM, "satisfaction: 2.1 after 4.0")
    curated(settings, ledger)
    published = read_labels(settings.label_summary)
    assert (published.labelled, published.pairs, published.set_aside) == (25 - 12, 1, 12), "at once"
    shown = {pair.event_id: pair for pair in read_validated_pairs(settings.correction_table)}
    assert {name for name, pair in shown.items() if pair.failed == ("set_aside",)} == {
        f"said-{number}" for number in range(10, 22)
    }
    assert (shown["said-20"].response_b, shown["said-20"].model_a) == ("thumb up", "v1.2")
    assert "satisfaction: 2.1" in shown["said-20"].reason and exported(shown["said-20"], "trl") is None
    kto = settings.model_copy(update={"recipe": settings.recipe.model_copy(update={"objective": "kto"})})
    built = opened(settings, lambda store: build_dataset(kto, ledger, store, "v1.3"))
    taught = {each.event_id for each in built.split.labelled}
    assert taught <= {f"said-{number}" for number in (*range(10), 22, 23, 25)} and len(taught) >= 8
    manifest = json.loads((built.directory / "manifest.json").read_text())
    assert manifest["left_out"]["set_aside"] == ALONE + ANSWERED + 12
    status = loop_status(settings)
    assert (status["preferences"]["set_aside"], status["feedback"]["set_aside"]) == (ALONE + ANSWERED, 12)
    written = opened(settings, lambda store: write_weekly_report(settings, ledger, store, datetime.now(UTC)))
    assert f"Review the {ALONE + ANSWERED + 12} pairs and judgements" in written.page.read_text()
    restored = Review(
        review_id="rev-1", recorded_at="2026-01-02T00:00:00.000Z", event_id="said-20", action="restore",
        reason="it is right", actor="Rita",
    )  # fmt: skip
    ReviewLog(settings.reviews_log).append(restored)
    log = ServingLog(settings.serving_log_dir)
    log.append(said(26, "v1.2"))
    log.close()
    curated(settings, ledger)
    assert "said-26" not in ReviewLog(settings.reviews_log).taken_out(), "no curation run reads all feedback again"
    assert labelled(settings) == 14, "what a person restored stays, and later praise of its answers is out"
    assert read_labels(settings.label_summary).set_aside == 12
    assert set(ReviewLog(settings.reviews_log).taken_out()) >= {"said-26", "said-21"}


def test_a_version_of_pairs_alone_puts_no_judgement_of_others_in_question(settings: Settings, ledger: Ledger) -> None:
    log = ServingLog(settings.serving_log_dir)
    for number in range(6):
        log.append(said(number, "v1.2" if number == 5 else "v1.0"))
    log.close()
    curated(settings, ledger)
    put_version(
        ledger, "v1.2", feedback_mark={"days": {"2026-01-01": 6}, "votes": 0}, pairs_seen=SEEN + ALONE, labelled=0
    )
    roll_back(ledger, HARM, "crash rate")
    curated(settings, ledger)
    assert read_labels(settings.label_summary).set_aside == 1, "what was said of its own answer"
