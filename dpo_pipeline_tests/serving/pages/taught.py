"""What training and evaluation leave of a version: dataset, adapter, base, curve, won and lost answers."""

import math
from collections.abc import Sequence
from typing import Any

import msgspec

from dpo_pipeline.core.dataset import Pair, split_pairs
from dpo_pipeline.core.judged_examples import JudgedExamples
from dpo_pipeline.core.training_curve import Point
from dpo_pipeline.core.verdict import JudgedAnswer
from dpo_pipeline.ml.training_plan import write_dataset
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.artifacts import write_manifest, write_text
from dpo_pipeline.stores.bank import read_bank
from dpo_pipeline.stores.ledger import Ledger
from dpo_pipeline.stores.training_curves import write_curve
from dpo_pipeline_tests.examples import put_version

EVALUATION: dict[str, Any] = {
    "verdict": "improved",
    "reasons": ["win rate 66.1% [58.3%, 73.0%] of 146 on 73 questions", "answers have 24.1 words, the parent's 15.0"],
    "overall": {"rate": 0.661, "low": 0.583, "high": 0.73},
    "by_category": {"factual_qa": {"rate": 0.7, "low": 0.5, "high": 0.86}},
    "controlled": 0.575, "controlled_error": 0.05, "words": 24.1, "parent_words": 15.0,
}  # fmt: skip
EXAMPLES = 4
STEPS = 44


def teach(settings: Settings, name: str, pairs: Sequence[Pair]) -> None:
    """A version as it is after training on these pairs and an evaluation; its status stays what it is."""
    split = split_pairs(pairs, frozenset(), 0.1, 8)
    write_dataset(settings, split)
    base = settings.artifacts_dir / "base" / "embedded-d364fd5d7a51"
    base.mkdir(parents=True, exist_ok=True)
    base_sha = write_manifest(base, {"kind": "base_model"})["sha256"]
    write_curve(settings.reports_dir, name, 1, curve())
    with Ledger(settings.ledger_address) as ledger:
        adapter = settings.artifacts_dir / "adapters" / str(ledger.version(name).adapter_sha)[:16]
        adapter.mkdir(parents=True)
        write_manifest(adapter, {"kind": "adapter", "version": name})
        put_version(
            ledger, name, parent="v1.0", pairs=len(split.train), win_rate=0.661, evaluation=EVALUATION,
            dataset_hash=split.content_hash, base_sha=base_sha, adapter_dir=str(adapter),
            training_metrics={"loss": 0.52, "rewards/margins": 0.9, "rewards/accuracies": 0.87},
        )  # fmt: skip
    report = settings.reports_dir / "evaluation" / f"{name}-attempt1.html"
    write_text(report, f"<!doctype html><html lang=en><title>{name} against v1.0</title><p>the whole evaluation")
    write_text(report.with_suffix(".json"), msgspec.json.encode(examples(settings)).decode())


def curve() -> list[Point]:
    """As a training of 44 steps goes: two runs through the pairs, with the noise of small batches."""
    return [
        {
            "step": float(step),
            "loss": 0.69 * math.exp(-step / 40) + 0.1 + 0.05 * math.sin(2.3 * step),
            "rewards/margins": 1.1 * (1 - math.exp(-step / 18)) + 0.08 * math.sin(1.7 * step),
            "rewards/accuracies": min(round(8 * (0.5 + 0.5 * (1 - math.exp(-step / 9)))) / 8, 1.0),
        }
        for step in range(1, STEPS + 1)
    ]


def examples(settings: Settings) -> JudgedExamples:
    """Detailed answers that won over terse ones, and terse ones that lost."""
    asked = read_bank(settings.bank_dir)[::25]
    won = tuple(
        JudgedAnswer(each.question, each.category, "win", each.detailed[0], each.terse[0]) for each in asked[:EXAMPLES]
    )
    lost = tuple(
        JudgedAnswer(each.question, each.category, "loss", each.terse[0], each.detailed[1])
        for each in asked[EXAMPLES : 2 * EXAMPLES]
    )
    return JudgedExamples(won=won, lost=lost)
