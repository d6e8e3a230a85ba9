"""A training on another machine, which shares nothing with this one but the artifact store.

Here a job is sent and its result collected; there `python -m dpo_pipeline.ml.remote_training NAME` brings what the job
names, trains, and puts the adapter back. Whole checkpoints go to the store too: killed, and started again on whichever
machine, it resumes.
"""

import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from dagster_pipes import DAGSTER_PIPES_CONTEXT_ENV_VAR, open_dagster_pipes

from dpo_pipeline import errors
from dpo_pipeline.ml.base_model import ensure_base
from dpo_pipeline.ml.train_process import RESULT, ProcessJob, ProcessResult, run
from dpo_pipeline.ml.worker import PipesLog
from dpo_pipeline.settings import PROJECT_DIR, ModelSettings, Settings, load_settings
from dpo_pipeline.stores.artifacts import MANIFEST, write_text
from dpo_pipeline.stores.shared_artifacts import ArtifactStore, store_of

JOB, OUTCOME = "job.json", "outcome.json"
DATA, PROJECT = "{data}", "{project}"
"""What stands for the data folder and the repository, which lie elsewhere on another machine."""
LOOK_S = 2.0
log = logging.getLogger("dpo_pipeline")


def send(settings: Settings, job: ProcessJob) -> str:
    """Put the job and all that it is made of into the store; returns its name.

    Raises:
        SettingsError: no store is set.
        ArtifactUnavailable, ArtifactCorrupt
    """
    store, work_dir = _store(settings), Path(job.work_dir)
    for folder in _folders(settings.data_dir, job):
        store.push(folder)
    if job.rows_file:
        store.push_file(Path(job.rows_file))
    write_text(work_dir / OUTCOME, "{}")  # of an earlier start
    store.push_file(work_dir / OUTCOME)
    write_text(work_dir / JOB, json.dumps(asdict(_moved(job, _places(settings.data_dir), reverse=True)), indent=2))
    store.push_file(work_dir / JOB)
    return work_dir.name


def collect(settings: Settings, job: ProcessJob) -> ProcessResult | None:
    """What a sent job came to, with its adapter; null where it has not told yet.

    Raises:
        DpoError: the training's own.
        ArtifactUnavailable, ArtifactCorrupt
    """
    store, work_dir = _store(settings), Path(job.work_dir)
    if not store.pull_file(work_dir / OUTCOME):
        return None
    told = json.loads((work_dir / OUTCOME).read_bytes())
    if error := told.get("error"):
        raise getattr(errors, error, errors.TaskFailed)(told["message"])
    if not told:
        return None
    result: ProcessResult = _moved(ProcessResult(**told), _places(settings.data_dir))
    if not store.pull(Path(result.adapter_dir)):
        raise errors.ArtifactMissing(f"{store.url} has the result of {work_dir.name}, and not its adapter.")
    write_text(work_dir / RESULT, json.dumps(asdict(result), indent=2))
    return result


def train_here(settings: Settings, name: str) -> ProcessResult:
    """On the other machine: bring what a job names, train, put back what came of it.

    Raises:
        DpoError: the training's own; whoever collects is told.
    """
    store, work_dir = _store(settings), settings.training_dir / name
    if not store.pull_file(work_dir / JOB):
        raise errors.ArtifactMissing(f"{store.url} has no job {name!r}. It is sent by the run that asks for it.")
    job = _moved(ProcessJob(**json.loads((work_dir / JOB).read_bytes())), _places(settings.data_dir))
    try:
        job = _with_base(settings, job)
        for folder in _folders(settings.data_dir, job):
            if not store.pull(folder):
                raise errors.ArtifactMissing(f"{store.url} has no {folder.name}, which the job {name!r} is made of.")
        if job.rows_file:
            store.pull_file(Path(job.rows_file))
        for folder in store.folders(work_dir / "checkpoints"):
            with suppress(errors.ArtifactCorrupt):  # an earlier one will do, or none
                store.pull(folder)
        with repeatedly(_Sharing(store, job)):
            result = run(job)
    except errors.DpoError as error:
        write_text(work_dir / OUTCOME, json.dumps({"error": type(error).__name__, "message": str(error)}))
        store.push_file(work_dir / OUTCOME)
        raise
    store.push(Path(result.adapter_dir))
    write_text(work_dir / OUTCOME, json.dumps(asdict(_moved(result, _places(settings.data_dir), reverse=True))))
    store.push_file(work_dir / OUTCOME)
    for folder in store.folders(work_dir / "checkpoints"):
        store.drop(folder)
    return result


