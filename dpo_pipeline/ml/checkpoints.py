"""Checkpoints of a training: sealed once they are whole, so that it goes on from the newest one that is."""

import shutil
from pathlib import Path
from typing import Any

from dpo_pipeline.errors import ArtifactError
from dpo_pipeline.ml.processes import is_first, wait_for_all
from dpo_pipeline.stores import artifacts


def seal_checkpoints() -> Any:
    """A callback that writes a manifest into every checkpoint once it is whole."""
    from transformers import TrainerCallback

    class SealCheckpoints(TrainerCallback):
        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            directory = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            wait_for_all()  # each process has put its own generator's state there
            if is_first():
                artifacts.write_manifest(directory, {"kind": "checkpoint", "step": state.global_step})

    return SealCheckpoints()


def last_complete_checkpoint(directory: Path) -> Path | None:
    """The newest checkpoint whose manifest agrees; broken ones are deleted, because they cannot be resumed."""
    for path in sorted(directory.glob("checkpoint-*"), key=lambda path: -int(path.name.split("-")[1])):
        try:
            artifacts.verify(path)
        except ArtifactError:
            shutil.rmtree(path)
        else:
            return path
    return None
