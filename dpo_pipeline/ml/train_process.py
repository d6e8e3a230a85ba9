"""One training from a job that lists all its inputs, by a run's worker or by hand without Dagster.

`python -m dpo_pipeline.ml.train_process JOB.json` does the latter. Killed, it is started again with the same job and
resumes; finished, it is not done again.
"""

import json
import logging
import shutil
import sys
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock

from dpo_pipeline import errors
from dpo_pipeline.ml.base_model import BaseModel
from dpo_pipeline.ml.compute import compute_of
from dpo_pipeline.ml.embedded import Progress
from dpo_pipeline.ml.processes import how_many, together
from dpo_pipeline.settings import DpoRecipe, ModelSettings, SftRecipe
from dpo_pipeline.stores import artifacts
from dpo_pipeline.stores.progress import ProgressFile

LOG_EVERY = 10
RESULT = "result.json"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProcessJob:
    """All that goes into a training, as JSON: paths are strings, recipes are mappings.

    `processes`: how many train together, where it is trained; null: one for each GPU.
    """

    kind: str
    base_dir: str
    base_sha: str
    recipe: dict[str, Any]
    model: dict[str, Any]
    work_dir: str
    adapters_dir: str
    progress_dir: str
    facts: dict[str, Any]
    start_dir: str = ""
    dataset_dir: str = ""
    reference_cache: str = ""
    bank_dir: str = ""
    holdout_share: float = 0.0
    rows_file: str = ""
    llamafactory_command: str = ""
    processes: int | None = None

    def write(self, path: Path) -> Path:
        artifacts.write_text(path, json.dumps(asdict(self), indent=2))
        return path


@dataclass(frozen=True)
class ProcessResult:
    """What a training leaves in `result.json` beside its job."""

    adapter_dir: str
    adapter_sha: str
    facts: dict[str, Any]
    metrics: dict[str, float]
    curve: list[dict[str, float]]


def read_result(work_dir: Path) -> ProcessResult:
    """What a training left behind.

    Raises:
        ArtifactMissing: it did not finish.
    """
    path = work_dir / RESULT
    if not path.exists():
        raise errors.ArtifactMissing(f"{path} is missing: the training was stopped. Run it again; it resumes.")
    return ProcessResult(**json.loads(path.read_text(encoding="utf-8")))


def run(job: ProcessJob) -> ProcessResult:
    """Train, publish the adapter under its hash, and write the result; a finished job is not done again.

    A second process with the same job (its predecessor's run was lost, the process was not) waits
    for the first and takes over what it left.

    Raises:
        DatasetTooSmall, TrainingDiverged, AdapterRefused, ArtifactError; ModelUnavailable and TaskFailed of another
        trainer.
    """
    work_dir = Path(job.work_dir)
    work_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(work_dir / ".lock"):
        if (work_dir / RESULT).exists():
            result = read_result(work_dir)
            try:
                artifacts.verify(Path(result.adapter_dir))
            except errors.ArtifactError as error:
                log.warning("the finished adapter is not usable any more, training it again: %s", error)
            else:
                log.info("adapter %s is finished already", result.adapter_sha[:12])
                return result
        return _train(job, work_dir)


class _Told:
    """How far a training is: a file for pages, and a line of the log every few steps."""

    def __init__(self, job: ProcessJob):
        self._kind = str(job.recipe.get("objective", job.kind))  # the file is that of the task, whatever its objective
        self._report = ProgressFile(Path(job.progress_dir), job.kind)
        self._said = -LOG_EVERY

    def __call__(self, step: int, total: int, metrics: dict[str, float]) -> None:
        self._report(step, total, metrics)
        if step - self._said >= LOG_EVERY or step >= total:
            self._said = step
            values = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
            log.info("%s step %d of %d%s", self._kind, step, total, f": {values}" if values else "")