class _Sharing:
    """Puts checkpoints into the store as they are sealed, and how far the training is."""

    def __init__(self, store: ArtifactStore, job: ProcessJob):
        self._store, self._progress = store, _progress(job)
        self._checkpoints = Path(job.work_dir) / "checkpoints"
        self._shared: set[Path] = set()

    def __call__(self) -> None:
        for sealed in sorted(set(self._checkpoints.glob(f"checkpoint-*/{MANIFEST}")) - self._shared):
            try:
                self._store.push(sealed.parent)
                self._shared.add(sealed)
            except (errors.ArtifactError, OSError) as error:  # deleted meanwhile, for newer ones; or the store is away
                log.warning("checkpoint %s is not in the store: %s", sealed.parent.name, error)
        if self._progress.exists():
            with suppress(errors.ArtifactError, OSError):
                self._store.push_file(self._progress)


def watch(settings: Settings, job: ProcessJob) -> AbstractContextManager[None]:
    """While a sent job is waited for: how far it is, where pages and terminals look."""
    store, progress = _store(settings), _progress(job)

    def look() -> None:
        with suppress(errors.ArtifactError):  # whoever collects is told
            store.pull_file(progress)

    return repeatedly(look)


@contextmanager
def repeatedly(do: Callable[[], None]) -> Iterator[None]:
    """In a thread, until the block is left."""
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(LOOK_S):
            do()

    working = threading.Thread(target=work, name=type(do).__name__, daemon=True)
    working.start()
    try:
        yield
    finally:
        ended.set()
        working.join(timeout=60)


def _progress(job: ProcessJob) -> Path:
    return Path(job.progress_dir) / f"{job.kind}.json"


def _folders(data_dir: Path, job: ProcessJob) -> list[Path]:
    """Sealed folders that a job is made of: all that lie in the data folder."""
    named = [Path(each) for each in (job.base_dir, job.start_dir, job.dataset_dir) if each]
    return [folder for folder in named if folder.is_relative_to(data_dir)]


def _with_base(settings: Settings, job: ProcessJob) -> ProcessJob:
    """A base that lies elsewhere, such as one of the hub, is found on this machine by its name.

    Raises:
        ModelUnavailable: it is not.
        ArtifactCorrupt: it is another one.
    """
    if Path(job.base_dir).is_relative_to(settings.data_dir):
        return job
    here = settings.model_copy(update={"model": ModelSettings(**job.model)})
    base = ensure_base(here, lambda step, total, metrics: None)
    if base.sha != job.base_sha:
        raise errors.ArtifactCorrupt(
            f"{job.model['base']} is {base.sha[:12]} here; the training is of {job.base_sha[:12]}. Fetch the same "
            "revision of it on all machines."
        )
    return replace(job, base_dir=str(base.directory))


def _places(data_dir: Path) -> dict[str, str]:
    return {DATA: str(data_dir), PROJECT: str(PROJECT_DIR)}


def _moved(told: Any, places: dict[str, str], reverse: bool = False) -> Any:
    """The same with the paths of this machine; reversed, with what stands for them."""
    changed = {}
    for each in fields(told):
        value = getattr(told, each.name)
        if isinstance(value, str):
            for mark, place in places.items():
                before, after = (place, mark) if reverse else (mark, place)
                if value == before or value.startswith(f"{before}/"):
                    changed[each.name] = after + value.removeprefix(before)
                    break
    return replace(told, **changed)


def _store(settings: Settings) -> ArtifactStore:
    store = store_of(settings)
    if store is None:
        raise errors.SettingsError(
            "A training on another machine goes through the artifact store, and DPO_ARTIFACTS_URL names none. Set it, "
            "or DPO_TRAINING__BACKEND=local."
        )
    return store


def main() -> None:
    """Do the job of this name; what is logged goes to the Dagster step that sent it."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    if DAGSTER_PIPES_CONTEXT_ENV_VAR not in os.environ:
        train_here(load_settings(), sys.argv[1])
        return
    with open_dagster_pipes() as pipes:
        log.addHandler(PipesLog(pipes))
        train_here(load_settings(), sys.argv[1])


if __name__ == "__main__":
    main()
