"""How much sooner does a processor write answers with weights read in 8 bits, and how different are they?

Profile gemma (Gemma 3 270M) with v1.0, on a processor with a unit for bfloat16: the generator that serves, with
`engine.eight_bit` and without, writes 48 tokens for 1, 4, 8 and 16 people at once, in turn, best of --repeats; beside
them transformers' own `generate` of the base without an adapter, one row. How different: the same answers, token by
token under the same forced text, by the divergence of what each says of the next token (KL, nats) and how often the
likeliest token is the same; the measure is what bfloat16 itself is away from float32. Goals: 1.5 × the tokens a second
for one reader, not slower for sixteen, and at most three times as far from float32 as bfloat16 is.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from inputs import asked_questions, baseline, settings_for
from reporting import Goal, report, say, show

from dpo_pipeline.core.questions import spread
from dpo_pipeline.ml.base_model import BaseModel, load_base
from dpo_pipeline.ml.compute import compute_of
from dpo_pipeline.ml.generation import GenerationRequest, Generator
from dpo_pipeline.ml.row import Row
from dpo_pipeline.ml.train_process import ProcessResult
from dpo_pipeline.settings import Settings

PEOPLE, TOKENS, WATCHED = (1, 4, 8, 16), 48, 8
PLAIN, EIGHT, STOCK = "as they are", "8 bits", "transformers generate, no adapter"


class Forced:
    """Instead of a sampler: takes the tokens of another answer, and keeps the scores that it is shown."""

    def __init__(self, tokens: list[int]):
        self._tokens, self.scores = iter(tokens), list[torch.Tensor]()

    def __call__(self, scores: torch.Tensor) -> torch.Tensor:
        self.scores.append(scores.log_softmax(1))
        return torch.tensor([[next(self._tokens)]])


def generator(settings: Settings, base: BaseModel, start: ProcessResult, **changed: Any) -> Generator:
    eight_bit = changed.pop("eight_bit", False)
    made = Generator(base, settings.model.model_copy(update=changed), eight_bit)
    made.load(start.adapter_sha, Path(start.adapter_dir))
    made.batch._stops = frozenset()  # every answer is as long as the next
    return made


def request(question: str, adapter: str, number: int, temperature: float = 0.7) -> GenerationRequest:
    return GenerationRequest((("user", question),), adapter, temperature, 0.95, TOKENS, number)


def tokens_a_second(made: Generator, questions: list[str], adapter: str, people: int) -> float:
    rows = [made.row(request(questions[i], adapter, i)) for i in range(people)]
    made.batch.join(rows)
    begin, steps = time.perf_counter(), 0
    while made.batch.rows:
        made.batch.step()
        steps += 1
    return people * steps / (time.perf_counter() - begin)


def stock_tokens_a_second(base: BaseModel, settings: Settings, question: str) -> float:
    """Of the steps alone, as above: a whole answer less one of a single token."""
    model, tokenizer = load_base(base.directory, settings.model)
    ids = tokenizer(question, return_tensors="pt").input_ids
    spent = []
    with torch.inference_mode():
        for tokens in (1, TOKENS + 1):
            begin = time.perf_counter()
            model.generate(ids, min_new_tokens=tokens, max_new_tokens=tokens, do_sample=False)
            spent.append(time.perf_counter() - begin)
    return TOKENS / (spent[1] - spent[0])


def said_of(made: Generator, rows: list[Row]) -> torch.Tensor:
    """Log-probabilities [tokens, vocabulary] of every next token of these answers."""
    found = []
    for row in rows:
        again = Row(row.prompt, row.adapter, 0.0, 1.0, TOKENS, 0)
        made.batch.join([again])
        again.tokens = row.tokens[:1]
        made.batch._last = torch.tensor([row.tokens[:1]])
        forced = Forced(row.tokens[1:])
        made.batch._sampler = forced  # type: ignore[assignment]
        while made.batch.rows:
            made.batch.step()
        found += forced.scores
    return torch.cat(found)


def apart(truth: torch.Tensor, other: torch.Tensor) -> dict[str, float]:
    divergence = (truth.exp() * (truth - other)).sum(1)
    return {
        "KL, mean": float(divergence.mean()),
        "KL, median": float(divergence.median()),
        "same likeliest token": float((truth.argmax(1) == other.argmax(1)).float().mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="where `make real` put the model; default: of the settings")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    settings = settings_for(args.data_dir, profile="gemma", sft={"epochs": 0.05})
    compute = compute_of(settings.model)
    if compute.dtype != "bfloat16" or compute.on_gpu:
        raise SystemExit(f"{compute}. Weights are read in 8 bits beside bfloat16 on a processor alone.")
    base, start = baseline(settings)
    sha = start.adapter_sha
    questions = [question.question for question in spread(asked_questions(settings), max(*PEOPLE, WATCHED))]
    sides = {
        PLAIN: generator(settings, base, start),
        EIGHT: generator(settings, base, start, eight_bit=True),
    }
    speeds: dict[str, dict[int, list[float]]] = {side: {people: [] for people in PEOPLE} for side in sides}
    stock = []
    for turn in range(args.repeats):
        for people in PEOPLE:
            for side, made in sides.items():
                speeds[side][people].append(tokens_a_second(made, questions, sha, people))
        stock.append(stock_tokens_a_second(base, settings, questions[0]))
        say(f"{turn + 1} of {args.repeats}")
    best = {side: {people: max(found) for people, found in by.items()} for side, by in speeds.items()}
    rows = [{"weights": side, **{f"{people} at once": by[people] for people in PEOPLE}} for side, by in best.items()]
    rows.append({"weights": STOCK, "1 at once": max(stock)})
    show(f"Tokens a second, best of {args.repeats}", rows)

    written = [sides[PLAIN].row(request(question, sha, 1, 0.0)) for question in questions[:WATCHED]]
    for row in written:
        sides[PLAIN].batch.join([row])
        while sides[PLAIN].batch.rows:
            sides[PLAIN].batch.step()
    truth = said_of(generator(settings, base, start, dtype="float32"), written)
    far = {side: apart(truth, said_of(made, written)) for side, made in sides.items()}
    show(f"Away from float32, over {len(truth)} tokens", [{"weights": side, **told} for side, told in far.items()])
    ratio = {people: best[EIGHT][people] / best[PLAIN][people] for people in PEOPLE}
    report(
        "eight_bit",
        [
            Goal("tokens a second over the weights as they are, one reader,", ratio[1], "at least", 1.5),
            Goal("the same, sixteen readers,", ratio[16], "at least", 0.95),
            Goal("KL from float32 over bfloat16's", far[EIGHT]["KL, mean"] / far[PLAIN]["KL, mean"], "at most", 3.0),
        ],
        {
            "tokens_a_second": best,
            "medians": {side: {n: statistics.median(found) for n, found in by.items()} for side, by in speeds.items()},
            "transformers_generate": max(stock),
            "from_float32": far,
        },
    )


if __name__ == "__main__":
    main()
