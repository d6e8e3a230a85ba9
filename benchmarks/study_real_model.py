"""Does training on what people chose make a real language model side with people on pairs it has not seen?

Profile gemma (Gemma 3 270M). Pairs that people labelled (Anthropic HH harmless, Auto-J, OpenAssistant Chinese, HHH,
LLMFAO), of at most --tokens a side, are told by their prompts into five folds. For each fold v1.1 is trained from v1.0
on the pairs of the other four and judged by its implicit reward on those of the fold, whose prompts it never saw: the
share in which it, more than v1.0, prefers what people chose (v1.0 against itself: 50 %). So every pair is judged once,
and the interval is as narrow as the data allow. Arms: our recipe on those that pass every criterion; and in the first
--other-folds alone, for they take two and eight times as long, our recipe without `more_detailed` and, as the rival,
TRL's default recipe (learning rate 1e-6, three epochs) on the same pairs as that. Arms are compared on the pairs that
both judged. All are trained by the same code: `bench_real_training` says how far its steps are from stock TRL's. Beside
it, how the share differs where the chosen answer is the longer or the shorter one, what a rule "the longer is better"
would get, and how long answers become. An adapter that is there already is not trained again: what was interrupted goes
on, and --arms trains one arm now and another later.
Goals: above 50 % with its 95 % interval, not below the rival.
"""

import argparse
import json
import random
import statistics
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inputs import baseline, settings_for
from reporting import Goal, plot, report, say, show
from study_improvement import TRL_DEFAULTS

from dpo_pipeline.core.dataset import Pair, Split, content_hash
from dpo_pipeline.core.imported_pair import as_preference
from dpo_pipeline.core.pair_formats import read_pair
from dpo_pipeline.core.quality import failed_criteria
from dpo_pipeline.core.votes import prompt_key, prompt_messages
from dpo_pipeline.core.winrate import mean_interval
from dpo_pipeline.errors import DpoError
from dpo_pipeline.ml import train_process
from dpo_pipeline.ml.base_model import BaseModel
from dpo_pipeline.ml.generation import GenerationRequest, Generator, ScoredAnswer
from dpo_pipeline.ml.train_process import ProcessResult
from dpo_pipeline.ml.training_plan import dpo_job, write_dataset
from dpo_pipeline.reports import plots
from dpo_pipeline.settings import PROJECT_DIR, Settings

DATA = PROJECT_DIR.parent / "shared" / "data"
SETS = ("hh_harmless", "autoj", "oasst_zh", "hhh_alignment", "llmfao_crowd")
FOLDS, WATCHED, ANSWERED, ALPHA = 5, 8, 48, 0.05
BASELINE, OURS, RIVAL = "v1.0", "default", "plain TRL recipe"


@dataclass(frozen=True)
class Arm:
    """One way to train v1.1; what it leaves out is as profile gemma says."""

    name: str
    more_detailed: bool
    recipe: dict[str, Any] = field(default_factory=dict)


ARMS = (
    Arm(OURS, more_detailed=True),
    Arm("without more_detailed", more_detailed=False),
    Arm(RIVAL, more_detailed=False, recipe=TRL_DEFAULTS),
)


@dataclass
class Judged:
    """What came of an arm: its margins are implicit rewards of the chosen answer over the rejected one, a pair each."""

    margins: dict[str, float] = field(default_factory=dict)
    trained_on: list[int] = field(default_factory=list)
    minutes: list[float | None] = field(default_factory=list)
    words: float = 0.0

    def sides(self, among: Collection[str] | None = None) -> tuple[float, float, float, int]:
        """(share that sides with people, its interval, pairs) of all judged pairs, or of those among these ids."""
        told = self.margins if among is None else [each for each in self.margins if each in among]
        shares = [0.5 if self.margins[each] == 0 else float(self.margins[each] > 0) for each in told]
        return statistics.fmean(shares), *mean_interval(shares, ALPHA), len(shares)


def people_pairs() -> list[Pair]:
    """Every pair of the files that can be read, each once, in an order that only hangs on what it says."""
    found: dict[str, Pair] = {}
    for name in SETS:
        for line in (DATA / f"pairs_{name}.jsonl").read_text(encoding="utf-8").split("\n"):
            row = json.loads(line) if line else {}
            if name == "hh_harmless" and row:  # as that set is published: whole transcripts
                row = {side: f"\n\n{row['prompt']}\n\nAssistant: {row[side]}" for side in ("chosen", "rejected")}
            try:
                vote = as_preference(read_pair(row), name, "2026-01-01T00:00:00Z")
            except DpoError:
                continue
            found[vote.event_id] = Pair(
                event_id=vote.event_id, prompt=vote.prompt, chosen=str(vote.chosen), rejected=str(vote.rejected),
                category=name, source="import",
            )  # fmt: skip
    return [found[name] for name in sorted(found)]


