"""How long does a Dagster process need to load the definitions, against the bare `import dagster`?

Every sensor tick's code server and every run starts with this import. Both are timed in fresh
processes, in turn; the medians are compared. Goal: at most 2 ×.
"""

import argparse
import statistics
import subprocess
import sys
import time

from reporting import Goal, report, show

OURS, RIVAL = "import dpo_pipeline.definitions", "import dagster"
GOAL = 2.0


def seconds(statement: str) -> float:
    """Wall time of a fresh interpreter that runs `statement` and ends."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-W", "ignore", "-c", statement], check=True)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    times: dict[str, list[float]] = {OURS: [], RIVAL: []}
    for statement in times:
        seconds(statement)  # bytecode and file cache
    for _ in range(repeats):
        for statement, measured in times.items():
            measured.append(seconds(statement))
    medians = {statement: statistics.median(measured) for statement, measured in times.items()}
    show(
        f"Seconds of a fresh process, {repeats} each in turn",
        [
            {"process": statement, "median": medians[statement], "fastest": min(measured), "slowest": max(measured)}
            for statement, measured in times.items()
        ],
    )
    ratio = medians[OURS] / medians[RIVAL]
    report(
        "load",
        [Goal("definitions over bare dagster", ratio, "at most", GOAL)],
        {"definitions_s": times[OURS], "dagster_s": times[RIVAL]},
    )


if __name__ == "__main__":
    main()
