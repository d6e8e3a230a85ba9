"""Whatever comes in, each reader takes it or refuses it in its own words: no other error, nothing beside it is lost.

Repeatable and short here. `FUZZ_EXAMPLES=1000000 pytest -n0 dpo_pipeline_tests/test_fuzzed_readers.py -k rows` looks
for half an hour, with other draws each time.
"""

import asyncio
import json
import os
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from dpo_pipeline.core.imported_pair import as_preference
from dpo_pipeline.core.pair_formats import read_pair
from dpo_pipeline.core.votes import decode_preference, encode_preference
from dpo_pipeline.errors import InvalidRecord, SettingsError, UnreadableImport
from dpo_pipeline.request_errors import InvalidRequest, QueueFull, UpstreamFailed
from dpo_pipeline.serving.bodies import ComparisonRequest, FeedbackRequest, RolloutOrder, VoteRequest
from dpo_pipeline.serving.chat_bodies import ChatRequest
from dpo_pipeline.serving.engines.upstream import End, read_answer
from dpo_pipeline.settings import QualityCriteria, load_settings, setting_names
from dpo_pipeline.stores.decode import Task, read_piece
from dpo_pipeline.stores.import_files import read_rows
from dpo_pipeline.stores.log_reading import Position
from dpo_pipeline_tests.examples import preference

EXAMPLES = os.environ.get("FUZZ_EXAMPLES")
fuzzed = settings(
    max_examples=int(EXAMPLES or 150),
    derandomize=EXAMPLES is None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
TEXTS = st.text(max_size=20) | st.sampled_from(
    ["", " ", "user", "assistant", "system", "human", "<|im_end|>", "\ud800"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(("role", "from", "content", "value", "text", "type"), VALUES | TEXTS),
    ),
    max_size=4,
)  # fmt: skip
NAMES = (
    "prompt", "question", "instruction", "input", "system", "chosen", "rejected", "output", "conversations",
    "conversation_a", "conversation_b", "winner", "messages", "preferred_output", "non_preferred_output", "category",
    "model_a", "model_b", "response_a", "response_b", "vote", "score_chosen", "label", "completion", "history",
)  # fmt: skip
ROWS = st.dictionaries(st.sampled_from(NAMES) | TEXTS, MESSAGES | TEXTS | VALUES, max_size=6)
CRITERIA = QualityCriteria()


@fuzzed
@given(ROWS | VALUES)
def test_rows_of_an_import_become_events_or_are_refused(row: Any) -> None:
    try:
        event = as_preference(read_pair(row), "file", "2026-01-01T00:00:00.000Z")
        line = encode_preference(event)
    except InvalidRecord as refused:
        assert str(refused)
    else:
        assert decode_preference(line) == event, "what is written can be read"


@pytest.mark.slow
@fuzzed
@given(
    st.binary(max_size=200) | st.lists(ROWS, max_size=4).map(lambda rows: "\n".join(map(_json, rows)).encode()),
    st.sampled_from(["jsonl", "json", "csv", "tsv", "parquet", "jsonl.gz", "csv.gz"]),
)
def test_files_of_an_import_are_rows_or_one_refusal(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes, end: str
) -> None:
    path = tmp_path_factory.getbasetemp() / f"given.{end}"
    path.write_bytes(raw)
    try:
        rows = list(read_rows(path))
    except UnreadableImport as refused:
        assert path.name in str(refused)
    else:
        assert all(number >= 1 for number, _ in rows)


EVENT = json.loads(encode_preference(preference(1)))
CHANGED = st.tuples(st.sampled_from(sorted(EVENT)), VALUES).map(lambda change: _json({**EVENT, change[0]: change[1]}))


@pytest.mark.slow
@fuzzed
@given(st.lists(st.binary(max_size=60).filter(lambda line: b"\n" not in line) | CHANGED.map(str.encode), max_size=5))
def test_lines_of_the_log_are_events_or_quarantined_and_cost_no_other(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]
) -> None:
    path = tmp_path_factory.getbasetemp() / "prefs.jsonl"
    good = encode_preference(preference(7))
    path.write_bytes(b"".join(line + b"\n" for line in [*lines, good]))
    piece = read_piece(Task(str(path), Position(), path.stat().st_size, 1 << 20, CRITERIA))
    assert "evt-7" in piece.votes["event_id"].to_pylist(), "the good line is there"
    kept = [line for line in lines if line.strip()]
    assert len(piece.votes) + len(piece.bad) == len(kept) + 1 and all(each.reason for each in piece.bad)
    assert piece.end.offset == path.stat().st_size


CHUNKS = st.fixed_dictionaries(
    {},
    optional={
        "choices": st.lists(
            st.fixed_dictionaries({}, optional={"delta": VALUES, "finish_reason": VALUES, "message": VALUES}),
            max_size=2,
        )
        | VALUES,
        "usage": VALUES,
        "error": VALUES,
    },
)
STREAMS = st.lists(
    CHUNKS.map(lambda chunk: f"data: {_json(chunk)}\n\n") | TEXTS.map(lambda text: f"data: {text}\n\n"), max_size=5
)


@pytest.mark.slow
@fuzzed
@given(
    STREAMS.map(lambda events: "".join(events).encode("utf-8", "replace")) | st.binary(max_size=200),
    st.sampled_from(["text/event-stream", "application/json", "text/html", "text/plain", ""]),
    st.sampled_from([200, 200, 200, 400, 404, 429, 500]),
)
def test_what_another_server_sends_is_an_answer_or_a_failure(raw: bytes, kind: str, status: int) -> None:
    async def read() -> list[str | End]:
        async def stream() -> Any:
            yield raw

        response = httpx.Response(status, headers={"content-type": kind}, content=stream())
        return [event async for event in read_answer(response, 100_000)]

    try:
        *pieces, end = asyncio.run(read())
    except (UpstreamFailed, InvalidRequest, QueueFull) as refused:
        assert str(refused)
    else:
        assert isinstance(end, End) and all(isinstance(piece, str) for piece in pieces)
        "".join(pieces).encode()  # a whole text: no half of a pair is left


BODIES = (ChatRequest, ComparisonRequest, FeedbackRequest, VoteRequest, RolloutOrder)
FIELDS = sorted({name for body in BODIES for name in body.model_fields})


@fuzzed
@given(
    st.sampled_from(BODIES), st.dictionaries(st.sampled_from(FIELDS), MESSAGES | TEXTS | VALUES, max_size=6) | VALUES
)
def test_bodies_are_valid_or_say_what_is_wrong(body: type[BaseModel], given_value: Any) -> None:
    for read in (lambda: body.model_validate_json(_json(given_value)), lambda: body.model_validate(given_value)):
        try:
            taken = read()
        except ValidationError as refused:
            assert refused.errors()
        else:
            taken.model_dump_json().encode()


@pytest.mark.slow
@fuzzed
@given(st.sampled_from(sorted(setting_names())), st.text(max_size=12) | VALUES.map(lambda value: _json(value)))
def test_settings_are_taken_or_refused_by_their_variable(name: str, value: str) -> None:
    variable = f"DPO_{name.upper()}"
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        return  # no system hands such a value over
    before = dict(os.environ)
    try:
        os.environ[variable] = value
        load_settings()
    except SettingsError as refused:
        # A rule about two settings of a section names the section.
        section = variable.rsplit("__", 1)[0]
        assert variable in str(refused) or f"({section})" in str(refused) or "profile" in name, str(refused)
    finally:
        os.environ.clear()
        os.environ.update(before)


def _json(value: Any) -> str:
    """As a sloppy client would write it: NaN and halves of pairs included."""
    return json.dumps(value)
