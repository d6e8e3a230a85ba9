"""Where the base model is and how it is loaded: embedded, a local folder, a GGUF file, or a Hugging Face id."""

import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dpo_pipeline.errors import ArtifactCorrupt, ArtifactMissing, ModelUnavailable
from dpo_pipeline.in_words import fault
from dpo_pipeline.ml import embedded
from dpo_pipeline.ml.base_identity import DECIDING, content_of, files_in, known_identities
from dpo_pipeline.ml.chat_template import ChatTemplate
from dpo_pipeline.ml.compute import compute_of
from dpo_pipeline.ml.prepared_base import prepare, template_text
from dpo_pipeline.quick_imports import quick_imports
from dpo_pipeline.settings import ModelSettings, Settings
from dpo_pipeline.stores import artifacts
from dpo_pipeline.stores.bank import read_bank, read_harmful
from dpo_pipeline.stores.shared_artifacts import fetch, share

LOG_EVERY = 50
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BaseModel:
    """A folder with model and tokenizer, and the sha256 over both: what an adapter is bound to."""

    directory: Path
    sha: str


def ensure_base(settings: Settings, progress: embedded.Progress) -> BaseModel:
    """The base model: the one that lies in the package, or built or fetched where it is not here yet.

    Raises:
        ModelUnavailable: it is neither a folder nor in the local Hugging Face cache and cannot be fetched, or nothing
            says how it reads a conversation.
    """
    if settings.model.base != "embedded":
        place, making = _place(settings)
        if making is not None:
            artifacts.publish(fetch(settings, place), making)
            share(settings, place)
        base = _identified(settings, place)
        ChatTemplate(load_tokenizer(base.directory)).trained((("user", "Hello"),), "Hello")
        return base
    learned, steps = curriculum(settings.bank_dir), settings.model.pretrain_steps
    identity = learned.identity(steps)

    def report(step: int, total: int, metrics: dict[str, float]) -> None:
        progress(step, total, metrics)
        if step % LOG_EVERY == 0 or step == total:
            log.info("base model: step %d of %d, loss %.3f", step, total, metrics["loss"])

    def fill(directory: Path) -> dict[str, Any]:
        if _is_shipped(identity):
            return _copy_shipped(directory)
        return embedded.build_base(learned, steps, directory, report)

    place = _embedded_dir(settings.artifacts_dir, identity)
    manifest = artifacts.publish(fetch(settings, place), fill)
    share(settings, place)
    return BaseModel(place, manifest["sha256"])


def rebuild_embedded(settings: Settings, directory: Path, progress: embedded.Progress) -> dict[str, Any]:
    """Build the embedded base into `directory`, in place of the one there; returns the manifest and `shipped`.

    Raises:
        ArtifactCorrupt: the directory holds something else.
    """
    if directory.exists() and any(directory.iterdir()):
        try:
            held = artifacts.read_manifest(directory).get("kind")
        except ArtifactMissing:
            held = None
        if held != "base_model":
            raise ArtifactCorrupt(
                f"{directory} holds something that is no base model of ours. Name an empty directory."
            )
    learned, steps = curriculum(settings.bank_dir), settings.model.pretrain_steps
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=f".{directory.name}.") as folder:
        made = Path(folder) / directory.name
        made.mkdir()
        manifest = artifacts.write_manifest(made, embedded.build_base(learned, steps, made, progress))
        shutil.rmtree(directory, ignore_errors=True)
        made.rename(directory)
    return {**manifest, "shipped": _is_shipped(manifest["identity"])}


def locate_base(settings: Settings) -> BaseModel:
    """The base model as `ensure_base` left it; builds nothing.

    Raises:
        ArtifactMissing: asset `base_model` was not materialized yet.
    """
    if settings.model.base != "embedded":
        place, making = _place(settings)
        if making is not None and not (fetch(settings, place) / artifacts.MANIFEST).is_file():
            raise ArtifactMissing(f"The base model is not made ready yet ({place}). Materialize `base_model`.")
        return _identified(settings, place)
    identity = curriculum(settings.bank_dir).identity(settings.model.pretrain_steps)
    directory = _embedded_dir(settings.artifacts_dir, identity)
    try:
        manifest = artifacts.verify(fetch(settings, directory))
    except ArtifactMissing as error:
        raise ArtifactMissing(f"The base model is not built yet ({directory}). Materialize `base_model`.") from error
    return BaseModel(directory, manifest["sha256"])


def base_source(settings: Settings, sha: str | None) -> str:
    """What `from_pretrained` takes to load the base model: its folder on this machine, or its name in a hub.

    Args:
        sha: which one, of the embedded base, of which there is another for every question bank.
    """
    if settings.model.base != "embedded":
        given = _given(settings)
        return str(_place(settings)[0].absolute()) if given.exists() else settings.model.base
    bases = settings.artifacts_dir / "base"
    built = (path.parent for path in sorted(bases.glob(f"*/{artifacts.MANIFEST}")))
    return str(next((each for each in built if artifacts.read_manifest(each).get("sha256") == sha), bases))


