"""What another server may send for an answer, byte for byte over a real socket, and what it is taken for."""

import asyncio
import gzip
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from dpo_pipeline.core.answers import Answer, Ask
from dpo_pipeline.core.outcomes import RequestOutcome
from dpo_pipeline.core.votes import Sampling
from dpo_pipeline.request_errors import DeadlineExceeded, RequestError, UpstreamFailed
from dpo_pipeline.serving.engines.engine import Adapter
from dpo_pipeline.serving.engines.forward import LEAST_CAP, ForwardEngine
from dpo_pipeline.serving.services.chat_call import outcome_of
from dpo_pipeline.settings import EngineSettings, Limits
from dpo_pipeline_tests.examples import settings_in

ASK = Ask("v1.1", (("user", "At what temperature does water boil?"),), Sampling(0.7, 0.9, 24, 1))
SECRET = "behind-the-scenes-of-it"
EVENTS, JSON, HTML = "text/event-stream", "application/json", "text/html; charset=utf-8"
CUT_OFF = (
    b'data: {"choices": [{"index": 0, "delta": {"content": "Water boils at one hun"}, "finish_reason": null}]}\n\n'
)


def chunk(text: str | None = None, reason: str | None = None, **more: Any) -> bytes:
    """One event of a stream, as servers write them; `text` goes out as it is, not escaped."""
    body = {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": reason}], **more}
    return b"data: " + json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n\n"


def raw(text: str, end: str = "\n\n") -> bytes:
    return f"data: {text}{end}".encode()


DONE = raw("[DONE]")


def question_at(listener: socket.socket) -> socket.socket:
    """The connection on which the first question came, read; whoever asks what models there are is told nothing."""
    while True:
        connection, _ = listener.accept()
        connection.settimeout(10)
        read = connection.recv(65536)
        if read.startswith(b"POST"):
            while read and not read.endswith(b"}"):
                read += connection.recv(65536)
            return connection
        with connection:
            connection.sendall(b"HTTP/1.1 501 None\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


@contextmanager
def sending(content: bytes, kind: str, status: int, pieces: int = 1, header: str = "") -> Iterator[str]:
    """A server that sends this once, in so many packets, and hangs up; yields its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    head = f"HTTP/1.1 {status} Any\r\nContent-Type: {kind}\r\n{header}Connection: close\r\n\r\n".encode()

    def serve() -> None:
        with question_at(listener) as connection:
            connection.sendall(head)
            with suppress(ConnectionError):  # whoever has read enough hangs up
                for number in range(pieces):
                    size = -(-len(content) // pieces)
                    connection.sendall(content[number * size : (number + 1) * size])

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    finally:
        thread.join(timeout=10)
        listener.close()


def answered(
    tmp_path: Path, content: bytes, kind: str = EVENTS, status: int = 200, pieces: int = 1, header: str = ""
) -> Answer:
    async def ask(url: str) -> Answer:
        settings = settings_in(tmp_path, keys={"engine": SECRET})
        engine = ForwardEngine(settings.model_copy(update={"engine": EngineSettings(kind="forward", url=url)}))
        engine.serve({"v1.1": Adapter("a" * 64, tmp_path)})
        try:
            [answer] = await engine.answers([ASK])
            return answer
        finally:
            await engine.close()

    with sending(content, kind, status, pieces, header) as url:
        return asyncio.run(ask(url))


@pytest.mark.parametrize(
    ("content", "kind", "text"),
    [
        (chunk("Water boils ") + chunk("at 100 °C.", "stop") + DONE, EVENTS, "Water boils at 100 °C."),
        (chunk("No mark at the end.", "stop"), EVENTS, "No mark at the end."),
        (chunk("No reason.") + DONE, EVENTS, "No reason."),
        (chunk("One\u2028two\x85three", "stop") + DONE, EVENTS, "One\u2028two\x85three"),
        (raw(r'{"choices": [{"delta": {"content": "\ud83d"}}]}')
         + raw(r'{"choices": [{"delta": {"content": "\ude00!"}, "finish_reason": "stop"}]}') + DONE, EVENTS, "😀!"),
        (raw(r'{"choices": [{"delta": {"content": "half \ud83d"}, "finish_reason": "stop"}]}') + DONE, EVENTS,
         "half \ufffd"),
        (chunk("Yes.", "stop") + raw('{"choices": null, "usage": null}') + DONE, EVENTS, "Yes."),
        (chunk("Yes.", "stop") + raw('{"choices": [], "usage": {}}') + DONE, EVENTS, "Yes."),
        (chunk(None) + chunk("Yes.", "stop", error=None) + DONE, EVENTS, "Yes."),
        (b": ping\r\n\r\n" + chunk("Yes.", "stop").replace(b"\n", b"\r\n") + DONE, EVENTS, "Yes."),
        (b'{"choices": [{"message": {"content": "Whole."}, "finish_reason": "stop"}]}', JSON, "Whole."),
    ],
)  # fmt: skip
def test_what_is_an_answer(tmp_path: Path, content: bytes, kind: str, text: str) -> None:
    assert answered(tmp_path, content, kind).text == text
    assert answered(tmp_path, content, kind, pieces=9).text == text, "in packets that end in the middle of a character"


def test_tokens_and_the_end_are_the_servers_where_it_says_them(tmp_path: Path) -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": 24}
    counted = answered(tmp_path, chunk("Cut") + chunk(" off", "length", usage=usage) + DONE)
    assert (counted.prompt_tokens, counted.tokens, counted.finished) == (7, 24, False)
    silent = answered(tmp_path, chunk("One") + chunk(" two", "stop", usage={"prompt_tokens": None}) + DONE)
    assert (silent.prompt_tokens, silent.tokens, silent.finished) == (0, 2, True)


@pytest.mark.parametrize(
    ("content", "kind", "said"),
    [
        (CUT_OFF, EVENTS, "its stream ended without finish_reason and without"),
        (b"", EVENTS, "its stream ended without finish_reason and without"),
        (b"<html><body>Sign in</body></html>", HTML, "answered with text/html, where server-sent events were"),
        (b'{"choices": [{"message": {"content": "No end."}}]}', JSON, "not with a whole completion"),
        (b"null", JSON, "no chunk of an answer"),
        (raw("null") + DONE, EVENTS, "no chunk of an answer"),
        (raw("not json") + DONE, EVENTS, "no chunk of an answer"),
        (raw("[" * 100_000) + DONE, EVENTS, "no chunk of an answer"),
        (raw('{"choices": [{"delta": {"content": ["a", "list"]}}]}') + DONE, EVENTS, "no chunk of an answer"),
        (raw('{"choices": 3}') + DONE, EVENTS, "no chunk of an answer"),
        (chunk("Half") + raw('{"error": {"message": "out of memory"}}'), EVENTS, "out of memory"),
        (b"data: " + b"x" * (LEAST_CAP + 1), EVENTS, "sent more than 4,000,000 bytes"),
        (chunk("") * (LEAST_CAP // 60), EVENTS, "sent more than 4,000,000 bytes"),
        (b"x" * (LEAST_CAP + 1), HTML, "sent more than 4,000,000 bytes"),
        (chunk("word " * 3_000) * 3, EVENTS, "said more than 32,000 characters"),
    ],
)
def test_what_is_none_is_a_failure_of_the_version(tmp_path: Path, content: bytes, kind: str, said: str) -> None:
    with pytest.raises(UpstreamFailed, match=said) as failed:
        answered(tmp_path, content, kind)
    assert outcome_of(failed.value) is RequestOutcome.ENGINE_ERROR and failed.value.status == 502
    assert len(str(failed.value)) < 600, "not all that a stranger sent"


def test_a_packed_answer_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    packed = gzip.compress(b"data: " + b"x" * 30_000_000)
    with pytest.raises(UpstreamFailed, match="packed its answer"):
        answered(tmp_path, packed, header="Content-Encoding: gzip\r\n")


@pytest.mark.parametrize("status", [200, 400, 401, 404, 429, 500])
def test_our_own_key_stands_in_no_error(tmp_path: Path, status: int) -> None:
    body = json.dumps({"error": {"message": f"Incorrect API key provided: {SECRET}. Find yours elsewhere."}})
    with pytest.raises(RequestError) as failed:
        answered(tmp_path, raw(body) if status == 200 else body.encode(), EVENTS if status == 200 else JSON, status)
    assert "provided: [key]" in str(failed.value) and SECRET not in str(failed.value)


@pytest.mark.parametrize(
    ("status", "answer", "outcome"),
    [
        (400, 400, RequestOutcome.CLIENT_ERROR),
        (413, 400, RequestOutcome.CLIENT_ERROR),
        (401, 502, RequestOutcome.ENGINE_ERROR),
        (404, 502, RequestOutcome.ENGINE_ERROR),
        (429, 429, RequestOutcome.OVERLOADED),
        (500, 502, RequestOutcome.ENGINE_ERROR),
    ],
)
def test_whose_fault_a_refusal_is(tmp_path: Path, status: int, answer: int, outcome: RequestOutcome) -> None:
    body = b'{"error":{"message":"The model `v1.1` does not exist.","code":404}}'
    with pytest.raises(Exception, match="does not exist") as failed:
        answered(tmp_path, body, JSON, status)
    assert failed.value.status == answer and outcome_of(failed.value) is outcome  # type: ignore[attr-defined]


@pytest.mark.slow
def test_a_stream_that_stalls_is_a_timeout_and_frees_its_place(tmp_path: Path) -> None:
    """Read by somebody who is slow too: the deadline ends the answer, and not whoever reads it."""
    listener = socket.create_server(("127.0.0.1", 0))
    begun = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n" + chunk("Water boils ")
    stop = threading.Event()

    def stall() -> None:
        with question_at(listener) as connection:
            connection.sendall(begun)
            stop.wait(10)

    async def read() -> tuple[list[str], Exception | None, tuple[int, int]]:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        changed = {"engine": EngineSettings(kind="forward", url=url), "limits": Limits(deadline_s=0.4)}
        engine = ForwardEngine(settings_in(tmp_path).model_copy(update=changed))
        engine.serve({"v1.1": Adapter("a" * 64, tmp_path)})
        pieces: list[str] = []
        try:
            async for event in engine.stream(ASK):
                assert isinstance(event, str)
                pieces.append(event)
                await asyncio.sleep(0.6)  # beyond the deadline, while the answer is suspended
        except Exception as error:
            return pieces, error, engine.load
        finally:
            await engine.close()
        return pieces, None, engine.load

    thread = threading.Thread(target=stall)
    thread.start()
    try:
        pieces, error, load = asyncio.run(read())
    finally:
        stop.set()
        thread.join()
        listener.close()
    assert pieces == ["Water boils "] and isinstance(error, DeadlineExceeded) and load == (0, 0)
    assert outcome_of(error) is RequestOutcome.TIMEOUT
