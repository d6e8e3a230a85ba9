"""What does Dagster cost: the training half of a turn as assets, against the same functions in one plain script?

Dataset, training, MLflow run, evaluation, registration and the first rollout decision of v1.1. Under
Dagster: job `train_version` in a fresh process with an instance on disk, training and evaluation in the
run's other process through Pipes, as the daemon runs it. The rival: `plain_turn.py` in a fresh process, training
in-process, one import of torch for everything. Both start from a copy of the same data directory
and talk to an MLflow server of their own on a copy of the same database. The best runs are
compared: whatever else the machine does only ever adds time. Goal: at most 1.1 ×.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from inputs import asked_questions, baseline, settings_for
from reporting import Goal, Neighbours, report, say, show
from servers import mlflow_server
from synthetic_votes import bank_votes

from dpo_pipeline.core.votes import encode_preference
from dpo_pipeline.ml.training_plan import sft_job
from dpo_pipeline.settings import Settings, load_settings
from dpo_pipeline.stores.log import AppendLog

GOAL = 1.1
SIDES = ("dagster", "plain")
HERE = Path(__file__).parent
PROGRAMS = {
    "prepare": [str(HERE / "dagster_turn.py"), "prepare"],
    "dagster": [str(HERE / "dagster_turn.py"), "turn"],
    "plain": [str(HERE / "plain_turn.py")],
}
"""Files of their own: what makes votes and draws tables is no part of either side."""
# Both sides shall get as far as the registry, whatever the judge thinks of this little training.
LENIENT = {"DPO_EVALUATION__MIN_WIN_RATE": "0.501", "DPO_EVALUATION__ALPHA": "0.49"}


def run(step: str, data_dir: Path) -> dict[str, float]:
    """Wall seconds of one step in a fresh process, cores that others used meanwhile, and seconds by asset."""
    command = PROGRAMS[step]
    with mlflow_server(data_dir, **LENIENT) as env:
        begin, neighbours = time.perf_counter(), Neighbours()
        done = subprocess.run([sys.executable, *command], env=env, capture_output=True, text=True)
        seconds, others = time.perf_counter() - begin, neighbours.cores()
    if done.returncode:
        raise SystemExit(f"{step} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return {"seconds": seconds, "neighbours_cores": others, **json.loads(done.stdout.splitlines()[-1])}


def make_start(settings: Settings, votes: int, start: Path) -> None:
    """A data directory with the base model, the finished v1.0 and a vote log, and everything derived from them."""
    base, _ = baseline(settings)
    finished = Path(sft_job(settings, base).work_dir).relative_to(settings.data_dir)
    for part in ("artifacts/base", "artifacts/adapters", finished):
        shutil.copytree(settings.data_dir / part, start / part)
    log = load_settings(data_dir=start).prefs_log
    AppendLog(log).append_all([encode_preference(vote) for vote in bank_votes(asked_questions(settings), votes)])
    run("prepare", start)


def measure(settings: Settings, votes: int, repeats: int) -> dict[str, list[dict[str, float]]]:
    """Both sides in turn, each on a fresh copy of the same start."""
    measured: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory(prefix="bench-turn-") as folder:
        start = Path(folder) / "start"
        make_start(settings, votes, start)
        say("baseline and votes are ready")
        for turn in range(repeats):
            for side in SIDES:
                copy = Path(folder) / f"{side}{turn}"
                shutil.copytree(start, copy, symlinks=True)
                measured[side].append(run(side, copy))
                say(f"{turn + 1} of {repeats}: {side} {measured[side][-1]['seconds']:.1f} s")
                shutil.rmtree(copy)
    return measured


def _row(side: str, runs: list[dict[str, float]]) -> dict[str, Any]:
    """The best run by asset; `rest` is start-up and all that lies between the assets."""
    best = min(runs, key=lambda run: run["seconds"])
    assets = {name: best[name] for name in sorted(best.keys() - {"seconds", "neighbours_cores"})}
    return {
        "side": side,
        "best": best["seconds"],
        "median": statistics.median(run["seconds"] for run in runs),
        **assets,
        "rest": best["seconds"] - sum(assets.values()),
        "neighbours_cores": best["neighbours_cores"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="where base model and v1.0 are or shall be; default: that of the settings")
    parser.add_argument("--votes", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    measured = measure(settings_for(args.data_dir), args.votes, args.repeats)
    rows = [_row(side, runs) for side, runs in measured.items()]
    show(f"Seconds of a fresh process, and of each asset in the best of {args.repeats} runs, sides in turn", rows)
    goal = Goal("Dagster over the plain script, best runs,", rows[0]["best"] / rows[1]["best"], "at most", GOAL)
    report("orchestration", [goal], {"sides": rows, "runs": measured})


if __name__ == "__main__":
    main()
