"""The rollout as it stands, and a person's orders about it."""

from typing import Any

from dpo_pipeline.loop.manual_actions import ManualAction, order
from dpo_pipeline.serving.accounts import Accounts
from dpo_pipeline.serving.router import Router
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.key_ring import Account
from dpo_pipeline.stores.ledger import Ledger, as_json

HISTORY_PAGE = 100
"""Decisions of a rollout's history in one answer, where nobody asks for another number."""


class Rollouts:
    def __init__(self, settings: Settings, router: Router, accounts: Accounts):
        self._settings, self._router, self._accounts = settings, router, accounts

    def state(self, before: int | None = None, limit: int = HISTORY_PAGE) -> dict[str, Any]:
        """What serving follows now, and a page of the ledger's history, newest last.

        Args:
            before: id of a decision; only those before it.
        """
        route = self._router.route
        with Ledger(self._settings.ledger_address) as ledger:
            # One more than is shown tells whether there are earlier ones.
            found = ledger.decisions(before=before, newest=limit + 1)
            newest, state = ledger.decisions(newest=1), ledger.deployment()
        shown = found[-limit:]
        return {
            "version": route.challenger,
            "champion": route.champion,
            "stage": route.stage,
            "traffic": route.traffic,
            "paused": state.paused,
            "epoch": route.epoch,
            "evidence": newest[0].evidence if newest else None,
            "history": [as_json(decision) for decision in shown],
            "earlier": shown[0].id if len(found) > limit else None,
        }

    def order(self, what: ManualAction, reason: str, account: Account | None, address: str) -> dict[str, Any]:
        """Carry out an operator's order and serve by it at once.

        Raises:
            RoleRequired: somebody else's.
            InvalidRequest, OrderRefused: see `loop.manual_actions.order`.
        """
        actor = self._accounts.allowed(account, "operator", f"rollout: {what}", address, reason).name
        with Ledger(self._settings.ledger_address) as ledger:
            order(self._settings, ledger, what, reason, actor)
            self._router.reroute(ledger)
        return self.state()
