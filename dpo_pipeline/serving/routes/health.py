"""Is it alive, can it answer, and what does it do."""

from typing import Any

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from dpo_pipeline.serving.routes.parts import Served, errors

router = APIRouter(tags=["operation"])


@router.get("/healthz", summary="Whether the program runs")
async def healthz() -> dict[str, str]:
    """The program runs."""
    return {"status": "ok"}


@router.get("/readyz", summary="Whether a version answers", responses=errors(503))
def readyz(serving: Served) -> dict[str, Any]:
    """A champion is loaded and answers; until then, 503 with what is being made and how long it takes.

    `trouble`: what keeps serving from following the ledger; null: nothing. `servers`: of those that answers are
    forwarded to, which of our models each holds (null: it does not say); where they are and what is wrong with them,
    the rollout page says.
    """
    route = serving.router.route
    if not serving.readiness.ready:
        raise serving.readiness.not_ready()
    return {
        "status": "ready",
        "models": sorted(serving.engine.models),
        "epoch": route.epoch,
        "trouble": serving.router.trouble,
        "servers": [
            {"reachable": each.reachable, "holds": each.holds, "lost": each.lost} for each in serving.engine.servers
        ],
    }


@router.get("/startupz", summary="What is being made meanwhile")
def startupz(serving: Served) -> dict[str, str | None]:
    """For pages that wait: what is being made, how far it is and how long it takes; null once a version answers."""
    return {"message": None if serving.readiness.ready else str(serving.readiness.not_ready())}


@router.get(
    "/metrics",
    summary="Figures for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}},
)
def metrics(serving: Served) -> Response:
    """In Prometheus's text format."""
    serving.metrics.observe(serving.engine, serving.router)
    return Response(generate_latest(serving.metrics.registry), media_type=CONTENT_TYPE_LATEST)
