"""What a server may answer to a judge or a look: not packed, not endless, not for ever; over a real socket."""

import asyncio
import gzip
import itertools
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from dpo_pipeline.core.judging import Comparison
from dpo_pipeline.core.questions import Question
from dpo_pipeline.errors import ModelUnavailable
from dpo_pipeline.ml.bounded_call import MOST_BYTES, call
from dpo_pipeline.ml.llm_judge import LlmJudge
from dpo_pipeline.request_errors import UpstreamFailed
from dpo_pipeline.serving.engines.engine import Adapter
from dpo_pipeline.serving.engines.forward import ForwardEngine
from dpo_pipeline_tests.examples import settings_in

DEEP = b"[" * 100_000


@contextmanager
def sending(pieces: Iterable[bytes], pause_s: float = 0, packed: bool = False) -> Iterator[str]:
    """A server that answers everything with these, and hangs up; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            if packed:
                self.send_header("Content-Encoding", "gzip")
            self.end_headers()
            with suppress(ConnectionError):  # whoever has read enough hangs up
                for piece in pieces:
                    self.wfile.write(piece)
                    time.sleep(pause_s)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,)).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()


def asked(url: str, within_s: float = 5) -> httpx.Response:
    with httpx.Client() as client:
        return call(client, "GET", url, within_s)


def test_an_answer_is_what_was_sent() -> None:
    with sending([b'{"a": ', b"1}"]) as url:
        answer = asked(url)
    assert answer.json() == {"a": 1} and answer.raise_for_status().status_code == 200


def test_an_endless_answer_ends() -> None:
    with sending(itertools.repeat(b"x" * 65_536)) as url, pytest.raises(UpstreamFailed, match="more than 4 MiB"):
        asked(url)
    with sending([b"x" * MOST_BYTES]) as url:
        assert len(asked(url).content) == MOST_BYTES


def test_an_answer_that_trickles_ends() -> None:
    trickle = sending(itertools.repeat(b" "), pause_s=0.02)
    with trickle as url, pytest.raises(UpstreamFailed, match=r"still sending its answer after 0\.3 s"):
        asked(url, within_s=0.3)


def test_a_packed_answer_is_refused_before_it_is_unpacked() -> None:
    bomb = gzip.compress(b"x" * 30_000_000)
    with sending([bomb], packed=True) as url, pytest.raises(UpstreamFailed, match="packed its answer"):
        asked(url)


@pytest.mark.parametrize("pieces", [itertools.repeat(b"x" * 65_536), [DEEP], [b'{"choices": 3}'], [b"null"]])
def test_a_judge_that_sends_such_things_gives_no_verdict(tmp_path: Path, pieces: Iterable[bytes]) -> None:
    question = Question("Why?", "science", ("One.",), ("Two.",), ("No.",), "One.", (("one",),))
    with sending(pieces) as url:
        settings = settings_in(tmp_path, evaluation={"judge": "llm", "judge_url": url, "judge_model": "judge"})
        with pytest.raises(ModelUnavailable, match="did not answer 3 times"):
            LlmJudge(settings).compare([Comparison(question, "One.", "Two.")])


@pytest.mark.parametrize(
    ("pieces", "said"), [(itertools.repeat(b"x" * 65_536), "4 MiB"), ([DEEP], "no list of models")]
)
def test_a_model_server_that_lists_such_things_holds_nothing(
    tmp_path: Path, pieces: Iterable[bytes], said: str
) -> None:
    with sending(pieces) as url:
        engine = ForwardEngine(settings_in(tmp_path, engine={"kind": "forward", "url": (url,)}))
        try:
            with pytest.raises(UpstreamFailed, match=said) as failed:
                engine.serve({"v1.1": Adapter("a" * 64, tmp_path)})
        finally:
            asyncio.run(engine.close())
    assert len(str(failed.value)) < 600
