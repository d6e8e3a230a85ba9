"""What does one GPU make of our training and serving of a model of Qwen2-1.5B's shape, beside stock TRL and PEFT?

Random weights in that shape (1.5 billion parameters, 151,936 tokens), made on the device; pairs of random words, 128
tokens asked and 192 answered on each side, in batches of 8, LoRA of rank 16 on all linear layers. Training: `ml.dpo`
with the reference computed again, TRL's `DPOTrainer` at its defaults, and TRL without gradient checkpointing; the same
pairs, loss and steps. Seconds are those of the steps after the first two, and for ours those of the reference's scores
before them, which TRL at its defaults computes in every step; peak memory is that of the whole process. MFU counts what
LoRA needs, 4 operations a parameter outside the embeddings and token that is read (forward, and backward through the
layers), against a matrix product of 8192 rows measured in the same run. Generation: answers of 128 tokens by two
versions, 1, 16 and 64 requests at once, mixed in one batch by `ml.generation`; the rival is transformers with PEFT, one
version after the other, each as one batch. Goals: 2 × the rivals' pairs and tokens a second, 0.6 × TRL's memory.
Without a GPU a tiny shape is measured on the processor, to see that it runs: those figures say nothing.

`bash benchmarks/gpu.sh` runs it on a bare machine.
"""

import argparse
import json
import multiprocessing
import random
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reporting import Goal, report, say, show

from dpo_pipeline.ml.adapters import save_adapter
from dpo_pipeline.ml.base_model import BaseModel
from dpo_pipeline.ml.dpo import train_dpo
from dpo_pipeline.ml.embedded import SHIPPED
from dpo_pipeline.ml.reporting import quieten
from dpo_pipeline.ml.training_job import DpoJob
from dpo_pipeline.settings import DpoRecipe, ModelSettings
from dpo_pipeline.stores import artifacts

OURS, STOCK, KEPT = "ours", "stock TRL", "TRL, no checkpointing"
MIXED, IN_TURN = "ours, versions mixed", "PEFT, version by version"
QWEN2 = {
    "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12,
    "num_key_value_heads": 2, "vocab_size": 151_936, "max_position_embeddings": 4096, "tie_word_embeddings": True,
}  # fmt: skip
TINY = QWEN2 | {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
                "vocab_size": 4096}  # fmt: skip
ASKED, ANSWERED, BATCH, SKIPPED_STEPS = 128, 192, 8, 2
TOKENS, AT_ONCE = 128, (1, 16, 64)
VERSIONS = ("v1.0", "v1.1")


@dataclass(frozen=True)
class Task:
    """Where model, versions and pairs lie."""

    folder: Path
    model: ModelSettings
    recipe: DpoRecipe

    @property
    def base(self) -> BaseModel:
        return BaseModel(self.folder / "base", "random")

    @property
    def dataset(self) -> Path:
        return self.folder / "pairs"

    def version(self, name: str) -> Path:
        return self.folder / name


@dataclass(frozen=True)
class Trained:
    """`loss` is the last step's; `peak_gb` that of the whole process."""

    pairs_a_second: float
    peak_gb: float
    loss: float


def prepare(folder: Path, shape: dict[str, Any], pairs: int) -> Task:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import Qwen2Config, Qwen2ForCausalLM

    on_gpu = torch.cuda.is_available()
    task = Task(
        folder,
        ModelSettings(max_length=ASKED + ANSWERED + 64, max_new_tokens=TOKENS),
        DpoRecipe(batch_size=BATCH, learning_rate=1e-4, checkpoint_steps=10_000),
    )
    torch.manual_seed(0)
    with torch.device("cuda" if on_gpu else "cpu"):
        model = Qwen2ForCausalLM(Qwen2Config(**shape)).to(torch.bfloat16 if on_gpu else torch.float32)
    model.save_pretrained(task.base.directory)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        shutil.copy(SHIPPED / name, task.base.directory / name)
    config = LoraConfig(r=16, lora_alpha=32, target_modules=list(task.model.lora_targets), task_type="CAUSAL_LM",
                        init_lora_weights=False)  # fmt: skip
    adapted = get_peft_model(model, config)
    for number, name in enumerate(VERSIONS):
        torch.manual_seed(number)
        for key, parameter in adapted.named_parameters():
            if "lora_" in key:
                torch.nn.init.normal_(parameter, std=0.01)
        save_adapter(adapted, task.version(name))
        artifacts.write_manifest(task.version(name), {"kind": "adapter", "base_sha": task.base.sha})
    write_pairs(task.dataset, pairs)
    return task