def fits(pair: Pair, generator: Generator, tokens: int) -> bool:
    longest = max(len(each) for each in (pair.chosen, pair.rejected))
    if longest > 6 * tokens:
        return False  # without reading it
    try:
        prompt = len(generator.template.prompt_ids(turns(pair)))
    except DpoError:
        return False  # the template refuses it
    encode = generator.tokenizer.backend_tokenizer.encode
    return all(prompt + len(encode(text).ids) < tokens for text in (pair.chosen, pair.rejected))


def fold_of(pair: Pair) -> int:
    """By the prompt: pairs of one prompt are never on both sides."""
    return int(int(prompt_key(pair.prompt), 16) / 2**64 * FOLDS)


def turns(pair: Pair) -> tuple[tuple[str, str], ...]:
    return tuple((each["role"], each["content"]) for each in prompt_messages(pair.prompt))


@dataclass(frozen=True)
class Study:
    """What all arms share; `reference` holds the log-likelihoods that v1.0 gives to both answers of each pair."""

    settings: Settings
    base: BaseModel
    start: ProcessResult
    generator: Generator
    pairs: list[Pair]
    reference: dict[str, tuple[float, float]]


def train(study: Study, arm: Arm, pool: list[Pair], held: list[Pair]) -> tuple[int, ProcessResult, float | None]:
    """(pairs it was trained on, what came of it, minutes; null where it was there already).

    Of the pool it takes those that pass the criteria of the arm.
    """
    settings = study.settings
    quality = settings.quality.model_copy(update={"more_detailed": arm.more_detailed})
    wanted = [pair for pair in pool if not failed_criteria(pair.chosen, pair.rejected, quality)]
    # Its curve watches a few of the held-out pairs; all of them are judged afterwards.
    split = Split(tuple(wanted), tuple(held[:WATCHED]), {}, content_hash(wanted, held[:WATCHED]))
    recipe = settings.recipe.model_copy(update=arm.recipe)
    data, told = write_dataset(settings, split), {"version": "v1.1", "parent": BASELINE}
    job = dpo_job(settings, study.base, recipe, Path(study.start.adapter_dir), data, told)
    begin, there = time.perf_counter(), (Path(job.work_dir) / train_process.RESULT).exists()
    result = train_process.run(job)
    return len(wanted), result, None if there else round((time.perf_counter() - begin) / 60, 2)


def log_likelihoods(generator: Generator, pairs: list[Pair], adapter: str) -> list[tuple[float, float]]:
    """Of the chosen and the rejected answer of each pair, summed over their tokens."""
    rows = [ScoredAnswer(turns(pair), text, adapter) for pair in pairs for text in (pair.chosen, pair.rejected)]
    sums = [sum(each) for each in generator.logprobs(rows, batch=8)]
    return list(zip(sums[::2], sums[1::2], strict=True))


def mean_words(generator: Generator, settings: Settings, pairs: list[Pair], adapter: str) -> float:
    requests = [
        GenerationRequest(
            messages=turns(pair), adapter=adapter, temperature=settings.generation.temperature,
            top_p=settings.generation.top_p, max_tokens=settings.model.max_new_tokens, seed=number,
        )
        for number, pair in enumerate(pairs)
    ]  # fmt: skip
    return statistics.fmean(len(answer.text.split()) for answer in generator.generate(requests))


def judge(study: Study, arm: Arm, fold: int, judged: Judged) -> None:
    """Train the arm without the fold, and add what it makes of the fold's pairs."""
    held = [pair for pair in study.pairs if fold_of(pair) == fold]
    random.Random(fold).shuffle(held)
    pairs, result, minutes = train(study, arm, [pair for pair in study.pairs if fold_of(pair) != fold], held)
    generator, sha = study.generator, result.adapter_sha
    generator.load(sha, Path(result.adapter_dir))
    for pair, ours in zip(held, log_likelihoods(generator, held, sha), strict=True):
        was = study.reference[pair.event_id]
        judged.margins[pair.event_id] = round((ours[0] - ours[1]) - (was[0] - was[1]), 3)
    judged.trained_on.append(pairs)
    judged.minutes.append(minutes)
    if fold == 0:
        judged.words = mean_words(generator, study.settings, held[:ANSWERED], sha)
    generator.drop(sha)
    share, low, high, count = judged.sides()
    so_far = f"{share:.1%} [{low:.1%}, {high:.1%}] of {count}"
    took = "trained before" if minutes is None else f"{minutes:.1f} min"
    say(f"{arm.name}, fold {fold}: {pairs} pairs, {took}; so far {so_far}")


