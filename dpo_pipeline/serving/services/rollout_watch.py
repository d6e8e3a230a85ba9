"""The rollout as it is at this moment, for a page that many people watch: read once, shown to all."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dpo_pipeline.core.exposure import RolloutPlan
from dpo_pipeline.core.forecast import Forecast
from dpo_pipeline.core.rollout import STAGES, VersionMetrics, stage_policy
from dpo_pipeline.core.version_metrics import version_metrics
from dpo_pipeline.core.vote_count import VoteCount, Whose
from dpo_pipeline.loop.forecast import last_week
from dpo_pipeline.loop.roll_out import plan_of
from dpo_pipeline.loop.rollout_evidence import counted_since, hours_since
from dpo_pipeline.serving.engines.engine import Engine, ServerState
from dpo_pipeline.serving.router import Router
from dpo_pipeline.serving.services.counts import BattleFilter
from dpo_pipeline.serving.services.tally import Tally
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.ledger import DecisionRecord, DeploymentState, Ledger
from dpo_pipeline.stores.serving_log import read_records

KEPT_S, FORECAST_KEPT_S = 3.0, 600.0


@dataclass(frozen=True)
class StageReached:
    """A stage of the rollout that is under way: when it began, and what the new version met in it until it ended."""

    began: datetime
    ended: datetime | None
    requests: int | None

    def hours_after(self, begin: datetime) -> float:
        """From the rollout's begin to the end of the stage, or to now."""
        return ((self.ended or datetime.now(UTC)) - begin).total_seconds() / 3600


@dataclass(frozen=True)
class RolloutSnapshot:
    """`new` is being rolled out or was rolled out last, `baseline` is what it is compared with; null: none.

    `newest` is the newest decision since the stage began, or null. `judged` is the newest decision on `new` that its
    rules were judged for, `ab` the A/B test of the newest one in staging, where votes decide. `metrics` count `since`
    the stage began, at full traffic since its day did. `forecast` is the one that the rollout began with, or one of the
    next rollout where none is under way, with the `usage` it is made from. `decisions`: newest first, those before
    `newest` where that is a hold. `servers`: those that answers are forwarded to.
    """

    state: DeploymentState
    plan: RolloutPlan
    traffic: float
    new: str | None
    baseline: str | None
    since: str | None
    metrics: dict[str, VersionMetrics]
    newest: DecisionRecord | None
    judged: DecisionRecord | None
    ab: dict[str, Any] | None
    votes: VoteCount
    reached: dict[str, StageReached]
    forecast: Forecast | None
    usage: str
    changed_settings: tuple[str, ...]
    decisions: tuple[DecisionRecord, ...]
    servers: tuple[ServerState, ...]

    @property
    def under_way(self) -> bool:
        return self.state.challenger is not None

    @property
    def hours_in_stage(self) -> float:
        if not self.state.stage_since:
            return 0.0
        return hours_since(self.state.stage_since, datetime.now(UTC))

    def hours_of(self, stage: str) -> float:
        """How long a stage lasts at least."""
        return stage_policy(stage, self.plan.policy).hours * self.plan.policy.duration_scale


