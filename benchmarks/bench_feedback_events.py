"""How fast is people's feedback read and turned into labels, and does it fit into memory?

A million thumbs and ratings of chats, by 5,000 people over thirty days, each with its question and answer. Ours is what
the assets `feedback` and `labelled_answers` do: every event checked and written as Parquet; every event judged by the
criteria of votes, the newest of each person and answer kept, with the shares of people. The rival is the least that a
script would do: `json.loads` of each line, the newest of each person and answer, a label by a rule; it checks nothing.
Each side runs in a process of its own, whose peak memory is read. Goals: 20,000 events a second; 2 GB, as for votes.
"""

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
from reporting import Goal, report, say, show

from dpo_pipeline.core.serving_records import FeedbackRecord
from dpo_pipeline.loop.feedback_table import write_feedback
from dpo_pipeline.loop.label import given_feedback, trainable_feedback
from dpo_pipeline.settings import Settings, load_settings
from dpo_pipeline.stores.log import AppendLog

DAYS, PEOPLE = 30, 5_000
TABLE, LABELS, RIVAL = "feedback: checked, as Parquet", "labelled_answers: judged", "json.loads and a rule"


@dataclass(frozen=True)
class Outcome:
    """`kept`: events written, or labels found."""

    seconds: float
    kept: int
    peak_gb: float = 0.0


def events(day: int, count: int) -> Iterator[FeedbackRecord]:
    for place in range(count):
        number = day * count + place
        is_thumb = number % 3 > 0
        yield FeedbackRecord(
            event_id=f"evt-{number}",
            recorded_at=f"2026-01-{day + 1:02}T10:00:00.000Z",
            request_id=f"chatcmpl-{number}",
            user=f"person-{number % PEOPLE}",
            version="v1.0",
            signal="thumb" if is_thumb else "rating",
            value=("up" if number % 2 else "down") if is_thumb else number % 5 + 1,
            prompt=f"How far is it to the moon, asked for the {number}th time? " * 3,
            answer="About 384,000 kilometres, which is thirty times the width of the Earth. " * 4,
        )


def write_log(settings: Settings, count: int) -> None:
    for day in range(DAYS):
        log = AppendLog(settings.serving_log_dir / f"2026-01-{day + 1:02}.jsonl", durable=False)
        log.append_all([msgspec.json.encode(event) for event in events(day, count // DAYS)])


def table(settings: Settings) -> int:
    return write_feedback(settings.serving_log_dir, settings.feedback_table).total()


def labels(settings: Settings) -> int:
    return len(trainable_feedback(settings, given_feedback(settings.serving_log_dir, [], 0)).labelled)


def plain(settings: Settings) -> int:
    newest = {}
    for path in sorted(settings.serving_log_dir.glob("*.jsonl")):
        for line in path.open(encoding="utf-8"):
            event = json.loads(line)
            newest[event["user"], event["request_id"]] = event
    return sum(event["value"] in ("up", "down", 1, 2, 5) for event in newest.values())


SIDES: dict[str, Callable[[Settings], int]] = {TABLE: table, LABELS: labels, RIVAL: plain}


def measured(side: str, data_dir: Path) -> Outcome:
    settings = load_settings(data_dir=data_dir)
    begin = time.perf_counter()
    kept = SIDES[side](settings)
    return Outcome(time.perf_counter() - begin, kept, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    count = parser.parse_args().events // DAYS * DAYS
    with tempfile.TemporaryDirectory() as folder:
        write_log(load_settings(data_dir=Path(folder)), count)
        say(f"{count:,} events are written")
        found = {}
        for side in SIDES:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                found[side] = pool.apply(measured, (side, Path(folder)))
    rows = [
        {"what": side, "events a second": count / each.seconds, "kept": each.kept, "peak GB": each.peak_gb}
        for side, each in found.items()
    ]
    show(f"{count:,} events of feedback", rows)
    goals = [
        goal
        for side in (TABLE, LABELS)
        for goal in (
            Goal(f"{side}, events a second", count / found[side].seconds, "at least", 20_000),
            Goal(f"{side}, GB", found[side].peak_gb, "at most", 2),
        )
    ]
    report("feedback_events", goals, {"rows": rows})


if __name__ == "__main__":
    main()
