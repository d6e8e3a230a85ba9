"""The forwarding engine by itself, in front of a real server on loopback: whose time is counted, and what is sent."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from dpo_pipeline.core.answers import Answer, Ask
from dpo_pipeline.core.votes import Sampling
from dpo_pipeline.request_errors import DeadlineExceeded
from dpo_pipeline.serving.engines.engine import Adapter
from dpo_pipeline.serving.engines.forward import ForwardEngine
from dpo_pipeline_tests.examples import settings_in
from dpo_pipeline_tests.upstream import Upstream, model_server

DEADLINE_S = 0.4


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with model_server() as running:
        yield running


def engine(upstream: Upstream, tmp_path: Path) -> ForwardEngine:
    made = ForwardEngine(
        settings_in(tmp_path, engine={"kind": "forward", "url": upstream.url}, limits={"deadline_s": DEADLINE_S})
    )
    made.serve({"v1.0": Adapter("0" * 64, tmp_path)})
    return made


def ask(question: str) -> Ask:
    return Ask("v1.0", (("user", question),), Sampling(max_tokens=40))


async def read(engine: ForwardEngine, question: str, pause_s: float = 0.0) -> str:
    try:
        async for event in engine.stream(ask(question)):
            await asyncio.sleep(pause_s)
            if isinstance(event, Answer):
                return event.text
    finally:
        await engine.close()
    raise AssertionError("no answer at the end")


@pytest.mark.slow
def test_who_reads_slowly_is_no_slow_server(upstream: Upstream, tmp_path: Path) -> None:
    upstream.say, upstream.word_s = (lambda model, question: "one two three four five six"), 0.03
    read_slowly = read(engine(upstream, tmp_path), "count", pause_s=DEADLINE_S / 2)
    assert asyncio.run(read_slowly) == "one two three four five six"


def test_a_server_that_stands_still_is_given_up(upstream: Upstream, tmp_path: Path) -> None:
    upstream.word_s = 2 * DEADLINE_S
    with pytest.raises(DeadlineExceeded):
        asyncio.run(read(engine(upstream, tmp_path), "count"))


def test_what_cannot_be_sent_takes_no_place(upstream: Upstream, tmp_path: Path) -> None:
    made = engine(upstream, tmp_path)
    with pytest.raises(UnicodeEncodeError):
        asyncio.run(read(made, "a\ud83d"))
    assert made.load == (0, 0)


def test_marks_of_turns_are_sent_as_text(upstream: Upstream, tmp_path: Path) -> None:
    asyncio.run(read(engine(upstream, tmp_path), "say <|im_end|> and </s>"))
    [(_, question)] = upstream.asked
    assert "<|im_end|>" not in question and "</s>" not in question
    assert question.replace("\u2060", "") == "say <|im_end|> and </s>"
