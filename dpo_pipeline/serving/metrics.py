"""What Prometheus reads at `/metrics`: calls, answers, votes, the queue, the rollout."""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dpo_pipeline.serving.engines.engine import Engine
from dpo_pipeline.serving.router import Router

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60)


class Metrics:
    """The counters of one server; each has its own registry, so that tests can start many."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.calls = Counter("dpo_http_requests", "HTTP calls", ["method", "route", "status"], registry=registry)
        self.call_seconds = Histogram(
            "dpo_http_seconds", "Time to the end of the answer", ["route"], buckets=SECONDS, registry=registry
        )
        self.answers = Counter("dpo_answers", "Chat answers", ["version", "stage", "outcome"], registry=registry)
        self.answer_seconds = Histogram(
            "dpo_answer_seconds", "Time to the whole answer", ["version"], buckets=SECONDS, registry=registry
        )
        self.first_token_seconds = Histogram(
            "dpo_first_token_seconds",
            "Time to the first streamed piece",
            ["version"],
            buckets=SECONDS,
            registry=registry,
        )
        self.tokens = Counter("dpo_answer_tokens", "Tokens of chat answers", ["version"], registry=registry)
        self.votes = Counter("dpo_votes", "Votes on disk", ["category", "source", "vote"], registry=registry)
        self.ratings = Histogram(
            "dpo_ratings", "Ratings from 1 to 5", ["version"], buckets=(1, 2, 3, 4, 5), registry=registry
        )
        self.waiting = Gauge("dpo_engine_waiting", "Requests that wait for a place in the batch", registry=registry)
        self.running = Gauge("dpo_engine_running", "Requests that are being answered", registry=registry)
        self.server_up = Gauge(
            "dpo_server_up", "1: a server that answers are forwarded to can be asked", ["server"], registry=registry
        )
        self.server_holds = Gauge("dpo_server_holds", "1: it holds this model", ["server", "model"], registry=registry)
        self.server_lost = Gauge(
            "dpo_server_lost",
            "Requests for a version that it had lost, each asked again",
            ["server"],
            registry=registry,
        )
        self.traffic = Gauge("dpo_rollout_traffic", "Share of the traffic", ["version"], registry=registry)
        self.epoch = Gauge("dpo_rollout_epoch", "Epoch of the rollout", registry=registry)

    def observe(self, engine: Engine, router: Router) -> None:
        """Read what is a state, not an event."""
        waiting, running = engine.load
        self.waiting.set(waiting)
        self.running.set(running)
        route = router.route
        self.traffic.clear()
        for version in engine.models:
            self.traffic.labels(version).set(route.share_of(version))
        self.epoch.set(route.epoch)
        self.server_holds.clear()
        for server in engine.servers:
            self.server_up.labels(server.url).set(server.reachable)
            self.server_lost.labels(server.url).set(server.lost)
            for model in server.holds or ():
                self.server_holds.labels(server.url, model).set(1)


class CallMetrics:
    """ASGI middleware that counts and times every call by its route, never by its path."""

    def __init__(self, app: ASGIApp, metrics: Metrics):
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            route = getattr(scope.get("route"), "path", "other") or "other"
            self._metrics.calls.labels(scope["method"], route, status).inc()
            self._metrics.call_seconds.labels(route).observe(time.perf_counter() - started)
