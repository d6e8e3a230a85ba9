"""How long does one full turn take on a real language model, from 120 pairs of people to the decision?

Profile gemma (Gemma 3 270M) on this machine: pairs that people chose (Auto-J) are brought in until 120 of them pass
every criterion, then each step of the loop as Dagster's assets call it: validated, made a dataset, trained (DPO from
v1.0), judged against v1.0 on held-out questions, and, where it is found better, registered and put into staging. Base
and v1.0 (tuned on the question bank) are made before; how long that takes is told beside it. There is no rival for a
whole turn; `bench_real_training` has one for its longest step. With --trainer llamafactory (`make llamafactory`) that
program trains, and the result is one of its own. Goals: at most 60 minutes, 8 GB of memory, and nothing swapped.
"""

import argparse
import itertools
import shutil
import tempfile
import threading
import time
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any, get_args

import duckdb
import psutil
from inputs import settings_for
from reporting import Goal, report, say, show
from servers import mlflow_server

from dpo_pipeline.errors import DpoError
from dpo_pipeline.loop.build_dataset import build_dataset
from dpo_pipeline.loop.curate import curate
from dpo_pipeline.loop.evaluate import evaluate_version
from dpo_pipeline.loop.import_pairs import import_file
from dpo_pipeline.loop.ingest import ingest
from dpo_pipeline.loop.register import register_version
from dpo_pipeline.loop.roll_out import decide_now
from dpo_pipeline.loop.train import train, train_baseline
from dpo_pipeline.ml.base_model import ensure_base
from dpo_pipeline.settings import PROJECT_DIR, DpoRecipe, Settings, load_settings
from dpo_pipeline.stores.ledger import Ledger
from dpo_pipeline.stores.registry import Registry
from dpo_pipeline.stores.warehouse import Warehouse, prepare

PAIRS = PROJECT_DIR.parent / "shared" / "data" / "pairs_autoj.jsonl"
WANTED, VERSION, BATCH = 120, "v1.1", 40
LOOK_EVERY_S = 0.5


class Memory:
    """The most that this process and its children held at once, and what was swapped meanwhile."""

    def __init__(self) -> None:
        self.peak_gb, self._swapped = 0.0, psutil.swap_memory().sout
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        me = psutil.Process()
        while not self._over.wait(LOOK_EVERY_S):
            held = 0
            for process in [me, *me.children(recursive=True)]:
                try:
                    held += process.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            self.peak_gb = max(self.peak_gb, held / 1e9)

    def swapped_mb(self) -> float:
        self._over.set()
        self._thread.join()
        return float(psutil.swap_memory().sout - self._swapped) / 1e6


def bring_in(settings: Settings, warehouse: Warehouse) -> int:
    """Rows of the file, some at a time, until so many valid pairs are there; returns how many were brought in."""
    brought, lines = 0, iter(PAIRS.read_text(encoding="utf-8").split("\n"))
    while warehouse.tally("valid") < WANTED and (rows := list(itertools.islice(lines, BATCH))):
        with tempfile.TemporaryDirectory() as folder:
            part = Path(folder) / f"autoj-{brought}.jsonl"
            part.write_text("\n".join(row for row in rows if row) + "\n", encoding="utf-8")
            brought += import_file(part, settings.prefs_log, settings.collection.max_line_bytes).imported
        ingest(warehouse, settings.quarantine_log, settings.collection.max_line_bytes, settings.quality)
        curate(settings, warehouse)
    return brought


def turn(settings: Settings, ledger: Ledger, registry: Registry) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Minutes of each step, and what came of it."""
    rows: list[dict[str, Any]] = []
    began = time.perf_counter()

    def lap(step: str) -> None:
        nonlocal began
        now = time.perf_counter()
        rows.append({"step": step, "minutes": (now - began) / 60})
        say(f"{step}: {(now - began) / 60:.1f} min")
        began = now

    settings.warehouse_path.parent.mkdir(parents=True, exist_ok=True)
    with closing(duckdb.connect(str(settings.warehouse_path))) as connection:
        prepare(connection)
        warehouse = Warehouse(connection, settings.prefs_log)
        brought = bring_in(settings, warehouse)
        valid = warehouse.tally("valid")
        lap("brought in and validated")
        build_dataset(settings, ledger, warehouse, VERSION)
        lap("dataset")
        trained = train(settings, ledger, registry, VERSION)
        lap("trained (DPO)")
        evaluated = evaluate_version(settings, ledger, registry, VERSION)
        lap("judged against v1.0")
        decision = "not registered"
        if evaluated.verdict.improved:
            register_version(settings, ledger, registry, VERSION)
            decision = decide_now(settings, ledger, lambda: nullcontext(warehouse), VERSION, "study").reasons[0]
            lap("registered, staging begun")
    metrics = trained.result.metrics
    return rows, {
        "pairs_brought_in": brought,
        "pairs_valid": valid,
        "held_out_accuracy": metrics.get("rewards/accuracies"),
        "held_out_margin": metrics.get("rewards/margins"),
        "verdict": [str(reason) for reason in evaluated.verdict.reasons],
        "improved": evaluated.verdict.improved,
        "decision": decision,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="where `make real` put the model; default: of the settings")
    parser.add_argument("--trainer", default="trl", choices=get_args(DpoRecipe.model_fields["trainer"].annotation))
    args = parser.parse_args()
    if not PAIRS.exists():
        raise SystemExit(f"{PAIRS} is not here: this study needs pairs that people chose.")
    source = settings_for(args.data_dir, profile="gemma")
    with tempfile.TemporaryDirectory(prefix="study-real-turn-", dir=source.data_dir) as folder:
        place = Path(folder) / "data"
        (place / "artifacts").mkdir(parents=True)
        (place / "models").symlink_to(source.models_dir)
        shutil.copytree(source.artifacts_dir / "base", place / "artifacts" / "base")
        with mlflow_server(place) as env:
            address = f"http://127.0.0.1:{env['DPO_PORTS__MLFLOW']}"
            recipe = {"trainer": args.trainer}
            settings = load_settings(data_dir=place, profile="gemma", mlflow_url=address, recipe=recipe)
            registry = Registry(settings.mlflow_address, settings.registered_model)
            with Ledger(settings.ledger_address) as ledger:
                begin = time.perf_counter()
                ensure_base(settings, lambda step, total, metrics: None)
                train_baseline(settings, ledger, registry)
                before = (time.perf_counter() - begin) / 60
                say(f"v1.0 is there after {before:.1f} min")
                memory = Memory()
                try:
                    rows, found = turn(settings, ledger, registry)
                except DpoError as error:
                    raise SystemExit(f"The turn ended: {error}") from error
                swapped = memory.swapped_mb()
    minutes = sum(row["minutes"] for row in rows)
    show(f"One turn on {source.model.base}, trained by {args.trainer}", [*rows, {"step": "all", "minutes": minutes}])
    goals = [
        Goal("minutes from pairs to decision", minutes, "at most", 60),
        Goal("peak memory, GB", memory.peak_gb, "at most", 8),
        Goal("swapped out, MB", swapped, "at most", 0),
    ]
    name = "study_real_turn" if args.trainer == "trl" else f"study_real_turn_{args.trainer}"
    report(name, goals, {"steps": rows, "v1.0_minutes": before, "trainer": args.trainer, **found})


if __name__ == "__main__":
    main()
