"""A loop whose jobs take a moment: a training that is a function of its job, a judge of one opinion, MLflow in memory.

What stands in for is tested for real beside: training in `ml`, MLflow in `test_reconcile_registry` and `test_jobs`.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ParamSpec, TypeVar

import dagster as dg

from dpo_pipeline.core.questions import Question
from dpo_pipeline.core.registry_plan import RegistrySnapshot
from dpo_pipeline.core.verdict import JudgedAnswer, Measured
from dpo_pipeline.ml.adapters import CONFIG, WEIGHTS
from dpo_pipeline.ml.eval_set import EvalSet
from dpo_pipeline.ml.evaluation import judge_versions, make_synthetic_pairs
from dpo_pipeline.ml.train_process import ProcessJob, ProcessResult, publish_adapter, run
from dpo_pipeline.ml.training_plan import write_llamafactory_config
from dpo_pipeline.resources import LoopResource, Models, WarehouseResource
from dpo_pipeline.stores.mlflow_pages import RunPages
from dpo_pipeline.stores.registry import Registry
from dpo_pipeline.stores.training_runs import TrainingRun

P = ParamSpec("P")
T = TypeVar("T")


@dataclass
class Registered:
    """What MLflow would have: versions by number, each (tags, description), and aliases."""

    versions: dict[str, tuple[dict[str, str], str]] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    runs: list[TrainingRun] = field(default_factory=list)


class MemoryRegistry(Registry):
    """The gateway to MLflow, where there is none."""

    def __init__(self, held: Registered):
        super().__init__("http://mlflow.test", "chat")
        self._held = held

    def run_url(self, run_id: str) -> str:
        return f"{self.url}/{run_id}"

    def run_pages(self, run_id: str) -> RunPages | None:
        return None

    @contextmanager
    def training_run(self, described: TrainingRun, progress_dir: Path, task: str) -> Iterator[Any]:
        self._held.runs.append(described)
        yield SimpleNamespace(run_id=f"run-{len(self._held.runs)}", finish=lambda *told: None)

    def log_evaluation(self, run_id: str, page: Path, verdict: Mapping[str, Any], figures: Mapping[str, float]) -> None:
        assert page.is_file() and figures

    def log_card(self, run_id: str, card: str) -> None:
        assert card

    def register(
        self,
        run_id: str,
        adapter_sha: str,
        tags: Mapping[str, str],
        description: str,
        write_model: Callable[[Path], None],
    ) -> str:
        known = (number for number, (told, _) in self._held.versions.items() if told["adapter_sha"] == adapter_sha)
        number = next(known, str(len(self._held.versions) + 1))
        self._held.versions[number] = (dict(tags), description)
        return number

    def describe(self, version: str, tags: Mapping[str, str], description: str) -> None:
        self._held.versions[version] = ({**self._held.versions[version][0], **tags}, description)

    def look(self) -> RegistrySnapshot:
        told = {number: tags for number, (tags, _) in self._held.versions.items()}
        return RegistrySnapshot(
            dict(self._held.aliases),
            {number: tags["adapter_sha"] for number, tags in told.items()},
            {number: tags.get("status", "") for number, tags in told.items()},
        )

    def point(self, alias: str, number: str | None) -> None:
        self._held.aliases.pop(alias, None)
        if number:
            self._held.aliases[alias] = number

    def tag(self, number: str, name: str, value: str) -> None:
        self._held.versions[number][0][name] = value


class NoModels(Models):
    """What a run's models would return, without any."""

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator["NoModels"]:
        yield self

    def call(self, context: dg.AssetExecutionContext, task: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        instead: dict[Any, Callable[..., Any]] = {
            run: train,
            judge_versions: prefer_the_candidate,
            make_synthetic_pairs: lambda *told: (),
            write_llamafactory_config: lambda *told: None,  # it asks torch which device there is
        }
        made: T = instead.get(task, task)(*args, **kwargs)
        return made


def train(job: ProcessJob) -> ProcessResult:
    """An adapter that is the hash of what goes into its training: the same job gives the same one, another does not."""
    inputs = asdict(job) | dict.fromkeys(("work_dir", "adapters_dir", "progress_dir", "reference_cache"), "")
    fresh = Path(job.work_dir) / "adapter"
    fresh.mkdir(parents=True, exist_ok=True)
    (fresh / WEIGHTS).write_bytes(hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).digest())
    (fresh / CONFIG).write_text(json.dumps({"base_model_name_or_path": "base", "peft_type": "LORA"}))
    facts = {"demonstrations": 8, "final_loss": 0.5, "resumed_from_step": 0, "base_sha": job.base_sha, **job.facts}
    directory, sha = publish_adapter(fresh, Path(job.adapters_dir), facts)
    curve = [{"step": float(step), "loss": 1 / step} for step in (1, 2, 3)]
    return ProcessResult(str(directory), sha, facts, {"rewards/margins": 0.5}, curve)


def prefer_the_candidate(*told: Any) -> tuple[list[JudgedAnswer], Measured]:
    """A judge for whom whatever is newer is better, by one question more or less."""
    [asked] = [each for each in told if isinstance(each, EvalSet)]
    return [judged(number, question) for number, question in enumerate(asked.bank)], Measured()


def judged(number: int, question: Question) -> JudgedAnswer:
    outcome = "loss" if number % 8 == 0 else "win"
    return JudgedAnswer(question.question, question.category, outcome, "Paris, on the Seine.", "Paris.")


def resources() -> dict[str, Any]:
    """Those of the definitions, beside a registry that lasts as long as they do: Dagster makes each anew for a run."""
    held = Registered()

    class LoopInMemory(LoopResource):
        def registry(self) -> Registry:
            return MemoryRegistry(held)

    return {"loop": LoopInMemory(), "warehouse": WarehouseResource(), "models": NoModels()}
