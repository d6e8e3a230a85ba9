"""uvicorn's HTTP protocol with bounds that it lacks: how long and how large the head of a request may be, how long a
body may stall, how many connections there may be, and that an open page does not hold a server that shall stop.

Without the first ones whoever opens connections and sends nothing, or headers or a body without an end, holds
descriptors and memory for ever. How large a body may be is the door's.
"""

import asyncio
import logging
import resource
import time

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from dpo_pipeline.errors import ServiceError

HEAD_S = 30.0
"""From the connection, or the first byte of a further request, to the end of its headers."""
HEAD_BYTES = 65_536
STALLED_S = 30.0
"""Between two pieces of a body."""
IDLE_S = 5.0
"""Between an answer and the next request of the same connection."""
BACKLOG = 256
"""Connections that may wait to be accepted. asyncio takes as many at once, before any of them can be closed again."""
KEPT_SHARE = 0.25
"""Of the descriptors: for files, databases and the servers that answers come from; but at least `BACKLOG`."""
ACCEPT_FAILED, TOLD_EVERY_S = "socket.accept() out of system resource", 60.0
HEARTBEAT = "/heartbeat/"
"""In the paths of the streams by which Gradio sees that a page is open: they end with the page."""
LEAST_DESCRIPTORS, ENOUGH_DESCRIPTORS = 512, 65_536


class BoundedHttp(HttpToolsProtocol):
    """One connection."""

    _head_timer: asyncio.TimerHandle | None = None
    _body_timer: asyncio.TimerHandle | None = None
    _in_head = False
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.timeout_keep_alive = IDLE_S  # type: ignore[assignment]
        if len(self.connections) > most_connections(resource.getrlimit(resource.RLIMIT_NOFILE)[0]):
            transport.abort()  # those that are there go on, and votes can be written
            return
        self._begin_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_head()
        self._end_body()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if not self._in_head:
            self._begin_head()

    def on_headers_complete(self) -> None:
        self._end_head()
        self._await_body()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._end_body()
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        self._end_body()
        super().handle_websocket_upgrade()

    def data_received(self, data: bytes) -> None:
        timer = self._head_timer
        if self._body_timer is not None:
            self._await_body()
        super().data_received(data)
        # Afterwards, and of the head that goes on: what came with the end of one is body, or another request's begin.
        if self._in_head and timer is self._head_timer:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response(f"The head of the request is longer than {HEAD_BYTES} bytes.")

    def shutdown(self) -> None:
        if self.cycle and not self.cycle.response_complete and HEARTBEAT in self.cycle.scope["path"]:
            self.transport.close()
        super().shutdown()

    def _begin_head(self) -> None:
        self._in_head, self._head_bytes = True, 0
        self._head_timer = self.loop.call_later(HEAD_S, self.transport.close)

    def _await_body(self) -> None:
        self._end_body()
        self._body_timer = self.loop.call_later(STALLED_S, self.transport.close)

    def _end_body(self) -> None:
        if self._body_timer is not None:
            self._body_timer.cancel()
            self._body_timer = None

    def _end_head(self) -> None:
        self._in_head = False
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class SeldomTold(logging.Filter):
    """That no connection could be accepted is told once a minute, without its trace.

    For each attempt asyncio writes a line and a trace, and makes two thousand of them a second.
    """

    def __init__(self) -> None:
        super().__init__()
        self._told = float("-inf")

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.getMessage().startswith(ACCEPT_FAILED):
            return True
        if time.monotonic() - self._told < TOLD_EVERY_S:
            return False
        self._told, record.exc_info = time.monotonic(), None
        return True


def most_connections(descriptors: int) -> int:
    """How many of a process may be connections."""
    return descriptors - max(BACKLOG, int(KEPT_SHARE * descriptors))


def allow_connections() -> int:
    """Let this process hold as many descriptors as the system grants, one for each connection; returns how many.

    Raises:
        ServiceError: too few for a server: each further connection would be refused with a trace in the log.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < LEAST_DESCRIPTORS:
        raise ServiceError(
            f"This process may open {most} files and connections; {LEAST_DESCRIPTORS} are required. Raise the limit "
            "(`ulimit -Hn`, LimitNOFILE= of a systemd unit)."
        )
    wanted = ENOUGH_DESCRIPTORS if most == resource.RLIM_INFINITY else min(most, ENOUGH_DESCRIPTORS)
    now, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if now < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
    logging.getLogger("asyncio").addFilter(SeldomTold())
    return max(now, wanted)
