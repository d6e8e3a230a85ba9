"""The rollout as it is at this moment, for a page that many people watch: read once, shown to all."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dpo_pipeline.core.rollout import STAGES, Metrics, next_stage, stage_policy
from dpo_pipeline.core.winrate import WinRate
from dpo_pipeline.serving.service import Service
from dpo_pipeline.stores.ledger import DeploymentState, Ledger, as_json
from dpo_pipeline.stores.rollout import counted_since, plan_of
from dpo_pipeline.stores.serving_log import version_metrics

KEPT_S = 3.0


@dataclass(frozen=True)
class LiveRollout:
    """`new` is being let out or was let out last, `baseline` is what it is compared with; null: none.

    `conditions` are the evidence of the newest decision on `new`, `ab` that of the newest one in staging, where votes
    decide. `metrics` count `since` the stage began, at full traffic since its day did. `history`: newest first.
    """

    state: DeploymentState
    traffic: float
    new: str | None
    baseline: str | None
    since: str | None
    metrics: dict[str, Metrics]
    ab: WinRate | None
    conditions: tuple[dict[str, Any], ...]
    votes: int
    at_least_h: float
    next_stage: str | None
    history: tuple[dict[str, Any], ...]

    @property
    def under_way(self) -> bool:
        return self.state.challenger is not None


class RolloutWatch:
    """Reads what has changed at most every few seconds: the serving log of a long stage is not small."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: tuple[float, LiveRollout] | None = None

    def look(self, service: Service, fresh: bool = False) -> LiveRollout:
        """
        Args:
            fresh: after an order, when an older look would mislead.
        """
        with self._lock:
            if fresh or self._kept is None or time.monotonic() - self._kept[0] > KEPT_S:
                self._kept = (time.monotonic(), _read(service))
            return self._kept[1]


def _read(service: Service) -> LiveRollout:
    settings = service.settings
    with Ledger(settings.ledger_address) as ledger:
        state = ledger.deployment()
        history = [as_json(decision) for decision in reversed(ledger.decisions())]
    let_out = state.stage is not None and state.stage_since is not None
    new, baseline = (state.subject, state.baseline) if let_out else (None, None)
    names = [name for name in (new, baseline) if name]
    since, _ = counted_since(state, datetime.now(UTC)) if state.stage_since else (None, 0)
    metrics = version_metrics(settings.serving_log_dir, since, names) if since else {}
    policy = plan_of(state, settings.rollout).policy
    hours = stage_policy(state.stage, policy).hours if state.stage else 0.0
    return LiveRollout(
        state=state,
        traffic=service.router.route.traffic,
        new=new,
        baseline=baseline,
        since=since,
        metrics=metrics,
        ab=_newest_ab(history, new),
        conditions=tuple(_newest(history, new, STAGES).get("conditions", ())),
        votes=_votes_between(service, new, baseline),
        at_least_h=hours * policy.duration_scale,
        next_stage=next_stage(state.stage) if state.stage in STAGES else None,
        history=tuple(history),
    )


def _newest(history: list[dict[str, Any]], version: str | None, stages: Sequence[str]) -> dict[str, Any]:
    """The evidence of the newest decision on a version that rested on any from these stages."""
    found: list[dict[str, Any]] = [
        each["evidence"] for each in history if each["version"] == version and each["evidence"].get("stage") in stages
    ]
    return found[0] if found else {}


def _newest_ab(history: list[dict[str, Any]], version: str | None) -> WinRate | None:
    evidence = _newest(history, version, STAGES[:1])
    if not evidence or not evidence.get("ab"):
        return None
    ab = evidence["ab"]
    # Decisions from before both readings were kept hold the one there was.
    return WinRate(**(ab[ab["reading"]] if "reading" in ab else ab))


def _votes_between(service: Service, new: str | None, baseline: str | None) -> int:
    if not (new and baseline):
        return 0
    battles = service.tally.refresh().battles.copy()
    return sum(count for (first, second, _), count in battles.items() if {first, second} == {new, baseline})