def prepared(data_dir: str | None, tokens: int) -> Study:
    settings = settings_for(data_dir, profile="gemma", model={"max_length": tokens})
    begin = time.perf_counter()
    base, start = baseline(settings)
    say(f"v1.0 is there after {(time.perf_counter() - begin) / 60:.1f} min")
    generator = Generator(base, settings.model)
    pairs = [pair for pair in people_pairs() if pair.chosen != pair.rejected and fits(pair, generator, tokens)]
    generator.load(start.adapter_sha, Path(start.adapter_dir))
    likelihoods = log_likelihoods(generator, pairs, start.adapter_sha)
    reference = {pair.event_id: each for pair, each in zip(pairs, likelihoods, strict=True)}
    say(f"{len(pairs)} pairs: {Counter(pair.category for pair in pairs)}")
    return Study(settings, base, start, generator, pairs, reference)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="where `make real` put the model; default: of the settings")
    parser.add_argument("--tokens", type=int, default=256, help="of prompt and answer together, at most")
    parser.add_argument("--folds", type=int, default=FOLDS, choices=range(1, FOLDS + 1), help="that are judged")
    parser.add_argument("--other-folds", type=int, default=1, choices=range(1, FOLDS + 1), help="of all arms but ours")
    parser.add_argument("--arms", nargs="+", default=[arm.name for arm in ARMS], choices=[arm.name for arm in ARMS])
    args = parser.parse_args()
    arms = [arm for arm in ARMS if arm.name in args.arms]
    if not DATA.exists():
        raise SystemExit(f"{DATA} is not here: this study needs pairs that people chose.")
    study = prepared(args.data_dir, args.tokens)
    judged = {arm.name: Judged() for arm in arms}
    for fold in range(args.folds):
        for arm in arms:
            if arm.name == OURS or fold < args.other_folds:
                judge(study, arm, fold, judged[arm.name])
    told = [pair for pair in study.pairs if pair.event_id in judged[arms[0].name].margins]
    longer = {pair.event_id for pair in told if len(pair.chosen) > len(pair.rejected)}
    by_length = statistics.fmean(0.5 if len(p.chosen) == len(p.rejected) else float(p.event_id in longer) for p in told)
    first = [pair for pair in told if fold_of(pair) == 0][:ANSWERED]
    words = mean_words(study.generator, study.settings, first, study.start.adapter_sha)
    rows = [{"version": name, **row_of(each, longer)} for name, each in judged.items()]
    unchanged = {"sides with people": "50.0% by definition", "words": words}
    rows.insert(0, {name: unchanged.get(name, "") for name in rows[0]} | {"version": BASELINE})
    show(f"{len(told)} pairs of people, each judged unseen; 'the longer is better' sides with {by_length:.1%}", rows)
    measured = {
        "tokens": args.tokens,
        "folds": args.folds,
        "judged": dict(Counter(pair.category for pair in told)),
        "longer_is_better": by_length,
        "words_of_v1.0": words,
        "arms": {name: facts(each) for name, each in judged.items()},
    }
    report("real_model", goals_of(judged), measured)
    shown = {f"{name}, {each.sides()[3]} pairs": each.sides()[:3] for name, each in judged.items()}
    plot(
        "real_model",
        plots.svg(plots.intervals(shown, label="share of unseen pairs on which it sides with people"), 7.0, 2.4),
    )


def row_of(each: Judged, longer: Collection[str]) -> dict[str, Any]:
    share, low, high, count = each.sides()
    others, took = each.margins.keys() - set(longer), [minutes for minutes in each.minutes if minutes is not None]
    return {
        "judged on": count,
        "trained on": f"{min(each.trained_on)} to {max(each.trained_on)}",
        "sides with people": f"{share:.1%} [{low:.1%}, {high:.1%}]",
        "chosen is longer": f"{each.sides(longer)[0]:.1%} of {each.sides(longer)[3]}",
        "chosen is not": f"{each.sides(others)[0]:.1%} of {len(others)}",
        "words": each.words,
        "minutes": statistics.fmean(took) if took else "trained before",
    }


def facts(each: Judged) -> dict[str, Any]:
    share, low, high, count = each.sides()
    margins = list(each.margins.values())
    return {"trained_on": each.trained_on, "minutes": each.minutes, "judged_on": count, "share": share, "low": low,
            "high": high, "words": each.words, "margins": margins}  # fmt: skip


def goals_of(judged: dict[str, Judged]) -> list[Goal]:
    rival = judged.get(RIVAL, Judged())
    goals = []
    for name, ours in judged.items():
        if name == RIVAL:
            continue
        if name == OURS:
            goals.append(Goal(f"{name}: lower end of the interval", ours.sides()[1], "at least", 0.5))
        if rival.margins:
            over = ours.sides(rival.margins)[0] - rival.sides(ours.margins)[0]
            goals.append(Goal(f"{name}: over the rival", over, "at least", 0))
    return goals


if __name__ == "__main__":
    main()
