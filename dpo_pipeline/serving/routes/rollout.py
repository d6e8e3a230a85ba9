"""The rollout as it stands, and a person's orders about it."""

from typing import Annotated, Literal

from fastapi import APIRouter, Header

from dpo_pipeline.serving.access import check_admin
from dpo_pipeline.serving.bodies import RolloutOrder, RolloutState
from dpo_pipeline.serving.routes.parts import KEYED, Served, errors

router = APIRouter(prefix="/v1/rollout", tags=["rollout"], dependencies=KEYED)


@router.get("", responses=errors(401))
def rollout(service: Served) -> RolloutState:
    """Version, stage, traffic, evidence and history, as the ledger has them."""
    return RolloutState(**service.rollout())


@router.post("/{order}", responses=errors(401, 403, 409, 413))
def order(
    order: Literal["pause", "resume", "abort"],
    body: RolloutOrder,
    service: Served,
    x_admin_key: Annotated[str | None, Header()] = None,
) -> RolloutState:
    """Hold the challenger where it is, let it go on, or take it back. Needs the admin key."""
    check_admin(x_admin_key, service.settings.keys.admin)
    return RolloutState(**service.order_rollout(order, body.reason, actor="admin"))
