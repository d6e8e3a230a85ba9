"""Side by side: ask for a comparison, vote on it."""

import asyncio
from typing import Any, Literal

from fastapi import APIRouter, Query, Request, Response

from dpo_pipeline.core.conversation import as_rows
from dpo_pipeline.core.questions import BankCategory, OriginFilter
from dpo_pipeline.serving.bodies import (
    Answers,
    ChatMessage,
    ComparisonRequest,
    ComparisonResponse,
    VotedModels,
    VoteRequest,
    VoteResponse,
)
from dpo_pipeline.serving.routes.parts import KEYED, Served, errors, visitor, while_connected
from dpo_pipeline.serving.services.comparison_prompt import ComparisonPrompt
from dpo_pipeline.serving.services.comparison_views import ComparisonView
from dpo_pipeline.serving.services.keeping import asking

router = APIRouter(prefix="/v1/comparisons", tags=["comparisons"], dependencies=KEYED)
REPEATED: dict[int | str, dict[str, Any]] = {200: {"model": VoteResponse, "description": "The same vote again"}}


@router.post(
    "",
    summary="Compare answers to a question of yours",
    status_code=201,
    responses=errors(401, 403, 404, 413, 429, 500, 503, 504, 507),
)
async def compare(body: ComparisonRequest, request: Request, serving: Served) -> ComparisonResponse:
    """Two versions (or two samples of the one there is) answer; sides are shuffled and blind.

    With n versions in `models` every pair is a comparison of its own: the first is the answer, the
    others are in `more`. A vote reveals its pair's names: show all of them before any is voted on.
    """
    told = body.prompt
    prompt = told if isinstance(told, str) else as_rows([message.as_pair for message in told])
    models = tuple(body.models) if body.models else None
    asker = visitor(request, serving, body.annotator, body.session_id, body.source == "simulated")
    question = ComparisonPrompt(prompt, body.category, models, body.sampling())
    return _response(await while_connected(request, serving.comparing.compare(question, asker)))


@router.get(
    "/next",
    summary="Compare answers to a drawn question",
    status_code=201,
    responses=errors(401, 429, 500, 503, 504, 507),
)
async def compare_next(
    request: Request,
    serving: Served,
    annotator: str = Query("", max_length=200),
    session_id: str = Query("", max_length=200),
    source: Literal["api", "simulated"] = "api",
    category: BankCategory | None = None,
    origin: OriginFilter = "mix",
) -> ComparisonResponse:
    """The same with a question drawn by the server, of the category asked for or the one covered least.

    It comes from the bank, from production (what people asked in chats) or from the edge cases; `mix` draws
    from all three by the settings. Where the origin asked for has none yet, the bank stands in. Now and then it
    is a pair that was decided before, so that it can be told how often votes flip and how far people agree.
    """
    asker = visitor(request, serving, annotator, session_id, source == "simulated")
    question = None if category else await asking(serving.comparing.answered_before, asker, origin)
    if question is None:
        # In a thread: the first call reads the whole log to count what is covered.
        question = await asyncio.to_thread(serving.comparing.draw_prompt, category, origin)
    return _response(await while_connected(request, serving.comparing.compare(question, asker)))


@router.post(
    "/{comparison_id}/vote",
    summary="Vote on a comparison",
    status_code=201,
    responses=REPEATED | errors(401, 403, 404, 409, 413, 429, 503, 507),
)
async def vote(
    comparison_id: str, body: VoteRequest, request: Request, response: Response, serving: Served
) -> VoteResponse:
    """201 when the vote is on disk; the same vote again: 200 and the same event id."""
    voter = visitor(request, serving, body.annotator or "")
    claimed = voter.person if body.annotator else None
    recorded = await serving.voting.vote(comparison_id, body.token, body.vote, voter, claimed, body.why)
    response.status_code = 200 if recorded.repeated else 201
    models = VotedModels(left=recorded.left_model, right=recorded.right_model)
    return VoteResponse(event_id=recorded.event_id, models=models)


def _response(shown: list[ComparisonView]) -> ComparisonResponse:
    first, *more = (
        ComparisonResponse(
            comparison_id=one.comparison_id,
            token=one.token,
            prompt=one.prompt if isinstance(one.prompt, str) else [ChatMessage(**message) for message in one.prompt],
            category=one.category,
            answers=Answers(left=one.left, right=one.right),
            expires_at=one.expires_at,
        )
        for one in shown
    )
    first.more = more
    return first