def _train(job: ProcessJob, work_dir: Path) -> ProcessResult:
    fresh = work_dir / "adapter"
    if fresh.exists():
        shutil.rmtree(fresh)
    fresh.mkdir(parents=True)
    trained, count = partial(_trained, job, fresh, _Told(job)), _processes(job)
    facts, metrics, curve = (
        trained() if count == 1 else together(count, trained, compute_of(ModelSettings(**job.model)).on_gpu)
    )
    if count > 1:
        facts = facts | {"processes": count}
    directory, sha = publish_adapter(fresh, Path(job.adapters_dir), {**facts, **job.facts})
    result = ProcessResult(str(directory), sha, {**facts, **job.facts}, metrics, curve)
    artifacts.write_text(work_dir / RESULT, json.dumps(asdict(result), indent=2))
    return result


def publish_adapter(fresh: Path, adapters_dir: Path, facts: dict[str, Any]) -> tuple[Path, str]:
    """Seal the adapter with its manifest and move it to a folder named by its hash: (folder, sha256)."""
    manifest = artifacts.write_manifest(fresh, facts)
    sha = str(manifest["sha256"])
    final = adapters_dir / sha[:16]
    if final.exists():
        artifacts.verify(final)
        shutil.rmtree(fresh)
    else:
        final.parent.mkdir(parents=True, exist_ok=True)
        fresh.rename(final)
    return final, sha


def _processes(job: ProcessJob) -> int:
    """Of those, how many: KTO compares answers of one batch with each other, and LLaMA-Factory starts its own."""
    if job.recipe.get("trainer") == "llamafactory" or job.recipe.get("objective") == "kto":
        return 1
    return how_many(ModelSettings(**job.model), job.processes, job.recipe["batch_size"])


def _trained(job: ProcessJob, fresh: Path, progress: Progress) -> tuple[dict[str, Any], dict[str, float], list[Any]]:
    """(facts, metrics, curve) of a training that leaves its adapter in `fresh`."""
    return _train_sft(job, fresh, progress) if job.kind == "sft" else _train_dpo(job, fresh, progress)


def _train_sft(job: ProcessJob, fresh: Path, progress: Progress) -> tuple[dict[str, Any], dict[str, float], list[Any]]:
    from dpo_pipeline.ml.sft import SftJob, train_sft

    sft = SftJob(
        BaseModel(Path(job.base_dir), job.base_sha),
        SftRecipe(**job.recipe),
        ModelSettings(**job.model),
        Path(job.work_dir),
        Path(job.start_dir) if job.start_dir else None,
    )
    facts, curve = train_sft(sft, _sft_rows(job), fresh, progress)
    return facts, {}, curve


def _sft_rows(job: ProcessJob) -> list[dict[str, Any]]:
    """The rows of the file named, else the demonstrations of v1.0 from the bank."""
    if job.rows_file:
        return [json.loads(line) for line in Path(job.rows_file).read_text(encoding="utf-8").split("\n") if line]
    from dpo_pipeline.core.questions import split_bank
    from dpo_pipeline.ml.sft import demonstrations
    from dpo_pipeline.stores.bank import read_bank

    asked, _ = split_bank(read_bank(Path(job.bank_dir)), job.holdout_share)
    return demonstrations(asked)


def _train_dpo(job: ProcessJob, fresh: Path, progress: Progress) -> tuple[dict[str, Any], dict[str, float], list[Any]]:
    from dpo_pipeline.ml.dpo import train_dpo
    from dpo_pipeline.ml.llamafactory_trainer import train_with_llamafactory
    from dpo_pipeline.ml.training_job import DpoJob

    dpo = DpoJob(
        base=BaseModel(Path(job.base_dir), job.base_sha),
        start_dir=Path(job.start_dir),
        dataset_dir=Path(job.dataset_dir),
        recipe=DpoRecipe(**job.recipe),
        model=ModelSettings(**job.model),
        work_dir=Path(job.work_dir),
        reference_cache=Path(job.reference_cache),
    )
    if dpo.recipe.trainer == "llamafactory":
        result = train_with_llamafactory(dpo, Path(job.llamafactory_command), fresh, progress)
    elif dpo.recipe.objective == "kto":
        from dpo_pipeline.ml.kto import train_kto

        result = train_kto(dpo, fresh, progress)
    else:
        result = train_dpo(dpo, fresh, progress)
    return result.facts, result.metrics, result.curve


def main() -> None:
    """Do the job of a file."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    run(ProcessJob(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
