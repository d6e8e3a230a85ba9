"""What people say of chat answers and do with them."""

from fastapi import APIRouter, Request

from dpo_pipeline.serving.bodies import FeedbackRequest, FeedbackResponse
from dpo_pipeline.serving.routes.parts import KEYED, Served, errors, visitor

router = APIRouter(prefix="/v1", tags=["feedback"], dependencies=KEYED)


@router.post("/feedback", status_code=201, responses=errors(401, 403, 404, 413, 429, 507))
def feedback(body: FeedbackRequest, request: Request, serving: Served) -> FeedbackResponse:
    """Exactly one signal, for an answered request; 201 when it is on disk."""
    event_id = serving.feedback.give(
        body.request_id,
        visitor(request, serving, ""),
        **body.model_dump(exclude={"request_id"}),
    )
    return FeedbackResponse(event_id=event_id)
