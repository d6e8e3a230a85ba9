"""The rival of `bench_orchestration`: the training half of a turn in one script, with no orchestrator.

The use cases are those that the assets call, in the same order; prints the seconds of each step as JSON.
"""

import json
import time
from contextlib import nullcontext

import duckdb

from dpo_pipeline.loop.build_dataset import build_dataset
from dpo_pipeline.loop.describe import card_facts, describe
from dpo_pipeline.loop.evaluate import evaluate_version
from dpo_pipeline.loop.reconcile_registry import reconcile_registry
from dpo_pipeline.loop.register import register_version
from dpo_pipeline.loop.roll_out import decide_now
from dpo_pipeline.loop.train import train
from dpo_pipeline.settings import load_settings
from dpo_pipeline.stores.ledger import Ledger
from dpo_pipeline.stores.registry import Registry
from dpo_pipeline.stores.warehouse import Warehouse, prepare

VERSION = "v1.1"


class Clock:
    """Seconds between laps, by name."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name], self._last = now - self._last, now


def plain_turn() -> dict[str, float]:
    """Train, judge, register v1.1 and put it into staging; seconds by step, named as the assets are."""
    settings, clock = load_settings(), Clock()
    registry = Registry(settings.mlflow_address, settings.registered_model)
    with Ledger(settings.ledger_address) as ledger, duckdb.connect(settings.warehouse_path) as connection:
        prepare(connection)
        warehouse = Warehouse(connection, settings.prefs_log)
        build_dataset(settings, ledger, warehouse, VERSION)
        clock.lap("dpo_dataset")
        train(settings, ledger, registry, VERSION)
        clock.lap("trained_adapter")
        evaluated = evaluate_version(settings, ledger, registry, VERSION)
        assert evaluated.verdict.improved, evaluated.verdict.reasons
        clock.lap("eval_report")
        register_version(settings, ledger, registry, VERSION)
        clock.lap("model_version")
        decide_now(settings, ledger, lambda: nullcontext(warehouse), VERSION, actor="plain script")
        reconcile_registry(settings, ledger, registry)
        describe(settings, registry, ledger.version(VERSION), card_facts(settings, ledger, VERSION))
        clock.lap("rollout_decision")
    return clock.laps


if __name__ == "__main__":
    print(json.dumps(plain_turn()))
