"""The rival of `bench_orchestration`: the training half of a turn in one script, with no orchestrator.

The functions are those that the assets call, in the same order; prints the seconds of each step as JSON.
"""

import json
import time
from dataclasses import asdict
from pathlib import Path

import duckdb

from dpo_pipeline.core import version_card
from dpo_pipeline.core.dataset import split_pairs
from dpo_pipeline.core.verdict import evaluate
from dpo_pipeline.loop.describe import card_facts
from dpo_pipeline.loop.roll_out import decide_now, mirror
from dpo_pipeline.ml import train_process
from dpo_pipeline.ml.base_model import locate_base
from dpo_pipeline.ml.evaluation import Contestant, exam, judge_versions
from dpo_pipeline.ml.training_plan import dpo_job, write_dataset
from dpo_pipeline.reports.evaluation_page import evaluation_page
from dpo_pipeline.settings import Settings, load_settings
from dpo_pipeline.stores.artifacts import CARD, write_text
from dpo_pipeline.stores.bank import held_out_prompts
from dpo_pipeline.stores.ledger import Ledger
from dpo_pipeline.stores.registry import Registry, TrainingRun
from dpo_pipeline.stores.warehouse import Warehouse, prepare

VERSION, PARENT = "v1.1", "v1.0"


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
        evaluation = settings.evaluation
        pairs = warehouse.valid_pairs()
        split = split_pairs(pairs, held_out_prompts(settings), evaluation.eval_share, settings.recipe.batch_size)
        data = write_dataset(settings, split)
        ledger.record_version(VERSION, dataset_hash=split.content_hash, pairs=len(split.train), pairs_seen=len(pairs))
        clock.lap("dpo_dataset")
        _train_and_register(settings, ledger, registry, data, clock)
        decide_now(settings, ledger, warehouse.head_to_head, VERSION, actor="plain script")
        mirror(ledger, registry)
        facts = card_facts(settings, ledger, VERSION)
        number = str(ledger.version(VERSION).mlflow_version)
        registry.describe(number, version_card.tags(facts), version_card.description(facts))
        clock.lap("rollout_decision")
    return clock.laps


def _train_and_register(settings: Settings, ledger: Ledger, registry: Registry, data: Path, clock: Clock) -> None:
    parent, base = ledger.version(PARENT), locate_base(settings)
    facts = {"version": VERSION, "parent": PARENT}
    job = dpo_job(settings, base, settings.recipe, Path(str(parent.adapter_dir)), data, facts)
    trained = train_process.run(job)
    sha, adapter, dataset_hash = trained.adapter_sha, Path(trained.adapter_dir), trained.facts["dataset_hash"]
    tags = {"version": VERSION, "adapter_sha": sha, "base_sha": base.sha, "dataset_hash": dataset_hash}
    folders = {"adapter": adapter, "dataset": data / "manifest.json"}
    run = TrainingRun(
        VERSION, job.recipe, trained.metrics, trained.curve, tags, data / "train.parquet", dataset_hash, folders
    )
    run_id = registry.log_training(run)
    clock.lap("trained_adapter")
    rivals = Contestant(sha, adapter), Contestant(str(parent.adapter_sha), Path(str(parent.adapter_dir)))
    answers, measured = judge_versions(settings, base, *rivals, exam(settings, data), lambda *said: None)
    verdict = evaluate(answers, settings.evaluation, measured)
    assert verdict.improved, verdict.reasons
    page = settings.reports_dir / "evaluation" / f"{VERSION}.html"
    write_text(page, evaluation_page(VERSION, PARENT, verdict, answers, None))
    registry.log_evaluation(run_id, page, asdict(verdict), {"win_rate": verdict.overall.rate or 0.0})
    clock.lap("eval_report")
    text = version_card.description(card_facts(settings, ledger, VERSION))
    number = registry.register(run_id, sha, tags, text)
    recorded = {"adapter_sha": sha, "adapter_dir": str(adapter), "mlflow_run": run_id, "mlflow_version": number}
    ledger.record_version(VERSION, status="registered", parent=PARENT, win_rate=verdict.overall.rate, **recorded)
    card = version_card.model_card(card_facts(settings, ledger, VERSION))
    write_text(adapter / CARD, card)
    registry.log_card(run_id, card)
    clock.lap("model_version")


if __name__ == "__main__":
    print(json.dumps(plain_turn()))
