"""The rollout as it stands, and a person's orders about it."""

from typing import Annotated

from fastapi import APIRouter, Query, Request

from dpo_pipeline.loop.manual_actions import ManualAction
from dpo_pipeline.serving.bodies import RolloutOrder, RolloutState
from dpo_pipeline.serving.callers import account_of, address_of
from dpo_pipeline.serving.routes.parts import KEYED, Served, errors
from dpo_pipeline.serving.services.rollouts import HISTORY_PAGE

router = APIRouter(prefix="/v1/rollout", tags=["rollout"], dependencies=KEYED)


@router.get("", summary="The rollout as it stands", responses=errors(401))
def rollout(
    serving: Served,
    before: Annotated[int | None, Query(ge=1)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = HISTORY_PAGE,
) -> RolloutState:
    """Version, stage, traffic, the newest evidence, and the newest decisions of the history, oldest of them first.

    Where there are more, `earlier` is what to send as `before` for the page that comes before this one.
    """
    return RolloutState(**serving.rollouts.state(before, limit))


@router.post("/{order}", summary="Promote, pause, resume or abort", responses=errors(401, 403, 409, 413))
def give_order(order: ManualAction, body: RolloutOrder, request: Request, serving: Served) -> RolloutState:
    """Promote the challenger to its next stage, hold it where it is, let it go on, or roll it back.

    Needs an operator's key, or the admin key as `X-Admin-Key`. A version that fails a safety check, or of which there
    is evidence of harm, is not promoted.
    """
    return RolloutState(**serving.rollouts.order(order, body.reason, account_of(request), address_of(request)))