class RolloutWatch:
    """Reads what has changed at most every few seconds: the serving log of a long stage is not small."""

    def __init__(self, settings: Settings, engine: Engine, router: Router, tally: Tally) -> None:
        self._settings, self._engine, self._router, self._tally = settings, engine, router, tally
        self._lock = threading.Lock()
        self._kept: tuple[float, RolloutSnapshot] | None = None
        self._next_forecast: tuple[float, Forecast, str] | None = None

    def look(self, fresh: bool = False) -> RolloutSnapshot:
        """
        Args:
            fresh: after an order, when an older look would mislead.
        """
        with self._lock:
            if fresh or self._kept is None or time.monotonic() - self._kept[0] > KEPT_S:
                self._kept = (time.monotonic(), self._read())
            return self._kept[1]

    def _read(self) -> RolloutSnapshot:
        settings = self._settings
        with Ledger(settings.ledger_address) as ledger:
            state, decisions = ledger.deployment(), ledger.decisions()
        rolled_out = state.stage is not None and state.stage_since is not None
        new, baseline = (state.subject, state.baseline) if rolled_out else (None, None)
        names = [name for name in (new, baseline) if name]
        since = counted_since(state, datetime.now(UTC))[0] if state.stage_since else None
        plan = plan_of(state, settings.rollout)
        holds = [each for each in decisions[-1:] if each.decision == "hold" and each.epoch == state.epoch]
        forecast, usage = (_begun_with(decisions, new), "") if state.challenger else self._of_the_next()
        return RolloutSnapshot(
            state=state,
            plan=plan,
            traffic=self._router.route.traffic,
            new=new,
            baseline=baseline,
            since=since,
            metrics=version_metrics(read_records(settings.serving_log_dir, since), names) if since else {},
            newest=holds[0] if holds else None,
            judged=_newest(decisions, new, STAGES, "conditions"),
            ab=tested.evidence["ab"] if (tested := _newest(decisions, new, STAGES[:1], "ab")) else None,
            votes=_votes_between(self._tally, new, baseline),
            reached=_reached(decisions, state),
            forecast=forecast,
            usage=usage,
            changed_settings=_changed(plan, settings) if state.challenger and state.plan else (),
            decisions=tuple(reversed(decisions[: len(decisions) - len(holds)])),
            servers=tuple(self._engine.servers),
        )

    def _of_the_next(self) -> tuple[Forecast, str]:
        """What a rollout would come to that began now, and with whose usage; worked out again every ten minutes."""
        if self._next_forecast is None or time.monotonic() - self._next_forecast[0] > FORECAST_KEPT_S:
            usage = last_week(self._settings)
            self._next_forecast = (time.monotonic(), usage.forecast(self._settings.rollout), str(usage))
        return self._next_forecast[1:]


def _begun_with(decisions: Sequence[DecisionRecord], version: str | None) -> Forecast | None:
    """The forecast beside the decision that began the version's newest rollout; null: from before they were kept."""
    for each in reversed(decisions):
        if (each.version, each.stage, each.decision) == (version, STAGES[0], "promote"):
            kept = each.evidence.get("forecast")
            return Forecast.from_json(kept) if kept else None
    return None


def _reached(decisions: Sequence[DecisionRecord], state: DeploymentState) -> dict[str, StageReached]:
    """The stages of the rollout that is under way, by name."""
    if not state.challenger:
        return {}
    moves: list[DecisionRecord] = []
    for each in decisions:
        if each.version == state.challenger and each.decision == "promote":
            moves = [each] if each.stage == STAGES[0] else [*moves, each]
    reached = {}
    for move, following in zip(moves, [*moves[1:], None], strict=True):
        # What a stage met stands beside the decision that ended it.
        met = following.evidence.get("met", {}).get("new") if following else None
        ended = datetime.fromisoformat(following.decided_at) if following else None
        reached[move.stage] = StageReached(datetime.fromisoformat(move.decided_at), ended, met)
    return reached


def _changed(plan: RolloutPlan, settings: Settings) -> tuple[str, ...]:
    """Settings of the rollout that differ from what it began with, as `name: then → now`."""
    then, now = plan.policy.model_dump(mode="json"), settings.rollout.model_dump(mode="json")
    return tuple(f"{name}: {then[name]} → {now[name]}" for name in now if then.get(name) != now[name])


def _newest(
    decisions: Sequence[DecisionRecord], version: str | None, stages: Sequence[str], key: str
) -> DecisionRecord | None:
    """The newest decision on a version that rested on this evidence from these stages."""
    for each in reversed(decisions):
        if each.version == version and each.evidence.get("stage") in stages and each.evidence.get(key):
            return each
    return None


def _votes_between(tally: Tally, new: str | None, baseline: str | None) -> VoteCount:
    if not (new and baseline):
        return VoteCount()
    tally.refresh()

    def count(whose: Whose) -> int:
        battles = tally.battles(BattleFilter(whose=whose))
        return sum(count for (first, second, _), count in battles.items() if {first, second} == {new, baseline})

    return VoteCount(count("people"), count("simulated"))
