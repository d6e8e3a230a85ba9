"""DPO by LLaMA-Factory, in its own environment and process, from the same pairs, to the same checks and metrics.

What it is given are tokens (its `tokenized_path`), not texts: with a template of its own name it may put another system
prompt before an answer than is served, and it shortens prompts where we shorten answers. So what is trained on is what
TRL would train on, token by token.
"""

import ctypes
import fcntl
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dpo_pipeline.errors import ModelUnavailable, TaskFailed
from dpo_pipeline.ml.adapters import CONFIG, WEIGHTS
from dpo_pipeline.ml.chat_template import ChatTemplate, as_messages
from dpo_pipeline.ml.dpo import DpoResult, facts_of, held_out_metrics
from dpo_pipeline.ml.embedded import Progress
from dpo_pipeline.ml.llamafactory import write_config
from dpo_pipeline.ml.llamafactory_output import CURVE, STATE, curve_follower, is_whole, last_checkpoint
from dpo_pipeline.ml.training_job import DpoJob, UsablePairs, usable_pairs

LOOK_EVERY_S = 0.5
PR_SET_PDEATHSIG = 1
SHOWN_LINES = 15
"""Of its output, in an error."""
log = logging.getLogger(__name__)


def find_command(command: Path) -> Path:
    """LLaMA-Factory's program, by its path or its name.

    Raises:
        ModelUnavailable: it is not there, and what to do.
    """
    found = shutil.which(command.expanduser())
    if found is None:
        raise ModelUnavailable(
            f"recipe.trainer is llamafactory, and {command} is no program that can be run. Run `make llamafactory`, "
            "which makes an environment for it, or set DPO_LLAMAFACTORY__COMMAND to a llamafactory-cli; or train with "
            "DPO_RECIPE__TRAINER=trl."
        )
    return Path(found).absolute()


def train_with_llamafactory(job: DpoJob, command: Path, adapter_dir: Path, progress: Progress) -> DpoResult:
    """Train, check and save the adapter into `adapter_dir`: weights alone, under the configuration of its start.

    Killed, it goes on from the last whole checkpoint when it is called again.

    Raises:
        DatasetTooSmall, AdapterRefused, TrainingDiverged: as `ml.dpo.train_dpo`.
        ModelUnavailable: LLaMA-Factory is not there.
        TaskFailed: it ended with an error, with the last lines of what it said.
    """
    command = find_command(command)
    pairs = usable_pairs(job)
    output, resumed = run_llamafactory(job, pairs, command, progress)
    for name, source in ((WEIGHTS, output), (CONFIG, job.start_dir)):
        shutil.copyfile(source / name, adapter_dir / name)
    history = json.loads((output / STATE).read_text(encoding="utf-8"))["log_history"]
    facts = facts_of(job, pairs, adapter_dir, resumed) | {"trainer": "llamafactory"}
    return DpoResult(facts, held_out_metrics(job, pairs, adapter_dir), [row for row in history if "loss" in row])


def run_llamafactory(job: DpoJob, pairs: UsablePairs, command: Path, progress: Progress) -> tuple[Path, Path | None]:
    """Its own part: (the folder that it leaves, the checkpoint that it went on from).

    Raises:
        AdapterRefused, TrainingDiverged, TaskFailed
    """
    place = job.work_dir / "llamafactory"
    output = place / "output"
    with alone(place) as lock:
        write_tokens(place / "tokens", job, pairs)
        write_config(
            place,
            job.recipe,
            job.model,
            base=str(job.base.directory),
            start=str(job.start_dir),
            dataset=str(job.dataset_dir / "llamafactory"),
            pairs=len(pairs.train),
            output=str(output),
            tokens=str(place / "tokens"),
        )
        resumed = None
        if not is_whole(output):
            resumed = last_checkpoint(output)
            if resumed is None:  # it would refuse a folder in which weights lie and no checkpoint
                shutil.rmtree(output, ignore_errors=True)
            _run([str(command), "train", str(place / "dpo.yaml")], place / "output.log", output, lock, progress)
        # What people wrote stands there, in a form in which nobody would find it again.
        shutil.rmtree(place / "tokens")
    return output, resumed


def write_tokens(directory: Path, job: DpoJob, pairs: UsablePairs) -> None:
    """The pairs in the columns of LLaMA-Factory's own preprocessing, as a folder that it loads.

    Raises:
        AdapterRefused: an answer would be trained in another context than the one it is served in.
    """
    from datasets import Dataset, DatasetDict

    tokenizer, longest = pairs.tokenizer, job.model.max_length
    template = ChatTemplate(tokenizer)
    rows, prompts = [], []
    for pair in pairs.train:
        asked = as_messages(pair["prompt"])
        row: dict[str, Any] = {}
        for side in ("chosen", "rejected"):
            told, whole = tokenizer(list(template.trained(asked, pair[side][0]["content"])), add_special_tokens=False)[
                "input_ids"
            ]
            prompts.append((asked, whole[: len(told)]))
            row |= {
                f"{side}_input_ids": whole[:longest],
                f"{side}_attention_mask": [1] * len(whole[:longest]),
                f"{side}_labels": ([-100] * len(told) + whole[len(told) :])[:longest],
            }
        rows.append(row | dict.fromkeys(("images", "videos", "audios")))
    template.check_context(prompts)
    if directory.exists():
        shutil.rmtree(directory)
    DatasetDict({"train": Dataset.from_list(rows)}).save_to_disk(str(directory))


@contextmanager
def alone(place: Path) -> Iterator[int]:
    """A lock that the program holds as well: where it outlives us, the next start waits until it is done."""
    place.mkdir(parents=True, exist_ok=True)
    with (place / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("LLaMA-Factory is still at this training, started by a process that is gone; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def _run(command: list[str], told: Path, output: Path, lock: int, progress: Progress) -> None:
    log.info("%s", " ".join(command))
    # A training that is gone on with adds to its log.
    follow = curve_follower(
        output / CURVE, progress, (output / CURVE).stat().st_size if (output / CURVE).exists() else 0
    )
    with told.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            command,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=_environment(),
            pass_fds=[lock],
            start_new_session=True,
            preexec_fn=_end_with_us(),
        )
        try:
            while process.poll() is None:
                time.sleep(LOOK_EVERY_S)
                follow()
            follow()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if process.returncode:
        raise TaskFailed(
            f"LLaMA-Factory ended with status {process.returncode}. The last lines of {told}:\n"
            + "\n".join(told.read_text(encoding="utf-8", errors="replace").splitlines()[-SHOWN_LINES:])
            + "\nRun the step again once the cause is gone: it goes on from its last checkpoint."
        )


def _end_with_us() -> Callable[[], None] | None:
    """For the new process to do first: ask Linux to end it when we end, however that happens; null elsewhere."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _environment() -> dict[str, str]:
    """Ours, without what would lead its Python to our packages, or to the network; and with one GPU at most.

    Where it sees several it starts others in sessions of their own, which nothing here could end with it.
    """
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    offline = dict.fromkeys(("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"), "1")
    return kept | offline | {"CUDA_VISIBLE_DEVICES": first}
