"""How many chat requests a second does serving answer, against `transformers serve` on the same model and prompts?

Ours is `dpo serve`, two versions alternating from request to request. The rival gets one version
merged into the base model, because it can serve one only; it runs in its default mode and with
`--continuous-batching`. So that all answers have the same lengths, our two versions are two adapters
with the same weights. Measured once with v1.0, whose answers are short, and once with a trained
version, whose answers fill most of the 48 tokens that are allowed. Servers run one after the other,
each under 1, 4, 16 and 64 clients that send a request as soon as the last is answered. Goals at 16
clients: 4 × the default mode, no fewer a second than continuous batching, a p99 below both.
"""

import argparse
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from inputs import accepted, asked_questions, baseline, settings_for, successor
from load import Load, press
from reporting import Goal, report, say, show
from servers import our_server, transformers_serve

from dpo_pipeline.core.questions import spread
from dpo_pipeline.ml.base_model import BaseModel, load_base
from dpo_pipeline.ml.train_process import ProcessResult
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.artifacts import read_manifest, write_manifest
from dpo_pipeline.stores.ledger import Ledger

CLIENTS = (1, 4, 16, 64)
TOKENS = 48
VERSIONS = ("v1.0", "v1.1")
OURS, DEFAULT, CONTINUOUS = "dpo serve, two versions", "transformers serve", "… --continuous-batching"


def install(settings: Settings, data_dir: Path, version: ProcessResult, names: Sequence[str] = VERSIONS) -> None:
    """A data directory in which copies of the version are served, each under its own hash."""
    (data_dir / "artifacts").mkdir(parents=True)
    (data_dir / "artifacts" / "base").symlink_to(settings.artifacts_dir / "base")
    with Ledger(f"sqlite:///{data_dir / 'ledger.db'}") as ledger:
        for name in names:
            folder = data_dir / "artifacts" / name
            shutil.copytree(version.adapter_dir, folder)
            (folder / "README.md").write_text(name)
            about = {key: value for key, value in read_manifest(folder).items() if key not in ("files", "sha256")}
            made = write_manifest(folder, about)
            accepted(ledger, name, made["sha256"], folder)
        ledger.install_champion(names[0], actor="benchmark")


def merge(settings: Settings, base: BaseModel, version: ProcessResult, directory: Path) -> None:
    """The version as a plain model, the only form the rival can serve."""
    from peft import PeftModel

    shutil.copytree(base.directory, directory)
    model, _ = load_base(base.directory, settings.model)
    PeftModel.from_pretrained(model, version.adapter_dir).merge_and_unload().save_pretrained(directory)


def tokens_of(answer: dict[str, Any]) -> int:
    return int(answer["usage"]["completion_tokens"])


def measure(url: str, models: list[str], questions: list[str], requests: int) -> list[Load]:
    """One run for each number of clients, after a short one to warm up."""

    def bodies(count: int) -> list[dict[str, Any]]:
        return [
            {
                "model": models[number % len(models)],
                "messages": [{"role": "user", "content": questions[number % len(questions)]}],
                "max_tokens": TOKENS,
                "temperature": 0.9,
                "top_p": 0.95,
            }
            for number in range(count)
        ]

    path = url + "/v1/chat/completions"
    press(path, bodies(16), 4, tokens_of)
    return [press(path, bodies(max(requests * min(clients, 16) // 16, 24)), clients, tokens_of) for clients in CLIENTS]


Start = Callable[[], AbstractContextManager[str]]


def sides(
    settings: Settings, base: BaseModel, version: ProcessResult, directory: Path
) -> dict[str, tuple[Start, list[str]]]:
    """How to start each server, and the model names to ask it for."""
    install(settings, directory / "data", version)
    merged = directory / "merged"
    merge(settings, base, version, merged)
    return {
        OURS: (lambda: our_server(directory / "data"), list(VERSIONS)),
        DEFAULT: (lambda: transformers_serve(merged), [str(merged)]),
        CONTINUOUS: (lambda: transformers_serve(merged, "--continuous-batching"), [str(merged)]),
    }


def row_of(answers: str, server: str, load: Load) -> dict[str, Any]:
    return {
        "answers": answers,
        "server": server,
        "clients": load.clients,
        "requests a second": load.per_second,
        "median ms": load.median_ms,
        "p99 ms": load.quantile_ms(0.99),
        "tokens an answer": load.tokens / max(load.requests - load.failures, 1),
        "failures": load.failures,
    }


def goals_of(answers: str, ours: Load, default: Load, continuous: Load) -> list[Goal]:
    p99 = ours.quantile_ms(0.99) / min(default.quantile_ms(0.99), continuous.quantile_ms(0.99))
    speed = "16 clients, {} answers, requests a second over {},".format
    return [
        Goal(speed(answers, "the default mode"), ours.per_second / default.per_second, "at least", 4),
        Goal(speed(answers, "continuous batching"), ours.per_second / continuous.per_second, "at least", 1),
        Goal(f"16 clients, {answers} answers, p99 over the lower of the two,", p99, "at most", 1),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="where base model and versions are or shall be; default: of the settings")
    parser.add_argument("--requests", type=int, default=320, help="requests with 16 clients or more")
    parser.add_argument("--rounds", type=int, default=2, help="how often the servers take turns")
    args = parser.parse_args()
    settings = settings_for(args.data_dir)
    questions = [question.question for question in spread(asked_questions(settings), 64)]
    base, start = baseline(settings)
    rows, goals = [], []
    for answers, version in (("short", start), ("long", successor(settings, base, start))):
        runs: dict[str, list[list[Load]]] = {OURS: [], DEFAULT: [], CONTINUOUS: []}
        with tempfile.TemporaryDirectory() as temporary:
            servers = sides(settings, base, version, Path(temporary))
            for turn in range(args.rounds):
                for name, (begin, models) in servers.items():
                    with begin() as url:
                        runs[name].append(measure(url, models, questions, args.requests))
                    say(f"{answers} answers, round {turn + 1}, {name}: done")
        best = {
            (name, clients): max((loads[place] for loads in rounds), key=lambda load: load.per_second)
            for name, rounds in runs.items()
            for place, clients in enumerate(CLIENTS)
        }
        rows += [row_of(answers, name, load) for (name, _), load in best.items()]
        goals += goals_of(answers, *(best[name, 16] for name in (OURS, DEFAULT, CONTINUOUS)))
    show("Chat completions, the better of the rounds", rows)
    report("serving", goals, {"rows": rows})


if __name__ == "__main__":
    main()
