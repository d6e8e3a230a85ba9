"""What may be registered and served: an adapter is finite, changed, on the right base, and whole."""

import json
from pathlib import Path
from typing import Any

from dpo_pipeline.errors import AdapterRefused, ArtifactCorrupt, TrainingDiverged
from dpo_pipeline.in_words import fault
from dpo_pipeline.ml.processes import is_first, wait_for_all
from dpo_pipeline.settings import ModelSettings
from dpo_pipeline.stores import artifacts

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
BASE_PATH = "base_model_name_or_path"
LARGEST_RANK = 256
KINDS: dict[str, Any] = {"r": int, "lora_alpha": int | float, "target_modules": list}
ANY = {*KINDS, BASE_PATH, "peft_type", "peft_version", "task_type", "inference_mode", "lora_dropout", "use_rslora"}
"""Of an adapter's configuration: what may be of any value here."""
USUAL = {"bias": "none", "init_lora_weights": True, "megatron_core": "megatron.core", "qalora_group_size": 16}
"""PEFT's defaults that are not nothing. All else has to be nothing: null, false or empty."""


def check_adapter(directory: Path, base_sha: str, model: ModelSettings) -> dict[str, Any]:
    """Manifest and configuration of an adapter, verified; reads no tensor. Call it before every load.

    Raises:
        ArtifactMissing, ArtifactCorrupt: a file is missing, was added, or differs from its sha256.
        AdapterRefused: another base, a rank above 256, layers outside the settings, or not safetensors.
    """
    manifest = artifacts.verify(directory)
    if not (directory / WEIGHTS).is_file():
        raise AdapterRefused(f"{directory} holds no {WEIGHTS}. Only safetensors adapters are loaded.")
    if manifest.get("base_sha") != base_sha:
        raise AdapterRefused(
            f"Adapter {manifest['sha256'][:12]} was trained on base {str(manifest.get('base_sha'))[:12]}; this base is "
            f"{base_sha[:12]}. Use the matching base (model.base) or retrain."
        )
    config = read_config(directory)
    allowed, targets = set(model.lora_targets), set(config["target_modules"])
    if config.get("peft_type") != "LORA" or not targets <= allowed or not 0 < config["r"] <= LARGEST_RANK:
        raise AdapterRefused(
            f"Adapter {manifest['sha256'][:12]} is {config.get('peft_type')} of rank {config['r']} on "
            f"{sorted(targets)}; LORA of rank {LARGEST_RANK} at most on {sorted(allowed)} was required."
        )
    _check_ranks(directory, config["r"])
    return manifest


def read_config(directory: Path) -> dict[str, Any]:
    """Configuration of a plain LoRA adapter in PEFT's form.

    Of what else PEFT reads there, some would import a module by name, grow layers to any size or train other weights.

    Raises:
        AdapterRefused: it is none, or asks for more.
    """
    try:
        config: dict[str, Any] = json.loads((directory / CONFIG).read_text(encoding="utf-8"))
        kinds = [isinstance(config[name], kind) for name, kind in KINDS.items()]
        whole = all(kinds) and all(isinstance(each, str) for each in config["target_modules"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise AdapterRefused(
            f"{directory / CONFIG} is no configuration of an adapter: {fault(error)}. Train again."
        ) from error
    if not whole or isinstance(config["r"], bool):
        raise AdapterRefused(
            f"{directory / CONFIG} has {', '.join(KINDS)} of another kind than PEFT writes. Train again."
        )
    unusual = [name for name, value in config.items() if name not in ANY and value and value != USUAL.get(name)]
    if unusual:
        raise AdapterRefused(f"The adapter uses {', '.join(unusual)}; plain LoRA was required. Train it without.")
    return config


def _check_ranks(directory: Path, rank: int) -> None:
    """By the header of the file alone."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(directory / WEIGHTS, framework="numpy") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118  (no mapping)
    except SafetensorError as error:
        raise ArtifactCorrupt(f"{directory / WEIGHTS} cannot be read: {error}. Train again.") from error
    for name, shape in shapes.items():
        side = 0 if "lora_A" in name else 1
        if len(shape) != 2 or shape[side] != rank:
            raise AdapterRefused(f"{directory}: {name} is {shape}; rank {rank} was required by {CONFIG}. Train again.")


def to_train_on(model: Any, start: Path, base: Path) -> Any:
    """The base model under an adapter to go on from, as PEFT loads it.

    PEFT looks into the base's folder whenever it saves; where that lies, no adapter of ours says.
    """
    from peft import PeftModel

    policy = PeftModel.from_pretrained(model, start, is_trainable=True)
    for config in policy.peft_config.values():
        config.base_model_name_or_path = str(base)
    return policy


def save_adapter(model: Any, directory: Path) -> None:
    """As PEFT saves it, but for the order of the layers' names, a set, whose order each process draws, and for the path
    of the base model, which lies elsewhere on another machine.

    Equal weights are then equal files, wherever they were made. Of several processes, one writes, and all go on then.
    """
    if is_first():
        _save(model, directory)
    wait_for_all()


def _save(model: Any, directory: Path) -> None:
    model.save_pretrained(directory, selected_adapters=["default"])
    path = directory / CONFIG
    config = json.loads(path.read_text(encoding="utf-8"))
    config["target_modules"] = sorted(config["target_modules"])
    config[BASE_PATH] = Path(config[BASE_PATH] or "").name
    artifacts.write_text(path, json.dumps(config, indent=2, sort_keys=True))


def differ_only_in_place(first: Path, second: Path) -> bool:
    """Whether two adapters are one but for the path of the base model, which earlier versions of this program kept."""
    configs = [json.loads((folder / CONFIG).read_text(encoding="utf-8")) for folder in (first, second)]
    for config in configs:
        config[BASE_PATH] = Path(config[BASE_PATH] or "").name
    return configs[0] == configs[1] and artifacts.file_sha256(first / WEIGHTS) == artifacts.file_sha256(
        second / WEIGHTS
    )


def check_weights(directory: Path, start: Path | None) -> dict[str, float]:
    """Look at every tensor: finite, not all zero, and moved away from where training started.

    Args:
        start: the adapter that training started from; null for a new one, whose B matrices start at zero.

    Returns:
        `update_norm`: Frobenius norm of the change; `parameters`: how many numbers the adapter has.

    Raises:
        TrainingDiverged: NaN or infinity.
        AdapterRefused: all zero, or nothing changed.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(directory / WEIGHTS)
        before = load_file(start / WEIGHTS) if start else {}
    except SafetensorError as error:
        raise ArtifactCorrupt(f"{directory / WEIGHTS} cannot be read: {error}. Train again.") from error
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise TrainingDiverged(
                f"{directory}: {name} holds NaN or infinity. Lower recipe.learning_rate and retrain."
            )
    ups = [tensor for name, tensor in tensors.items() if "lora_B" in name]
    if not ups or not any(tensor.any() for tensor in ups):
        raise AdapterRefused(f"{directory}: every lora_B is zero, so the adapter does nothing. Train longer.")
    if before and before.keys() != tensors.keys():
        raise AdapterRefused(f"{directory} has other layers than {start}, where training started. Train again.")
    change = sum(
        float((tensor.float() - before[name].float() if before else tensor.float()).pow(2).sum())
        for name, tensor in tensors.items()
        if before or "lora_B" in name
    )
    if change == 0.0:
        raise AdapterRefused(f"{directory} is equal to {start}, where training started. Raise the learning rate.")
    return {"update_norm": change**0.5, "parameters": float(sum(tensor.numel() for tensor in tensors.values()))}
