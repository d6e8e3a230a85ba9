"""The rollout as it stands, and a person's orders about it."""

from typing import Annotated

from fastapi import APIRouter, Header

from dpo_pipeline.loop.rollout_orders import Order
from dpo_pipeline.serving.access import check_admin
from dpo_pipeline.serving.bodies import RolloutOrder, RolloutState
from dpo_pipeline.serving.routes.parts import KEYED, Served, errors

router = APIRouter(prefix="/v1/rollout", tags=["rollout"], dependencies=KEYED)


@router.get("", responses=errors(401))
def rollout(service: Served) -> RolloutState:
    """Version, stage, traffic, evidence and history, as the ledger has them."""
    return RolloutState(**service.rollout())


@router.post("/{order}", responses=errors(401, 403, 409, 413))
def give_order(
    order: Order,
    body: RolloutOrder,
    service: Served,
    x_admin_key: Annotated[str | None, Header()] = None,
) -> RolloutState:
    """Promote the challenger to its next stage, hold it where it is, let it go on, or roll it back.

    Needs the admin key. A version that fails a safety check, or of which there is evidence of harm, is not promoted.
    """
    check_admin(x_admin_key, service.settings.keys.admin)
    return RolloutState(**service.order_rollout(order, body.reason, actor="admin, HTTP API"))
