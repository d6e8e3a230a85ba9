"""A model server for tests: OpenAI-compatible, answers or streams what the test says, as fast as the test says.

It loads and unloads adapters in the words of vLLM 0.32, which `test_vllm.py` asks for real.
"""

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def _different() -> Callable[[str, str], str]:
    """Answers of which no two are equal: those would be drawn again."""
    drawn = itertools.count()
    return lambda model, question: f"{model} says {next(drawn)} things about: {question}"


@dataclass
class Upstream:
    """What the server answers; tests change it while it runs.

    `say(model, question)` is the answer, `word_s` the time before each word, `status` an HTTP status
    to refuse with. `cut_off`: a stream ends in the middle, with neither a reason nor `[DONE]`. `holds` are the models
    that it lists, with the folders they were loaded from; null: it does not say, and answers for all. `answers_for`
    are models that it has without listing them. `refuses` is what it says where an adapter shall be loaded.
    """

    say: Callable[[str, str], str] = field(default_factory=_different)
    word_s: float = 0.0
    status: int = 200
    cut_off: bool = False
    asked: list[tuple[str, str]] = field(default_factory=list)
    holds: dict[str, str] | None = None
    answers_for: tuple[str, ...] = ()
    refuses: str | None = None
    url: str = ""


def answered_by(models: Upstream) -> dict[str, str]:
    """The variables by which a server of ours forwards to it: without a model of its own, it starts in seconds."""
    return {"DPO_ENGINE__KIND": "forward", "DPO_ENGINE__URL": models.url}


class _Patient(ThreadingHTTPServer):
    """Lets as many wait as two servers send at once; the usual five would be cut off."""

    request_queue_size = 256
    daemon_threads = True


@contextmanager
def model_server() -> Iterator[Upstream]:
    upstream = Upstream()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if upstream.holds is None:
                self._say(501, {})
            else:
                self._say(200, {"object": "list", "data": [{"id": name} for name in upstream.holds]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path.endswith("_lora_adapter"):
                self._adapter(body)
                return
            if upstream.holds is not None and body["model"] not in (*upstream.holds, *upstream.answers_for):
                self._say(404, {"error": {"message": f"The model `{body['model']}` does not exist.", "code": 404}})
                return
            question = body["messages"][-1]["content"]
            upstream.asked.append((body["model"], question))
            self.send_response(upstream.status)
            self.end_headers()
            if upstream.status == 200 and not body.get("stream"):
                message = {"role": "assistant", "content": upstream.say(body["model"], question)}
                self.wfile.write(json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]}).encode())
            elif upstream.status == 200:
                words = upstream.say(body["model"], question).split(" ")
                for number, word in enumerate(words):
                    time.sleep(upstream.word_s)
                    self._send({"delta": {"content": word if number == 0 else f" {word}"}})
                if upstream.cut_off:
                    return
                self._send({"delta": {}, "finish_reason": "stop"})
                self._write(b"data: [DONE]\n\n")

        def _adapter(self, body: dict[str, str]) -> None:
            name, holds = body["lora_name"], upstream.holds or {}
            if upstream.refuses:
                self._say(400, {"error": {"message": upstream.refuses, "code": 400}})
            elif "lora_path" not in body:
                self._say(404 if holds.pop(name, None) is None else 200, {})
            elif name in holds:
                self._say(400, {"error": {"message": f"The lora adapter '{name}' has already been loaded."}})
            else:
                holds[name] = body["lora_path"]
                self._say(200, {})

        def _say(self, status: int, body: dict[str, Any]) -> None:
            with suppress(ConnectionError):  # whoever asked is gone
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

        def _send(self, choice: dict[str, Any]) -> None:
            self._write(b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n")

        def _write(self, line: bytes) -> None:
            try:
                self.wfile.write(line)
                self.wfile.flush()
            except ConnectionError:
                self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = _Patient(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    upstream.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield upstream
    finally:
        server.shutdown()
        server.server_close()
