"""One person whom an earlier program took for two is one again, in every log, row and count."""

import hashlib
import hmac
import json
import sqlite3
import unicodedata
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from dpo_pipeline.core.serving_records import FeedbackRecord
from dpo_pipeline.core.votes import decode_preference, encode_preference
from dpo_pipeline.loop.join_spellings import Joined, join_spellings
from dpo_pipeline.stores.ledger import Ledger
from dpo_pipeline.stores.log import AppendLog
from dpo_pipeline.stores.pseudonyms import pseudonym_of, pseudonyms_of, signing_key
from dpo_pipeline.stores.serving_log import ServingLog, all_feedback
from dpo_pipeline.stores.serving_state import ServingState, StoredRequest
from dpo_pipeline_tests.examples import MOMENT, preference, put_version, request, settings_in
from dpo_pipeline_tests.serving import collected

NAME = "Zoë"


@pytest.mark.slow
def test_two_spellings_are_one_person(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    key = signing_key(settings)
    now = pseudonym_of(NAME, key)
    # As programs made it that took names as they came.
    before = hmac.new(key, unicodedata.normalize("NFD", NAME).encode(), hashlib.sha256).hexdigest()[:16]
    quoted = f"She goes by {json.dumps(before)} there."
    events = [preference(1, annotator=now), preference(2, annotator=before, prompt=quoted), preference(3)]
    # One pair, once under each pseudonym: as two people's votes both are valid.
    events += [preference(4, annotator=now, prompt="Same?"), preference(5, annotator=before, prompt="Same?")]
    AppendLog(settings.prefs_log).append_all([encode_preference(each) for each in events])
    size = settings.prefs_log.stat().st_size
    assert len(collected.curate(settings)) == 5
    with Ledger(settings.ledger_address) as ledger:
        put_version(ledger, "v1.1", status="registered", pairs_seen=5)
        put_version(ledger, "v1.2", status="registered", pairs_seen=3)
    log, state = ServingLog(settings.serving_log_dir), ServingState(settings.serving_state)
    log.append_request(request(1, user=before))
    told = {"event_id": "said", "recorded_at": MOMENT, "request_id": "r-1", "version": "v1.1"}
    log.append(FeedbackRecord(**told, user=before, signal="rating", value=5))
    state.add_request(StoredRequest(request_id="r-1", user=before, version="v1.0", prompt=quoted), 1)
    state.join(before, "Zo")
    state.note(before, 100.0)
    state.note(now, 200.0)
    log.close()
    state.close()

    assert join_spellings(settings, NAME) == Joined(votes=2, lines=2, rows=3)

    lines = settings.prefs_log.read_bytes().splitlines()
    assert [decode_preference(line).annotator for line in lines] == [now, now, events[2].annotator, now, now]
    assert decode_preference(lines[1]).prompt == quoted, "what people typed stays"
    assert settings.prefs_log.stat().st_size == size
    assert len(collected.curate(settings)) == 4, "the second vote of one person on one pair is a repetition"
    with Ledger(settings.ledger_address) as ledger:
        seen = [ledger.version(name).pairs_seen for name in ("v1.1", "v1.2")]
    assert seen == [4, 3], "what comes after is not taken for seen"
    assert {each.user for each in all_feedback(settings.serving_log_dir)} == {now}
    state = ServingState(settings.serving_state)
    kept = state.request("r-1")
    assert kept and (kept.user, kept.prompt) == (now, quoted)
    assert state.nicknames() == {now: "Zo"}
    met = state.meet(now, "an address", 300.0, 9, welcome=True)
    assert met and met.first_met == 100.0, "known since either was"
    state.close()
    assert join_spellings(settings, NAME) == Joined()


def test_a_serving_state_of_an_earlier_program_gets_the_tables_that_came_since(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    old = pseudonyms_of(NAME, signing_key(settings))[-1]
    settings.serving_state.parent.mkdir(parents=True)
    with closing(sqlite3.connect(settings.serving_state)) as database:
        for table in ("comparisons", "requests"):
            extra = ", log_offset integer" if table == "comparisons" else ""
            database.execute(f"create table {table} (id text primary key, created real{extra}, content blob)")
        kept = msgspec.json.encode({"request_id": "r-1", "user": old, "version": "v1.0", "prompt": "Why?"})
        database.execute("insert into requests values ('r-1', 1.0, ?)", (kept,))
        database.commit()
    assert join_spellings(settings, NAME) == Joined(rows=1)
    state = ServingState(settings.serving_state)
    found = state.request("r-1")
    state.close()
    assert found and found.user == pseudonym_of(NAME, signing_key(settings))


def test_where_nobody_came_yet_nothing_is_made(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    assert join_spellings(settings, NAME) == Joined() and not list(tmp_path.rglob("*.key"))
