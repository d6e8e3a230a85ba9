"""A vote is followed to what it touched, a version back to its votes, and a person is forgotten everywhere."""

import bz2
import gzip
import json
import lzma
import sqlite3
from contextlib import closing
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpo_pipeline.core.dataset import split_pairs
from dpo_pipeline.core.questions import Question, split_bank
from dpo_pipeline.core.serving_records import FeedbackRecord, RequestRecord
from dpo_pipeline.core.votes import decode_preference, encode_preference
from dpo_pipeline.errors import UnknownVersion
from dpo_pipeline.loop.forget import forget
from dpo_pipeline.loop.looked_for import kept_in
from dpo_pipeline.loop.personal_traces import traces
from dpo_pipeline.loop.trace import trace_version, trace_vote
from dpo_pipeline.ml.training_plan import write_dataset
from dpo_pipeline.request_errors import InvalidRequest
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.audit import AuditLog
from dpo_pipeline.stores.bank import read_bank
from dpo_pipeline.stores.curation import read_summary
from dpo_pipeline.stores.ledger import Ledger, utc_now
from dpo_pipeline.stores.log import AppendLog
from dpo_pipeline.stores.pseudonyms import claimed_pseudonym, pseudonym_of, pseudonyms_of, signing_key
from dpo_pipeline.stores.reviews import ReviewLog
from dpo_pipeline.stores.serving_log import ServingLog
from dpo_pipeline.stores.serving_state import ServingState, StoredRequest
from dpo_pipeline_tests.examples import preference, put_version, settings_in, withdrawal
from dpo_pipeline_tests.serving import collected

ANN, SECRET = "aaaa1111bbbb2222", "the word that only Ann ever used"


@pytest.fixture
def project(tmp_path: Path) -> Settings:
    """Sixty votes, a third of them Ann's; v1.1 trained on them, v1.2 on top of it."""
    settings = settings_in(tmp_path)
    asked, _ = split_bank(read_bank(settings.bank_dir), settings.collection.holdout_share)
    AppendLog(settings.prefs_log).append_all([encode_preference(vote(number, asked)) for number in range(60)])
    pairs = collected.curate(settings)
    split = split_pairs(pairs, frozenset(), 0.1, 8)
    write_dataset(settings, split)
    with Ledger(settings.ledger_address) as ledger:
        put_version(ledger, "v1.0", status="champion", adapter_sha="0" * 64)
        ledger.install_champion("v1.0", "test")
        put_version(
            ledger, "v1.1", status="registered", parent="v1.0", dataset_hash=split.content_hash, adapter_sha="1" * 64
        )
        ledger.start_rollout("v1.1", ledger.deployment().epoch, ("improved",), "test")
        put_version(ledger, "v1.2", status="training", parent="v1.1", pairs_seen=len(pairs))
    return settings


def vote(number: int, asked: list[Question]):  # type: ignore[no-untyped-def]
    question = asked[number]
    ann = number % 3 == 0
    return preference(
        number,
        event_id=f"evt-{number}",
        prompt=question.question,
        response_a=f"{question.detailed[0]} {SECRET if ann else 'Nothing else.'} Number {number}.",
        response_b=question.terse[0],
        model_a="v1.1",
        annotator=ANN if ann else f"other-{number}",
        source="ui",
    )


def test_a_vote_is_followed_forward(project: Settings) -> None:
    found = [trace_vote(project, f"evt-{number}") for number in range(60)]
    assert all(len(trace.datasets) == 1 and trace.datasets[0].versions == ("v1.1",) for trace in found)
    assert {trace.datasets[0].part for trace in found} == {"train", "eval"}
    trained = next(trace for trace in found if trace.datasets[0].part == "train")
    assert trained.descendants == ("v1.2",) and trained.decisions[0].stage == "staging"
    assert trained.judged == ("v1.1",), "its two versions are v1.1 and its parent"
    assert trained.kpis[-1] == "win_rate_over_baseline" and "clear_winners" in trained.kpis
    with pytest.raises(UnknownVersion, match="evt-none"):
        trace_vote(project, "evt-none")
    assert not project.reviews_log.exists()
    ReviewLog(project.reviews_log).append(withdrawal(trained.event.event_id))
    slip = trace_vote(project, trained.event.event_id)
    assert slip.withdrawn and not trained.withdrawn and (slip.judged, slip.kpis) == ((), ())


