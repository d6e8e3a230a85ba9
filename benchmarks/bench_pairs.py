"""How many of the pairs that people are shown are the same answer twice?

Such a pair is a lost vote: there is nothing to choose. 500 questions of the bank are answered by v1.0 and v1.1, and, as
before there is a v1.1, by two samples of v1.0, through the engine and the service that `dpo serve` answers with. The
rival is the same without drawing equal answers again, which is what was shown before. Goal: none of 500.
"""

import argparse
import asyncio
import itertools
import random
import time
from dataclasses import dataclass
from pathlib import Path

from inputs import asked_questions, baseline, settings_for, successor
from reporting import Goal, report, show

from dpo_pipeline.core.votes import Sampling
from dpo_pipeline.serving.engines.engine import Adapter
from dpo_pipeline.serving.engines.local import LocalEngine
from dpo_pipeline.serving.services.paired_answers import Again, PairedAnswers
from dpo_pipeline.serving.services.sampling import Defaults
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.artifacts import read_manifest

PAIRS, AT_ONCE = 500, 8
AGAIN: tuple[Again, ...] = ("never", "warmer")
WORLDS = (("v1.0 and v1.1", ("v1.0", "v1.1")), ("two samples of v1.0", ("v1.0", "v1.0")))


@dataclass(frozen=True)
class Shown:
    equal: int
    seconds: float


async def show_pairs(answers: PairedAnswers, settings: Settings, models: tuple[str, str], again: Again) -> Shown:
    """So many pairs, on questions in turn."""
    defaults = Defaults(settings.generation, settings.collection, settings.model.max_new_tokens)
    questions = list(itertools.islice(itertools.cycle(asked_questions(settings)), PAIRS))
    places, equal, begin = asyncio.Semaphore(AT_ONCE), 0, time.perf_counter()

    async def one(question: str) -> None:
        nonlocal equal
        async with places:
            sampling = defaults.comparison(Sampling(), models)
            (_, first), (_, second) = await answers.answer(models, (("user", question),), sampling, again)
            equal += first.text.strip() == second.text.strip()

    async with asyncio.TaskGroup() as group:
        for each in questions:
            group.create_task(one(each.question))
    return Shown(equal, time.perf_counter() - begin)


async def measure(settings: Settings, adapters: dict[str, Adapter]) -> list[dict[str, object]]:
    engine, rows = LocalEngine(settings), []
    await asyncio.to_thread(engine.serve, adapters)
    answers = PairedAnswers(engine, settings.collection.samples, settings.limits.queue, settings.quality)
    for name, models in WORLDS:
        for again in AGAIN:
            random.seed(7)
            shown = await show_pairs(answers, settings, models, again)
            rows.append({
                "versions": name, "drawn again": again, "pairs": PAIRS, "equal": shown.equal,
                "pairs/s": PAIRS / shown.seconds,
            })  # fmt: skip
    await engine.close()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="where base and versions are trained; default: of the settings")
    settings = settings_for(parser.parse_args().data_dir)
    base, first = baseline(settings)
    trained = {"v1.0": first, "v1.1": successor(settings, base, first)}
    adapters = {
        name: Adapter(str(read_manifest(Path(each.adapter_dir))["sha256"]), Path(each.adapter_dir))
        for name, each in trained.items()
    }
    rows = asyncio.run(measure(settings, adapters))
    show("Pairs that people are shown", rows)
    equal = sum(int(str(row["equal"])) for row in rows if row["drawn again"] == "warmer")
    report("bench_pairs", [Goal("equal pairs of 1000 shown", equal, "at most", 0)], {"pairs": rows})


if __name__ == "__main__":
    main()
