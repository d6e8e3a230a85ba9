"""A thumb's way: from the serving log into the dataset of the next version, counted, traced, and forgotten."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from dpo_pipeline.core.redaction import redact
from dpo_pipeline.core.serving_records import FeedbackRecord, RequestRecord
from dpo_pipeline.core.validated_pair import PairFilter, ValidatedPair
from dpo_pipeline.core.votes import encode_preference
from dpo_pipeline.errors import DatasetTooSmall
from dpo_pipeline.loop.attempts import attempt_of
from dpo_pipeline.loop.build_dataset import BuiltDataset, build_dataset
from dpo_pipeline.loop.cadence import next_training
from dpo_pipeline.loop.demonstrations import usable_corrections
from dpo_pipeline.loop.feedback_table import write_feedback
from dpo_pipeline.loop.forget import forget
from dpo_pipeline.loop.label import label
from dpo_pipeline.loop.trace import trace
from dpo_pipeline.loop.traces import PersonTrace, RequestTrace
from dpo_pipeline.serving.accounts import AT_MACHINE, Accounts
from dpo_pipeline.serving.services.reviews import Reviews
from dpo_pipeline.settings import Cadence, DpoRecipe, Settings
from dpo_pipeline.stores import artifacts
from dpo_pipeline.stores.ledger import Ledger, utc_now
from dpo_pipeline.stores.log import AppendLog
from dpo_pipeline.stores.reviews import ReviewLog, read_validated_pairs
from dpo_pipeline.stores.serving_log import ServingLog
from dpo_pipeline.stores.warehouse import Warehouse, prepare
from dpo_pipeline_tests.examples import preference, put_version, settings_in
from dpo_pipeline_tests.serving import collected

VOTES, THUMBS = 30, 400


def give(settings: Settings, *records: FeedbackRecord) -> None:
    log = ServingLog(settings.serving_log_dir)
    for record in records:
        log.append(record)
    log.close()


def thumb(number: int, **fields: Any) -> FeedbackRecord:
    usual: dict[str, Any] = {
        "event_id": f"thumb-{number}",
        "recorded_at": utc_now(),
        "request_id": f"chatcmpl-{number}",
        "user": f"person-{number % 11}",
        "version": "v1.0",
        "signal": "thumb",
        "value": "up" if number % 3 else "down",
        "prompt": f"How far is it to the moon, the {number}th time?",
        "answer": "About 384,000 kilometres.",
    }
    return FeedbackRecord(**usual | fields)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """30 votes, 400 thumbs of a team, and a version in production, trained by the objective that learns from all."""
    settings = settings_in(tmp_path, recipe={"objective": "kto"})
    AppendLog(settings.prefs_log).append_all([encode_preference(preference(number)) for number in range(VOTES)])
    give(settings, *(thumb(number) for number in range(THUMBS)))
    collected.curate(settings)
    with Ledger(settings.ledger_address) as ledger:
        put_version(ledger, "v1.0", status="champion", adapter_sha="0" * 64)
    return settings


@contextmanager
def warehouse(settings: Settings) -> Iterator[Warehouse]:
    with duckdb.connect(str(settings.warehouse_path)) as connection:
        prepare(connection)
        yield Warehouse(connection, settings.prefs_log)


def build(settings: Settings, name: str = "v1.1") -> BuiltDataset:
    with warehouse(settings) as store, Ledger(settings.ledger_address) as ledger:
        return build_dataset(settings, ledger, store, name)


def due(settings: Settings) -> bool:
    with Ledger(settings.ledger_address) as ledger:
        return next_training(settings, ledger, datetime.now(UTC)).due


@pytest.mark.slow
def test_thirty_votes_and_four_hundred_thumbs_make_a_version_due_by_default(settings: Settings) -> None:
    settings = settings.model_copy(update={"recipe": DpoRecipe()})
    assert not due(settings), "nobody has counted the thumbs yet"
    with warehouse(settings) as store:
        found = label(settings, store)
    assert found.sources == {"thumb": THUMBS} and due(settings)
    by_pairs = settings.model_copy(update={"cadence": Cadence(labels_may_decide=False)})
    assert not due(by_pairs), "pairs alone are not enough for it"
    built = build(settings)
    with Ledger(settings.ledger_address) as ledger:
        attempt = attempt_of(settings, ledger.version("v1.1"))
    assert (attempt.number, attempt.recipe.objective) == (1, "kto"), "trained by what its dataset was built for"
    assert len(built.split.labelled) > 0.8 * THUMBS and build(settings).split.content_hash == built.split.content_hash


@pytest.mark.slow
def test_they_are_in_its_dataset_and_whoever_asks_is_told(settings: Settings) -> None:
    built = build(settings)
    manifest = artifacts.read_manifest(built.directory)
    kept = {each.event_id for each in built.split.labelled}
    assert manifest["sources"] == {"api": len(built.split.train), "thumb": len(kept)}
    assert built.split.left_out["label_on_evaluated_prompt"] == THUMBS - len(kept) < 0.2 * THUMBS
    assert set(manifest["labelled_events"]) == kept
    assert kept >= {"thumb-3", "thumb-4", "thumb-7"}, "to other prompts than those that versions are judged on"
    rows = pq.read_table(built.directory / "labelled.parquet").to_pylist()
    assert {(row["event_id"], row["label"]) for row in rows} >= {("thumb-3", False), ("thumb-4", True)}
    answers = (built.directory / "llamafactory" / "answers.jsonl").read_text().splitlines()
    assert len(answers) == len(kept) + 2 * len(built.split.train)
    log = ServingLog(settings.serving_log_dir)
    log.append_request(
        RequestRecord(
            request_id="chatcmpl-7", recorded_at=utc_now(), session_id="", user="person-7", version="v1.0",
            adapter_sha="", stage="full", shadow=False, latency_ms=1.0, ttft_ms=None, tokens=9, outcome="ok",
        )
    )  # fmt: skip
    log.close()
    for name in ("thumb-7", "chatcmpl-7"):
        found = trace(settings, name)
        assert isinstance(found, RequestTrace) and found.said[0].value == "up"
        assert [(each.part, each.versions, each.waiting) for each in found.datasets] == [("labelled", (), ("v1.1",))]
        assert found.becomes["thumb-7"] == "a labelled answer, for the next dataset whose objective is kto"
    with Ledger(settings.ledger_address) as ledger:
        put_version(ledger, "v1.1", status="trained", adapter_sha="1" * 64)
    assert trace(settings, "thumb-7").datasets[0].versions == ("v1.1",)
    person = trace(settings, "person-7")
    assert isinstance(person, PersonTrace) and person.feedback == {"thumb": len(range(7, THUMBS, 11))}


@pytest.mark.slow
def test_a_dataset_that_was_built_keeps_what_had_been_said_by_then(settings: Settings) -> None:
    first_moment = utc_now()
    first = build(settings)
    later = thumb(7, event_id="changed", value="down", user="person-7", request_id="chatcmpl-7")
    new = thumb(1000, event_id="new", prompt="What is tea?", answer="Leaves in hot water.")
    give(settings, later, new)
    # Said before, written later: a thumb by another thread, a vote that was not read yet.
    give(settings, thumb(1001, event_id="late", recorded_at=first_moment, prompt="What is ice?"))
    vote = preference(VOTES, "both_bad", recorded_at=first_moment)
    AppendLog(settings.prefs_log).append(encode_preference(vote))
    collected.curate(settings)
    assert build(settings).split.content_hash == first.split.content_hash
    with Ledger(settings.ledger_address) as ledger:
        seen = ledger.version("v1.1")
        assert (seen.feedback_pairs, seen.labelled) == (0, THUMBS)
        put_version(ledger, "v1.1", status="registered")
    second = {each.event_id for each in build(settings, "v1.2").split.labelled}
    assert {"changed", "new", "late", "thumb-8", vote.event_id} <= second and "thumb-7" not in second
    fresh = settings.recipe.model_copy(update={"pairs": "new"})
    with pytest.raises(DatasetTooSmall, match="5 answers can be trained on"):  # what v1.1 has not seen
        build(settings.model_copy(update={"recipe": fresh}), "v1.3")


@pytest.mark.slow
def test_a_version_from_before_there_was_feedback_is_rebuilt_without(settings: Settings) -> None:
    built = build(settings)
    with Ledger(settings.ledger_address) as ledger:
        put_version(ledger, "v1.1", feedback_mark=None)
    assert build(settings).split.labelled == () != built.split.labelled


@pytest.mark.slow
def test_a_version_of_thumbs_alone_is_pinned_too(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, recipe={"objective": "kto"})
    give(settings, *(thumb(number) for number in range(40)))
    collected.curate(settings)
    first = build(settings)
    assert first.split.train == () and len(first.split.labelled) > 30
    give(settings, *(thumb(number) for number in range(40, 60)))
    AppendLog(settings.prefs_log).append_all([encode_preference(preference(number)) for number in range(VOTES)])
    collected.curate(settings)
    assert build(settings).split.content_hash == first.split.content_hash


@pytest.mark.slow
def test_corrections_are_pairs_of_every_objective(settings: Settings) -> None:
    give(settings, thumb(500, signal="correction", value="384,400 km, on average, to be exact.", event_id="mended"))
    by_pairs = {"recipe": DpoRecipe(), "cadence": Cadence(labels_may_decide=False)}
    split = build(settings.model_copy(update=by_pairs)).split
    [pair] = [each for each in (*split.train, *split.eval) if each.source == "correction"]
    assert (pair.event_id, pair.rejected) == ("mended", "About 384,000 kilometres.") and split.labelled == ()


@pytest.mark.slow
def test_a_correction_is_reviewed_as_votes_are(settings: Settings) -> None:
    give(
        settings,
        thumb(500, signal="correction", value="384,400 km, on average, to be exact.", event_id="mended"),
        thumb(501, signal="correction", value="No.", event_id="short"),
    )

    def published() -> dict[str, ValidatedPair]:
        with warehouse(settings) as store:
            label(settings, store)
        return {pair.event_id: pair for pair in read_validated_pairs(settings.correction_table)}

    first = published()
    assert first["mended"].valid and first["short"].failed == ("too_short",)
    tables = settings.review_table, settings.correction_table
    reviews = Reviews(tables, ReviewLog(settings.reviews_log), Accounts(settings), redact)
    assert {"mended", "short"} <= {seen.pair.event_id for seen in reviews.collected()}
    [row] = reviews.exported(PairFilter(result="valid", source="correction"), "trl")
    assert row["chosen"][0]["content"].startswith("384,400 km") and "384,000" in row["rejected"][0]["content"]
    reviews.order("mended", "exclude", "it is farther than that", AT_MACHINE, "127.0.0.1")
    assert not any(each.source == "correction" for each in build(settings).split.train)
    assert usable_corrections(settings) == ()
    taken_out = published()["mended"]
    assert (taken_out.failed, taken_out.reason) == (("excluded",), "it is farther than that")
    reviews.order("mended", "restore", "no, it is right", AT_MACHINE, "127.0.0.1")
    assert published()["mended"].valid and [each.event_id for each in usable_corrections(settings)] == ["mended"]
    forget(settings, first["mended"].annotator)
    assert not settings.correction_table.exists()


@pytest.mark.slow
def test_what_a_person_said_leaves_with_them(settings: Settings) -> None:
    secret = "My neighbour Ottokar Ääränen says it is farther."
    give(settings, thumb(501, user="her pseudonym", signal="comment", value=secret), thumb(502, user="her pseudonym"))
    built = build(settings)
    settings.reports_dir.mkdir(exist_ok=True)
    counts = write_feedback(settings.serving_log_dir, settings.feedback_table)
    assert counts == {"thumb": THUMBS + 1, "comment": 1}
    found = forget(settings, "her pseudonym")
    assert found.requests == 2 and found.datasets == [built.directory.name] and found.left == []
    assert not settings.feedback_table.exists() and not built.directory.exists()
    with Ledger(settings.ledger_address) as ledger:
        left = ledger.version("v1.1")
    assert left.labelled == THUMBS and left.feedback_mark and sorted(left.feedback_mark["days"].values()) == [0, THUMBS]
    assert not settings.label_summary.exists(), "it is counted again, without what is gone"


def test_forgetting_that_was_interrupted_puts_marks_right_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(settings)
    with Ledger(settings.ledger_address) as ledger:
        before = ledger.version("v1.1")

    def killed(settings: Settings) -> None:
        raise KeyboardInterrupt

    for place in ("apply_marks", "_take_back"):
        monkeypatch.setattr(f"dpo_pipeline.loop.forget.{place}", killed)
        with pytest.raises(KeyboardInterrupt):
            forget(settings, "person-3")
        monkeypatch.undo()
    forget(settings, "person-3")
    with Ledger(settings.ledger_address) as ledger:
        after = ledger.version("v1.1")
    hers, votes = len(range(3, THUMBS, 11)), len(range(3, VOTES, 7))
    assert before.feedback_mark and after.feedback_mark and before.labelled == THUMBS
    assert (after.labelled, max(after.feedback_mark["days"].values())) == (THUMBS - hers, THUMBS - hers)
    assert after.feedback_mark["votes"] == before.feedback_mark["votes"] - votes