def test_a_version_is_followed_back(project: Settings) -> None:
    came = trace_version(project, "v1.1")
    assert came.ancestors == ("v1.0",) and came.sources == {"ui": len(came.events)} and 20 < came.people <= 41
    assert trace_version(project, "v1.2").ancestors == ("v1.1", "v1.0")
    with pytest.raises(UnknownVersion):
        trace_version(project, "v1.9")


def test_a_person_is_forgotten_everywhere(project: Settings) -> None:
    log, state = ServingLog(project.serving_log_dir), ServingState(project.serving_state)
    for number, user in enumerate((ANN, "bob")):
        log.append_request(
            RequestRecord(
                request_id=f"q{number}", recorded_at=utc_now(), session_id="", user=user, version="v1.0",
                adapter_sha="", stage="full", shadow=False, latency_ms=1.0, ttft_ms=None, tokens=1, outcome="ok",
            )
        )  # fmt: skip
        log.append(
            FeedbackRecord(
                event_id=f"r{number}", recorded_at=utc_now(), request_id=f"q{number}", user=user, version="v1.0",
                signal="rating", value=5,
            )
        )  # fmt: skip
        state.add_request(
            StoredRequest(request_id=f"q{number}", user=user, version="v1.0", prompt=SECRET * (user == ANN)), 1
        )
    state.join(ANN, "Ann")
    log.close()
    state.close()
    found = forget(project, ANN)
    assert (found.votes, found.requests, found.versions, len(found.datasets)) == (20, 2, ["v1.1"], 1)
    assert found.left == []
    left = [path for path in project.data_dir.rglob("*") if path.is_file()]
    for trace in (ANN, SECRET):
        assert [path for path in left if trace.encode() in path.read_bytes()] == []
    pairs = collected.curate(project)
    assert len(pairs) == 40 and read_summary(project.curation_summary).recorded == 40
    with Ledger(project.ledger_address) as ledger:
        assert ledger.version("v1.2").pairs_seen == 40, "what comes after is not taken for seen"
    assert forget(project, ANN).votes == 0, "again changes nothing"
    with Ledger(project.ledger_address) as ledger:
        assert ledger.version("v1.2").pairs_seen == 40
    assert ServingState(project.serving_state).request("q1") is not None


HER_QUESTION = "Where did I leave the key to grandma's cottage in Ääräkylä?"


def test_what_she_asked_goes_with_her_whoever_was_asked_it(tmp_path: Path) -> None:
    """Drawn for others, torn, quarantined, reported, and reviewed by her: none of it stays, or it is told."""
    settings = settings_in(tmp_path)
    before = preference(1, prompt=HER_QUESTION.upper(), annotator="from before questions had owners")
    after = preference(2, prompt="Something else entirely?", annotator="other", asked_by=ANN)
    same = preference(3, prompt="Why is the sky blue?", annotator="other", asked_by="other")
    torn = encode_preference(preference(4, prompt=HER_QUESTION))[:200]
    AppendLog(settings.prefs_log).append_all([*map(encode_preference, (before, after, same)), torn])
    AppendLog(settings.quarantine_log).append_all([json.dumps({"head": HER_QUESTION, "reason": "torn"}).encode()])
    review = {"review_id": "rev-1", "recorded_at": utc_now(), "event_id": "evt-3", "action": "exclude"}
    AppendLog(settings.reviews_log).append(json.dumps(review | {"reason": "as Ann sees it", "actor": ANN}).encode())
    state = ServingState(settings.serving_state)
    for request, user, prompt in (("q1", ANN, HER_QUESTION), ("q2", ANN, "Why is the sky blue?")):
        state.add_request(StoredRequest(request_id=request, user=user, version="v1.0", prompt=prompt), 0.0)
    state.close()
    report, cache = settings.reports_dir / "weekly.html", settings.data_dir / "mlflow" / "cache.bin"
    for path in (report, cache):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"<p>{HER_QUESTION}</p>")
    found = forget(settings, ANN)
    assert (found.votes, found.quarantined, found.reviews) == (3, 1, 1)
    assert [decode_preference(line).event_id for line in settings.prefs_log.read_bytes().splitlines()] == [
        same.event_id
    ]
    assert not report.exists() and [trace.path for trace in found.left] == [cache], "made again, or told"
    assert "forgotten" in settings.reviews_log.read_text() and "exclude" in settings.reviews_log.read_text()
    cache.unlink()
    assert forget(settings, ANN).left == []


