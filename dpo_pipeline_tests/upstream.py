"""A model server for tests: OpenAI-compatible, answers or streams what the test says, as fast as the test says."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Upstream:
    """What the server answers; tests change it while it runs.

    `say(model, question)` is the answer, `word_s` the time before each word, `status` an HTTP status
    to refuse with. `cut_off`: a stream ends in the middle, with neither a reason nor `[DONE]`.
    """

    say: Callable[[str, str], str] = lambda model, question: f"An answer to: {question}"
    word_s: float = 0.0
    status: int = 200
    cut_off: bool = False
    asked: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""


class _Patient(ThreadingHTTPServer):
    """Lets as many wait as two servers send at once; the usual five would be cut off."""

    request_queue_size = 256
    daemon_threads = True


@contextmanager
def model_server() -> Iterator[Upstream]:
    upstream = Upstream()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
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
                self.wfile.write(b"data: [DONE]\n\n")

        def _send(self, choice: dict[str, Any]) -> None:
            try:
                self.wfile.write(b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n")
                self.wfile.flush()
            except ConnectionError:
                self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = _Patient(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    upstream.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield upstream
    finally:
        server.shutdown()
        server.server_close()
