"""How fast are A/B answers of two versions drawn in one mixed-adapter batch, against one prompt at a time?

Ours is `ml.generation.Generator`: every row of the batch has its own adapter and sampling. The
rival is transformers with PEFT as one would write it: `set_adapter`, then prompt by prompt, then the
next adapter, with the same sampling and token limit. Each is timed twice: with natural lengths, and
with every answer forced to the token limit (the rival by `min_new_tokens` in its generation config), so
that both draw equally many tokens. Goals: 8 × for 16 comparisons (32 answers), 1.7 × for a single one.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inputs import asked_questions, baseline, settings_for, successor
from reporting import Goal, report, say, show

from dpo_pipeline.core.questions import spread
from dpo_pipeline.ml.base_model import BaseModel, load_base
from dpo_pipeline.ml.generation import GenerationRequest, Generator
from dpo_pipeline.settings import Settings

GOALS = {16: 8.0, 1: 1.7}


@dataclass(frozen=True)
class Drawn:
    seconds: float
    tokens: int


class Ours:
    def __init__(self, settings: Settings, base: BaseModel, adapters: Sequence[tuple[str, Path]], endless: bool):
        """
        Args:
            endless: no token ends an answer, so that every answer fills the limit.
        """
        self.settings, self.adapters = settings, adapters
        self.generator = Generator(base, settings.model)
        if endless:
            self.generator.batch._stops = frozenset()
        for sha, directory in adapters:
            self.generator.load(sha, directory)

    def draw(self, questions: Sequence[str], seed: int) -> Drawn:
        """Both versions answer every question in one batch."""
        begin = time.perf_counter()
        requests = [
            GenerationRequest(
                messages=(("user", question),),
                adapter=sha,
                temperature=self.settings.collection.temperature,
                top_p=self.settings.collection.top_p,
                max_tokens=self.settings.model.max_new_tokens,
                seed=seed * 1000 + number,
            )
            for number, question in enumerate(questions)
            for sha, _ in self.adapters
        ]
        answers = self.generator.generate(requests)
        seconds = time.perf_counter() - begin
        return Drawn(seconds, sum(answer.tokens + answer.finished for answer in answers))


class OneByOne:
    def __init__(self, settings: Settings, base: BaseModel, adapters: Sequence[tuple[str, Path]]):
        from peft import PeftModel

        self.settings = settings
        model, self.tokenizer = load_base(base.directory, settings.model)
        self.names = [f"version{number}" for number in range(len(adapters))]
        self.model = PeftModel.from_pretrained(model, adapters[0][1], adapter_name=self.names[0])
        for name, (_, directory) in zip(self.names[1:], adapters[1:], strict=True):
            self.model.load_adapter(directory, adapter_name=name)
        self.model.eval()

    def draw(self, questions: Sequence[str], seed: int) -> Drawn:
        """Adapter by adapter, prompt by prompt."""
        import torch

        torch.manual_seed(seed)
        begin, tokens = time.perf_counter(), 0
        for name in self.names:
            self.model.set_adapter(name)
            for question in questions:
                inputs = self.tokenizer.apply_chat_template(
                    [{"role": "user", "content": question}],
                    add_generation_prompt=True,
                    return_dict=True,
                    return_tensors="pt",
                ).to(self.model.device)
                with torch.inference_mode():
                    output = self.model.generate(
                        **inputs,
                        do_sample=True,
                        temperature=self.settings.collection.temperature,
                        top_p=self.settings.collection.top_p,
                        top_k=0,
                        max_new_tokens=self.settings.model.max_new_tokens,
                        pad_token_id=self.tokenizer.pad_token_id,
                    )
                row = output[0, inputs["input_ids"].shape[1] :]
                self.tokenizer.decode(row, skip_special_tokens=True)
                tokens += len(row)
        return Drawn(time.perf_counter() - begin, tokens)


def with_forced_lengths(base: BaseModel, limit: int, directory: Path) -> BaseModel:
    """A copy of the base whose answers end at the token limit and not before, for the rival's `generate`."""
    shutil.copytree(base.directory, directory)
    path = directory / "generation_config.json"
    config = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps({**config, "min_new_tokens": limit}), encoding="utf-8")
    return BaseModel(directory, base.sha)


def measure(sides: dict[str, Any], batches: dict[int, list[list[str]]], lengths: str) -> list[dict[str, Any]]:
    """One row a side and batch size; the sides take turns, question set by question set."""
    rows = []
    for count, sets in batches.items():
        drawn: dict[str, list[Drawn]] = {name: [] for name in sides}
        for side in sides.values():
            side.draw(sets[0], seed=0)
        for turn, questions in enumerate(sets):
            for name, side in sides.items():
                drawn[name].append(side.draw(questions, seed=turn + 1))
        # Paired: both sides drew the same questions one right after the other.
        ours, rival = drawn.values()
        ratio = statistics.median(slow.seconds / fast.seconds for fast, slow in zip(ours, rival, strict=True))
        for name, runs in drawn.items():
            seconds, tokens = sum(run.seconds for run in runs), sum(run.tokens for run in runs)
            rows.append(
                {
                    "lengths": lengths,
                    "comparisons": count,
                    "side": name,
                    "seconds, median": statistics.median(run.seconds for run in runs),
                    "ms a comparison": 1000 * seconds / (count * len(runs)),
                    "tokens an answer": tokens / (2 * count * len(runs)),
                    "ms a token": 1000 * seconds / tokens,
                    "speed-up": ratio if runs is ours else 1.0,
                }
            )
        say(f"{count} comparisons, {lengths} lengths: done")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="where base model and versions are or shall be; default: of the settings")
    parser.add_argument("--repeats", type=int, default=5, help="question sets a batch size (four times as many for 1)")
    args = parser.parse_args()
    settings = settings_for(args.data_dir)
    base, start = baseline(settings)
    trained = successor(settings, base, start)
    adapters = [(result.adapter_sha, Path(result.adapter_dir)) for result in (start, trained)]
    asked = [question.question for question in spread(asked_questions(settings), 16 * args.repeats)]
    batches = {16: [asked[16 * i : 16 * (i + 1)] for i in range(args.repeats)], 1: [[q] for q in asked[::4]]}
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        forced = with_forced_lengths(base, settings.model.max_new_tokens, Path(temporary) / "base")
        for lengths, bound in (("natural", base), ("equal", forced)):
            ours = Ours(settings, base, adapters, endless=lengths == "equal")
            sides = {"mixed batch": ours, "one by one": OneByOne(settings, bound, adapters)}
            rows += measure(sides, batches, lengths)
    show(f"Two versions answer: {args.repeats} batches of 16 comparisons, {len(batches[1])} single ones", rows)
    goals = []
    for us in rows[::2]:
        count, lengths = us["comparisons"], us["lengths"]
        goals.append(
            Goal(f"speed-up, comparisons: {count}, {lengths} lengths,", us["speed-up"], "at least", GOALS[count])
        )
    report("generation", goals, {"rows": rows})


if __name__ == "__main__":
    main()