HER_REASON, HER_REVIEW = "as my sister Elvi in Kuopio told me", "Elvi's neighbour would never talk like that"
HER_NAME = "Ann of Ääräkylä"


def test_what_she_wrote_beside_votes_goes_with_her_or_is_told(tmp_path: Path) -> None:
    """Reasons of votes and of reviews, and her nickname: in logs that were rotated and packed, in copies, in pages."""
    settings = settings_in(tmp_path)
    votes = [
        preference(1, annotator=ANN, reason=HER_REASON),
        preference(2, annotator="other", reason="It is the better answer"),
        preference(3, annotator=ANN, reason="It is the better answer"),
    ]
    AppendLog(settings.prefs_log).append_all([encode_preference(vote) for vote in votes])
    review = {"review_id": "rev-1", "recorded_at": utc_now(), "event_id": "evt-2", "action": "restore"}
    AppendLog(settings.reviews_log).append(json.dumps(review | {"reason": HER_REVIEW, "actor": "ann"}).encode())
    state = ServingState(settings.serving_state)
    state.join(ANN, HER_NAME)
    state.join("other", "Bob")
    state.close()
    collected.curate(settings)
    rotated = settings.data_dir / "logs" / "serving.log.2.gz"
    kept = {
        "reason.gz": gzip.compress(f"{'x' * 3_000_000}{json.dumps(HER_REASON)}".encode()),
        "review.xz": lzma.compress(HER_REVIEW.encode()),
        "name.bz2": bz2.compress(json.dumps({"who": HER_NAME}).encode()),
        "anybody.gz": gzip.compress(b"It is the better answer"),
        "cut.gz": gzip.compress(bytes(range(256)) * 99)[:-40],
    }
    for path, content in ((rotated, kept["reason.gz"]), *((tmp_path / "copies" / each, kept[each]) for each in kept)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    found = forget(settings, ANN, name="Ann")
    assert (found.votes, found.reviews) == (2, 1) and not rotated.exists()
    told = {trace.path.name: trace.what for trace in found.left}
    assert "could not be opened" in told.pop("cut.gz")
    assert told == {"reason.gz": HER_REASON, "review.xz": HER_REVIEW, "name.bz2": HER_NAME}
    ours = [path for path in settings.data_dir.rglob("*") if path.is_file() and path.parent.name != "copies"]
    for text in (HER_REASON, HER_REVIEW, HER_NAME):
        assert [path for path in ours if text.encode() in path.read_bytes()] == []
    assert ServingState(settings.serving_state).nicknames() == {"other": "Bob"}


def test_a_short_nickname_is_looked_for_where_it_is_called_one(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    for person, nickname in ((ANN, "Elvi"), ("other", "Bob")):
        state = ServingState(settings.serving_state)
        state.join(person, nickname)
        state.close()
    (settings.data_dir / "backup.json").write_text(json.dumps([{"nickname": "Elvi"}]))
    (settings.data_dir / "others.json").write_text(json.dumps(["Elvi", {"nickname": "Bob"}]))
    assert [trace.path.name for trace in forget(settings, ANN).left] == ["backup.json"]
    assert b"Elvi" not in settings.serving_state.read_bytes()


def test_the_last_look_opens_what_is_compressed(tmp_path: Path) -> None:
    pq.write_table(pa.table({"prompt": [HER_QUESTION] * 50}), tmp_path / "rows.parquet", compression="zstd")
    (tmp_path / "escaped.json").write_text(json.dumps([HER_QUESTION]))
    (tmp_path / "page.db").write_bytes(b"\x00" * 9000 + HER_QUESTION.encode() + b"\x00" * 9000)
    (tmp_path / "empty").touch()
    (tmp_path / "other.txt").write_text("Nothing of hers.")
    found = sorted(trace.path.name for trace in traces(tmp_path, [HER_QUESTION, "Thanks!"]))
    assert found == ["escaped.json", "page.db", "rows.parquet"]
    assert list(traces(tmp_path, ["Thanks!"])) == [], "a word that is anybody's"


def test_the_last_look_finds_what_databases_compress_split_or_have_in_a_log_still(tmp_path: Path) -> None:
    others = "'The weather of day ' || number || ' was good, and the key was in the cottage.'"
    with closing(duckdb.connect(str(tmp_path / "compressed.duckdb"))) as duck:
        row = f"case when number = 10000 then ? else {others} end"
        duck.execute(f"create table rows as select {row} as prompt from range(20000) as each(number)", [HER_QUESTION])
    with closing(sqlite3.connect(tmp_path / "split.db")) as lite:
        lite.execute("create table rows (before text, prompt text, after text)")
        # A long row's pages are full from its end on: the last of 4,092 bytes begins within her question.
        lite.execute("insert into rows values (?, ?, ?)", ("x" * 1000, HER_QUESTION, "y" * 4062))
        lite.commit()
    told = 'Ann said "no",\nand left.'
    with closing(duckdb.connect(str(tmp_path / "lines.duckdb"))) as duck:
        row = "case when number = 10000 then ? else number || ' of ' || md5(number::varchar) end"
        duck.execute(
            f"create table rows as select {row} as line from range(20000) as each(number)", [json.dumps([told])]
        )
    for name in ("compressed.duckdb", "split.db"):
        assert HER_QUESTION.encode() not in (tmp_path / name).read_bytes(), "bytes alone tell nothing"
    logged = sqlite3.connect(tmp_path / "logged.db")
    logged.execute("pragma journal_mode = wal")
    logged.execute("create table rows (prompt text)")
    logged.execute("insert into rows values (?)", (HER_QUESTION,))
    logged.commit()
    (tmp_path / "damaged.duckdb").write_bytes(b"\0" * 8 + b"DUCK" + b"\0" * 9000)
    found = {trace.path.name: trace.what for trace in traces(tmp_path, [HER_QUESTION, told])}
    logged.close()
    assert found.pop("lines.duckdb") == told, "JSON in a column is escaped once"
    unreadable = found.pop("damaged.duckdb")
    assert "could not be opened" in unreadable
    assert found.keys() == {"compressed.duckdb", "split.db", "logged.db", "logged.db-wal"}
    assert set(found.values()) == {HER_QUESTION}


def test_the_last_look_goes_through_checkpoints_and_what_programs_log(tmp_path: Path) -> None:
    """What a training leaves half-way, what Dagster captures of a run, and what MLflow keeps of one."""
    settings = settings_in(tmp_path)
    state = ServingState(settings.serving_state)
    state.add_request(StoredRequest(request_id="q1", user=ANN, version="v1.0", prompt=HER_QUESTION), 0.0)
    state.close()
    made_again = [
        settings.training_dir / "v1.1" / "checkpoints" / "checkpoint-4" / "trainer_state.json",
        settings.data_dir / "logs" / "dagster.log",
    ]
    told = [
        settings.data_dir / "dagster" / "storage" / "run" / "compute_logs" / "trained_adapter.err",
        settings.data_dir / "mlflow" / "artifacts" / "1" / "run" / "artifacts" / "answers.json",
    ]
    for path in (*made_again, *told):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"asked": HER_QUESTION}))
    found = forget(settings, ANN)
    assert not any(path.exists() for path in made_again)
    assert sorted(trace.path for trace in found.left) == sorted(told)


