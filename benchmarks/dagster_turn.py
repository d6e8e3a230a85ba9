"""One side of `bench_orchestration`: the training half of a turn as assets, as the daemon runs them.

`dagster_turn.py prepare` registers the baseline and judges the votes, `dagster_turn.py turn` prints the seconds of each
step as JSON.
"""

import json
import sys

import dagster as dg

from dpo_pipeline.definitions import defs

VERSION, PARENT = "v1.1", "v1.0"


def prepare() -> dict[str, float]:
    """Baseline registered, votes judged, partition added: what both sides start from."""
    with dg.DagsterInstance.get() as instance:
        instance.add_dynamic_partitions("versions", [PARENT, VERSION])
        defs.resolve_job_def("build_baseline").execute_in_process(instance=instance, partition_key=PARENT)
        defs.resolve_job_def("ingest_and_validate").execute_in_process(instance=instance)
    return {}


def turn() -> dict[str, float]:
    """Seconds by step of job `train_version`."""
    with dg.DagsterInstance.get() as instance:
        result = defs.resolve_job_def("train_version").execute_in_process(instance=instance, partition_key=VERSION)
        stats = instance.get_run_step_stats(result.run_id)
        return {step.step_key: step.end_time - step.start_time for step in stats if step.end_time and step.start_time}


if __name__ == "__main__":
    print(json.dumps({"prepare": prepare, "turn": turn}[sys.argv[1]]()))
