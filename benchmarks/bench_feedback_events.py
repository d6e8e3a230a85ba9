"""How fast is people's feedback read and turned into labels, and does it fit into memory?

A million thumbs, ratings and corrections of chats (six, three and one of ten), by 5,000 people over thirty days, each
with its question and answer, a tenth of them in the middle of a conversation. Ours is what the assets `feedback` and
`labelled_answers` do: every event checked and written as Parquet; every event judged by the criteria of votes, the
newest of each person and answer kept, with the shares of people. The rival is the least that a script would do:
`json.loads` of each line, the newest of each person and answer, a label or a pair by a rule; it checks nothing.
Each side runs in a process of its own, whose peak memory is read. Goals: 20,000 events a second; 2 GB, as for votes.
"""

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from reporting import Goal, plot, report, say, show

from dpo_pipeline.core.serving_records import FeedbackRecord
from dpo_pipeline.loop.feedback_table import write_feedback
from dpo_pipeline.loop.label import given_feedback, trainable_feedback
from dpo_pipeline.reports import plots
from dpo_pipeline.settings import Settings, load_settings
from dpo_pipeline.stores.log import AppendLog

DAYS, PEOPLE, ENOUGH = 30, 5_000, 20_000
BEFORE = [
    {"role": "user", "content": "What is the moon?"},
    {"role": "assistant", "content": "A rock that goes around the Earth."},
]
TABLE, LABELS, RIVAL = "feedback: checked, as Parquet", "labelled_answers: judged", "json.loads and a rule"


@dataclass(frozen=True)
class Outcome:
    """`kept`: events written, or labels and pairs found."""

    seconds: float
    kept: int
    peak_gb: float = 0.0


def given(number: int) -> tuple[Any, int | str]:
    """What is said in the event of this number."""
    if number % 10 == 9:
        return "correction", f"It is 384,400 kilometres away, as measured for the {number}th time by a laser."
    if number % 10 > 5:
        return "rating", number // 10 % 5 + 1
    return "thumb", "up" if number % 2 else "down"


def events(day: int, count: int) -> Iterator[FeedbackRecord]:
    for place in range(count):
        number = day * count + place
        signal, value = given(number)
        question = f"How far is it to the moon, asked for the {number}th time? " * 3
        yield FeedbackRecord(
            event_id=f"evt-{number}",
            recorded_at=f"2026-01-{day + 1:02}T10:00:00.000Z",
            request_id=f"chatcmpl-{number}",
            user=f"person-{number % PEOPLE}",
            version="v1.0",
            signal=signal,
            value=value,
            prompt=[*BEFORE, {"role": "user", "content": question}] if number % 10 == 0 else question,
            answer="About 384,000 kilometres, which is thirty times the width of the Earth. " * 4,
        )


def write_log(settings: Settings, count: int) -> None:
    for day in range(DAYS):
        log = AppendLog(settings.serving_log_dir / f"2026-01-{day + 1:02}.jsonl", durable=False)
        log.append_all([msgspec.json.encode(event) for event in events(day, count // DAYS)])


def table(settings: Settings) -> int:
    return write_feedback(settings.serving_log_dir, settings.feedback_table).total()


def labels(settings: Settings) -> int:
    found = trainable_feedback(settings, given_feedback(settings.serving_log_dir, [], 0))
    return len(found.labelled) + len(found.pairs)


def plain(settings: Settings) -> int:
    newest = {}
    for path in sorted(settings.serving_log_dir.glob("*.jsonl")):
        for line in path.open(encoding="utf-8"):
            event = json.loads(line)
            newest[event["user"], event["request_id"]] = event
    return sum(
        event["signal"] == "correction" or event["value"] in ("up", "down", 1, 2, 5) for event in newest.values()
    )


SIDES: dict[str, Callable[[Settings], int]] = {TABLE: table, LABELS: labels, RIVAL: plain}


def measured(side: str, data_dir: Path) -> Outcome:
    settings = load_settings(data_dir=data_dir)
    begin = time.perf_counter()
    kept = SIDES[side](settings)
    return Outcome(time.perf_counter() - begin, kept, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)


def rates(found: Mapping[str, float]) -> plots.Draw:
    """Events a second of each side, beside the goal."""

    def draw(axes: Any) -> None:
        bars = axes.barh(list(found), list(found.values()), height=0.5)
        axes.bar_label(bars, fmt="{:,.0f}", padding=3)
        axes.axvline(ENOUGH, linestyle="--", linewidth=1)
        axes.set_xlabel(f"events a second (dashed: goal, {ENOUGH:,})")
        axes.set_xlim(0, 1.2 * max(found.values()))

    return draw


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
            Goal(f"{side}, events a second", count / found[side].seconds, "at least", ENOUGH),
            Goal(f"{side}, GB", found[side].peak_gb, "at most", 2),
        )
    ]
    plot("feedback_events", plots.svg(rates({side: count / each.seconds for side, each in found.items()}), height=2.2))
    report("feedback_events", goals, {"rows": rows})


if __name__ == "__main__":
    main()