def test_whoever_came_under_a_name_without_a_key_is_found_by_it(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    key = signing_key(settings)
    claimed = [claimed_pseudonym("ann@example.org", address, key) for address in ("10.0.0.7", "10.0.0.8")]
    assert len(set(claimed)) == 2
    other = claimed_pseudonym("bob@example.org", "10.0.0.7", key)
    whose = [*claimed, other, pseudonym_of("ann@example.org", key)]
    votes = [preference(number, annotator=person) for number, person in enumerate(whose)]
    AppendLog(settings.prefs_log).append_all([encode_preference(vote) for vote in votes])
    found = forget(settings, *pseudonyms_of("ann@example.org", key), name="ann@example.org")
    assert found.votes == 3 and found.left == []
    [kept] = settings.prefs_log.read_bytes().splitlines()
    assert decode_preference(kept).annotator == other


def test_what_anybody_might_have_asked_stays(tmp_path: Path) -> None:
    """She typed a question of the bank, a word of it, and greetings: others' votes, imports and reports stay."""
    settings = settings_in(tmp_path)
    question = read_bank(settings.bank_dir)[0]
    asked = [question.question, question.question.rstrip("?"), question.detailed[0], "Hello"]
    state = ServingState(settings.serving_state)
    for number, prompt in enumerate(asked):
        state.add_request(StoredRequest(request_id=f"q{number}", user=ANN, version="v1.0", prompt=prompt), 0.0)
    state.close()
    votes = [
        preference(1, prompt=question.question, annotator="other"),
        preference(2, prompt=question.question, annotator=ANN, asked_by=ANN),
        preference(3, prompt="Hello", annotator="other", source="import"),
        preference(4, prompt="Hello", annotator="other"),
    ]
    AppendLog(settings.prefs_log).append_all([encode_preference(vote) for vote in votes])
    page = settings.reports_dir / "evaluation" / "v1.1.html"
    page.parent.mkdir(parents=True)
    page.write_text(f"<p>{question.question}: {question.detailed[0]}</p>")
    found = forget(settings, ANN)
    assert (found.votes, found.left) == (1, []) and page.exists()


def test_forgetting_that_was_interrupted_is_finished_by_doing_it_again(
    project: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the votes were rewritten: what the versions have seen is put right all the same."""

    def killed(settings: Settings) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dpo_pipeline.loop.forget._take_back", killed)
    with pytest.raises(KeyboardInterrupt):
        forget(project, ANN)
    monkeypatch.undo()
    with Ledger(project.ledger_address) as ledger:
        assert ledger.version("v1.2").pairs_seen == 60
    forget(project, ANN)
    with Ledger(project.ledger_address) as ledger:
        assert ledger.version("v1.2").pairs_seen == 40


@pytest.mark.parametrize("place", ["rebuild_warehouse", "_look_again"])
def test_reasons_are_looked_for_however_often_forgetting_was_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Killed after they had left the logs, and found again by a pseudonym alone; nobody else goes before them."""
    settings = settings_in(tmp_path)
    votes = [preference(1, annotator=ANN, reason=HER_REASON), preference(2, annotator="other")]
    AppendLog(settings.prefs_log).append_all([encode_preference(vote) for vote in votes])
    review = {"review_id": "rev-1", "recorded_at": utc_now(), "event_id": "evt-2", "action": "exclude"}
    AppendLog(settings.reviews_log).append(json.dumps(review | {"reason": HER_REVIEW, "actor": "ann"}).encode())
    refused = "Her aunt in Rovaniemi says otherwise, and was refused"
    AuditLog(settings.audit_log).record("Ann", "preference: exclude", "127.0.0.1", "allowed", f"evt-9: {refused}")
    copies = {"vote.txt": HER_REASON, "review.txt": HER_REVIEW, "refused.txt": refused}
    for name, text in copies.items():
        (tmp_path / name).write_text(text)

    def killed(*given: object) -> None:
        raise KeyboardInterrupt

    for _ in range(2):
        monkeypatch.setattr(f"dpo_pipeline.loop.forget.{place}", killed)
        with pytest.raises(KeyboardInterrupt):
            forget(settings, ANN, name="Ann")
        monkeypatch.undo()
    assert HER_REVIEW not in settings.reviews_log.read_text()
    assert kept_in(tmp_path).stat().st_mode & 0o077 == 0
    with pytest.raises(InvalidRequest, match=f"`dpo forget {ANN} --pseudonym`, and then this again"):
        forget(settings, "somebody else")
    told = {trace.path.name: trace.what for trace in forget(settings, ANN).left}
    assert told.pop("audit.jsonl") and told == copies
    assert not kept_in(tmp_path).exists()
