"""What people say of chat answers and do with them."""

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool

from dpo_pipeline.serving.bodies import FeedbackRequest, FeedbackResponse
from dpo_pipeline.serving.routes.parts import KEYED, Served, errors, visitor

router = APIRouter(prefix="/v1", tags=["feedback"], dependencies=KEYED)


@router.post(
    "/feedback", summary="Rate or correct an answer", status_code=201, responses=errors(401, 403, 404, 413, 429, 507)
)
async def feedback(body: FeedbackRequest, request: Request, serving: Served) -> FeedbackResponse:
    """Exactly one signal, for an answered request; 201 when it is on disk."""
    asker, given = visitor(request, serving, ""), body.model_dump(exclude={"request_id"}, exclude_none=True)
    if given == {"action": "stop"}:
        event_id = await serving.feedback.stopped(body.request_id, asker)
    else:
        event_id = await run_in_threadpool(serving.feedback.give, body.request_id, asker, **given)
    return FeedbackResponse(event_id=event_id)