def write_pairs(folder: Path, count: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    vocabulary = json.loads((SHIPPED / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    words = sorted(word[1:] for word in vocabulary if word.startswith("Ġ") and word[1:].isalpha())
    draw = random.Random(0)

    def said(role: str, tokens: int) -> list[dict[str, str]]:
        return [{"role": role, "content": " ".join(draw.choice(words) for _ in range(tokens))}]

    folder.mkdir()
    for name, rows in (("train", count), ("eval", BATCH)):
        table = [
            {"event_id": f"{name}-{row}", "prompt": said("user", ASKED), "chosen": said("assistant", ANSWERED),
             "rejected": said("assistant", ANSWERED)}
            for row in range(rows)
        ]  # fmt: skip
        pq.write_table(pa.Table.from_pylist(table), folder / f"{name}.parquet")
    artifacts.write_manifest(folder, {"kind": "dataset", "content_hash": f"random-{count}"})


class Clock:
    """Pairs a second from the third step on: before that, kernels are chosen and memory is found."""

    def __init__(self) -> None:
        self._seen: list[tuple[int, float]] = []
        self.before_s = 0.0
        """Spent on all pairs before the first step."""

    def __call__(self, step: int) -> None:
        import torch

        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self._seen.append((step, time.perf_counter()))

    @property
    def pairs_a_second(self) -> float:
        (first, begun), (last, ended) = self._seen[SKIPPED_STEPS - 1], self._seen[-1]
        return 1 / ((ended - begun) / ((last - first) * BATCH) + self.before_s / (last * BATCH))

    def callback(self) -> Any:
        from transformers import TrainerCallback

        clock = self

        class Tick(TrainerCallback):
            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                clock(state.global_step)

        return Tick()


def ours(task: Task, work: Path) -> tuple[float, float]:
    from transformers import Trainer
    from trl import DPOTrainer

    clock, begin, score = Clock(), Trainer.train, DPOTrainer._precompute_ref_logps

    def scored(self: Any, dataset: Any, name: str, batch_size: int) -> Any:
        began = time.perf_counter()
        found = score(self, dataset, name, batch_size)
        clock.before_s += (time.perf_counter() - began) * (name == "train")
        return found

    def train(self: Any, *args: Any, **kwargs: Any) -> Any:
        self.add_callback(clock.callback())
        return begin(self, *args, **kwargs)

    Trainer.train, DPOTrainer._precompute_ref_logps = train, scored  # the product has no hooks for a benchmark's clock
    job = DpoJob(task.base, task.version("v1.0"), task.dataset, task.recipe, task.model, work, work / "reference")
    result = train_dpo(job, work / "adapter", lambda step, total, metrics: None)
    return clock.pairs_a_second, result.curve[-1]["loss"]


def stock_trl(task: Task, work: Path, **changed: Any) -> tuple[float, float]:
    import torch
    from datasets import Dataset
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    clock, recipe = Clock(), task.recipe
    if not torch.cuda.is_available():
        changed |= {"use_cpu": True, "bf16": False}
    trainer = DPOTrainer(
        model=PeftModel.from_pretrained(
            AutoModelForCausalLM.from_pretrained(task.base.directory), task.version("v1.0"), is_trainable=True
        ),
        args=DPOConfig(
            output_dir=str(work), per_device_train_batch_size=BATCH, num_train_epochs=recipe.epochs, beta=recipe.beta,
            learning_rate=recipe.learning_rate, warmup_steps=recipe.warmup_share, max_length=task.model.max_length,
            report_to="none", save_strategy="no", logging_steps=1, seed=recipe.seed, disable_tqdm=True, **changed,
        ),
        train_dataset=Dataset.from_parquet(str(task.dataset / "train.parquet"), cache_dir=str(work / "data")),
        processing_class=AutoTokenizer.from_pretrained(task.base.directory),
        callbacks=[clock.callback()],
    )  # fmt: skip
    quieten(trainer)
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return clock.pairs_a_second, losses[-1]


def without_checkpointing(task: Task, work: Path) -> tuple[float, float]:
    return stock_trl(task, work, gradient_checkpointing=False)


TRAININGS: dict[str, Callable[[Task, Path], tuple[float, float]]] = {
    OURS: ours, STOCK: stock_trl, KEPT: without_checkpointing,
}  # fmt: skip


def mixed(task: Task) -> Callable[[int], int]:
    """Draws so many answers of both versions in one batch; returns their tokens."""
    from dpo_pipeline.ml.generation import GenerationRequest, Generator

    generator = Generator(task.base, task.model)
    generator.batch._stops = frozenset()  # every answer fills the limit, as the rival's
    shas = {name: artifacts.read_manifest(task.version(name))["sha256"] for name in VERSIONS}
    for name, sha in shas.items():
        generator.load(sha, task.version(name))

    def draw(count: int) -> int:
        requests = [
            GenerationRequest((("user", f"Tell me of number {number}."),), shas[VERSIONS[number % 2]], 0.7, 0.95,
                              TOKENS, number)
            for number in range(count)
        ]  # fmt: skip
        return sum(answer.tokens for answer in generator.generate(requests))

    return draw


def in_turn(task: Task) -> Callable[[int], int]:
    """The same, each version's answers as one batch of transformers' `generate`."""
    import torch
    from peft import PeftModel

    from dpo_pipeline.ml.base_model import load_base

    model, tokenizer = load_base(task.base.directory, task.model)
    names = [name.replace(".", "_") for name in VERSIONS]  # a module's name holds no dot
    model = PeftModel.from_pretrained(model, task.version(VERSIONS[0]), adapter_name=names[0])
    model.load_adapter(task.version(VERSIONS[1]), adapter_name=names[1])
    model.eval()

    def draw(count: int) -> int:
        tokens = 0
        for place, name in enumerate(names):
            asked = [f"Tell me of number {number}." for number in range(count) if number % 2 == place]
            if not asked:
                continue
            model.set_adapter(name)
            inputs = tokenizer.apply_chat_template(
                [[{"role": "user", "content": each}] for each in asked], add_generation_prompt=True,
                return_dict=True, return_tensors="pt", padding=True,
            ).to(model.device)  # fmt: skip
            with torch.inference_mode():
                out = model.generate(**inputs, do_sample=True, temperature=0.7, top_p=0.95, top_k=0,
                                     max_new_tokens=TOKENS, min_new_tokens=TOKENS)  # fmt: skip
            tokens += out[:, inputs["input_ids"].shape[1] :].numel()
        return tokens

    return draw


def peak_gb() -> float:
    import torch

    if torch.cuda.is_available():
        return float(torch.cuda.max_memory_allocated()) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def trained(side: str, task: Task) -> Trained:
    with tempfile.TemporaryDirectory() as work:
        pairs_a_second, loss = TRAININGS[side](task, Path(work))
    return Trained(pairs_a_second, peak_gb(), loss)


def generated(side: str, task: Task) -> dict[int, float]:
    """Tokens a second, by requests at once."""
    draw = (mixed if side == MIXED else in_turn)(task)
    draw(2)
    found = {}
    for count in AT_ONCE:
        begin = time.perf_counter()
        tokens = draw(count)
        found[count] = tokens / (time.perf_counter() - begin)
    return found


def apart(work: Callable[..., Any], *arguments: Any) -> Any:
    """In a process of its own, so that its memory is its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


def matrix_product() -> float:
    """Operations a second of bf16 (fp32 on a processor), the best of five."""
    import torch

    on_gpu = torch.cuda.is_available()
    size = 8192 if on_gpu else 1024
    factors = [torch.randn(size, size, device="cuda" if on_gpu else "cpu") for _ in range(2)]
    first, second = (each.bfloat16() if on_gpu else each for each in factors)
    best = float("inf")
    for _ in range(6):
        begin = time.perf_counter()
        first @ second
        if on_gpu:
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - begin)
    return 2 * size**3 / best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, help="default: 384 on a GPU, 32 without one")
    args = parser.parse_args()
    import torch

    on_gpu = torch.cuda.is_available()
    shape, pairs = (QWEN2, args.pairs or 384) if on_gpu else (TINY, args.pairs or 32)
    peak = apart(matrix_product)
    say(f"a matrix product runs at {peak / 1e12:.3g} TFLOP/s")
    with tempfile.TemporaryDirectory() as folder:
        task = apart(prepare, Path(folder), shape, pairs)
        config = json.loads((task.base.directory / "config.json").read_text())
        outcomes: dict[str, Trained] = {}
        for side in TRAININGS:
            outcomes[side] = apart(trained, side, task)
            say(f"{side}: {outcomes[side].pairs_a_second:.2f} pairs a second, {outcomes[side].peak_gb:.1f} GB")
        speeds = {}
        for side in (MIXED, IN_TURN):
            speeds[side] = apart(generated, side, task)
            say(f"{side}: {', '.join(f'{speed:.0f} tokens a second of {n}' for n, speed in speeds[side].items())}")
    layers = config["num_hidden_layers"] * layer_parameters(config)
    # As TRL reads them: prompt and answer, for either side of a pair. Who reads prompts once does the same work sooner.
    per_pair = 2 * (ASKED + ANSWERED)
    rows = [
        {
            "training": side, "pairs/s": each.pairs_a_second, "tokens/s": each.pairs_a_second * per_pair,
            "MFU": 4 * layers * per_pair * each.pairs_a_second / peak, "peak GB": each.peak_gb, "last loss": each.loss,
        }
        for side, each in outcomes.items()
    ]  # fmt: skip
    answers = [
        {"generation": side, "requests": count, "tokens/s": speed}
        for side, found in speeds.items()
        for count, speed in found.items()
    ]
    name = torch.cuda.get_device_name() if on_gpu else "no GPU: a tiny shape on the processor"
    show(f"DPO of LoRA on {pairs} pairs, {name}", rows)
    show(f"Answers of {TOKENS} tokens, two versions", answers)
    us = outcomes[OURS]
    goals = [
        goal
        for side in (STOCK, KEPT)
        for goal in (
            Goal(f"pairs a second over {side},", us.pairs_a_second / outcomes[side].pairs_a_second, "at least", 2),
            Goal(f"memory over {side},", us.peak_gb / outcomes[side].peak_gb, "at most", 0.6),
        )
    ]
    goals += [
        Goal(f"tokens a second of {count} requests,", speeds[MIXED][count] / speeds[IN_TURN][count], "at least", 2)
        for count in AT_ONCE
    ]
    if not on_gpu:
        say("There is no GPU here: it runs, and these figures say nothing. They are not kept.")
        return
    measured = {"gpu": name, "training": rows, "generation": answers, "matrix product TFLOP/s": peak / 1e12}
    report("gpu", goals, measured)


def layer_parameters(config: dict[str, Any]) -> int:
    """Numbers in the matrices of one layer of Qwen2."""
    width, heads = config["hidden_size"], config["num_attention_heads"]
    keys = config["num_key_value_heads"] * width // heads
    return int(2 * width * width + 2 * width * keys + 3 * width * config["intermediate_size"])


if __name__ == "__main__":
    main()