def load_base(directory: Path, model: ModelSettings) -> tuple[Any, Any]:
    """(model in eval mode, tokenizer that pads on the left), on the device of the settings; raises as `load_model`."""
    return load_model(directory, model), load_tokenizer(directory)


def load_model(directory: Path, model: ModelSettings) -> Any:
    """The model in eval mode, on the device the settings name.

    Raises:
        ModelUnavailable: this is no model that transformers can load, or only with code that it brings along.
    """
    with quick_imports():
        import torch
        from transformers import AutoModelForCausalLM

    compute = compute_of(model)
    with _loading(directory):
        loaded = AutoModelForCausalLM.from_pretrained(
            directory, dtype=getattr(torch, compute.dtype), trust_remote_code=False
        )
    return loaded.to(compute.device).eval()


def load_tokenizer(directory: Path) -> Any:
    """The tokenizer, padding on the left; raises as `load_model`."""
    from transformers import AutoTokenizer

    with _loading(directory):
        tokenizer = AutoTokenizer.from_pretrained(directory, padding_side="left", trust_remote_code=False)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


@contextmanager
def _loading(directory: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        raise ModelUnavailable(
            f"The base model in {directory} cannot be loaded: {error} Code that a model brings along (auto_map, "
            "trust_remote_code) is never run; choose a model of a type that transformers knows."
        ) from error


def curriculum(bank_dir: Path) -> embedded.Curriculum:
    """What the embedded base of these settings learns."""
    return embedded.Curriculum.of(read_bank(bank_dir), read_harmful(bank_dir))


def _embedded_dir(artifacts_dir: Path, identity: str) -> Path:
    return artifacts_dir / "base" / f"embedded-{identity[:12]}"


def _is_shipped(identity: str) -> bool:
    """Whether the model in the package was built from just this; its files are checked when it is copied."""
    manifest = embedded.SHIPPED / artifacts.MANIFEST
    return manifest.is_file() and json.loads(manifest.read_text(encoding="utf-8"))["identity"] == identity


def _copy_shipped(directory: Path) -> dict[str, Any]:
    """Copy the files, and return the facts of the manifest."""
    manifest = artifacts.verify(embedded.SHIPPED)
    for name in manifest["files"]:
        shutil.copyfile(embedded.SHIPPED / name, directory / name)
    return {name: value for name, value in manifest.items() if name not in ("files", "sha256")}


def _place(settings: Settings) -> tuple[Path, Callable[[Path], dict[str, Any]] | None]:
    """Where the base model lies, and what fills that folder where it must be made ready first; null: it is as it is."""
    given, template = _given(settings), settings.model.chat_template
    is_gguf = given.suffix.lower() == ".gguf"
    source = given if given.is_dir() or is_gguf else _fetch(settings.model.base)
    if is_gguf and not source.is_dir():
        if not source.is_file():
            raise ModelUnavailable(f"{source} is not there. Set DPO_MODEL__BASE to a GGUF file, a folder or an id.")
        files = [source]
    elif not any(source.glob("*.safetensors")):
        raise ModelUnavailable(
            f"{source} holds no .safetensors weights. Only safetensors and GGUF files are loaded; convert the model "
            "first."
        )
    else:
        files = files_in(source, DECIDING)
    if source.is_dir() and template is None:
        return source, None
    text = None if template is None else template_text(template)
    made_of = json.dumps([content_of(files, known_identities(settings.artifacts_dir)), text])
    place = settings.artifacts_dir / "base" / f"{source.stem}-{hashlib.sha256(made_of.encode()).hexdigest()[:12]}"
    return place, partial(prepare, source, files, text)


def _given(settings: Settings) -> Path:
    """The file or folder that `model.base` names, be it below the models of the data folder; or neither."""
    given, own = Path(settings.model.base).expanduser(), settings.models_dir / settings.model.base
    return own if not given.exists() and own.exists() else given


def _identified(settings: Settings, directory: Path) -> BaseModel:
    return BaseModel(
        directory, content_of(files_in(directory, DECIDING), known_identities(settings.artifacts_dir), settings)
    )


def _fetch(model_id: str) -> Path:
    from huggingface_hub import snapshot_download

    patterns = ["*.safetensors", "*.json", "*.txt", "tokenizer*", "*.jinja"]
    try:
        return Path(snapshot_download(model_id, allow_patterns=patterns))
    except Exception as error:  # the hub client raises a different type for every way a network can fail
        raise ModelUnavailable(
            f"Base model {model_id!r} is not a folder here, not in the Hugging Face cache, and could not be fetched "
            f"({fault(error)}). Connect to the network once, or copy the model to this machine and "
            "set DPO_MODEL__BASE=/path/to/the/folder, or use the embedded model with DPO_PROFILE=tiny."
        ) from error
