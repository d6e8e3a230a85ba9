"""Base models that are made ready once: a GGUF file, or a model that has no chat template of its own.

What is made ready lies in `artifacts/base` as any other model does: safetensors, tokenizer, template. Weights that were
quantised are unpacked to bfloat16; what quantising lost does not come back.
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dpo_pipeline.errors import ModelUnavailable

TURNS = {
    "chatml": (
        "{{ bos_token or '' }}{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
        "{{ turn_end }}\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
    "gemma": (
        "{{ bos_token or '' }}{% for message in messages %}{% if message['role'] == 'system' %}"
        "{{ raise_exception('a system message goes into the first turn') }}{% endif %}<start_of_turn>"
        "{{ 'model' if message['role'] == 'assistant' else message['role'] }}\n{{ message['content'] }}<end_of_turn>\n"
        "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
    ),
}
CHATML_END = "<|im_end|>"


def template_text(name: str) -> str:
    """A template by its name, or from a Jinja file.

    Raises:
        ModelUnavailable: neither.
    """
    if name in TURNS:
        return TURNS[name]
    try:
        return Path(name).expanduser().read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ModelUnavailable(
            f"The chat template {name!r} cannot be read ({error}). Set DPO_MODEL__CHAT_TEMPLATE to "
            f"{', '.join(TURNS)}, or to a Jinja file."
        ) from error


def prepare(source: Path, files: Sequence[Path], template: str | None, directory: Path) -> dict[str, Any]:
    """Fill `directory` with the model, ready to be loaded; returns facts for its manifest.

    Args:
        source: a GGUF file, or a folder.
        files: of the folder, those that belong to the model.
        template: the text of the chat template that it shall have; null: it keeps its own.
    """
    if source.is_file():
        _unpack(source, directory)
    else:
        for file in files:
            _link(file, directory / file.name)
    if template is not None:
        _set_template(directory, template)
    return {"kind": "base_model", "made_of": source.name}


def _unpack(file: Path, directory: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    try:
        packed = AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16,
            trust_remote_code=False,  # a configuration beside it may name code to run, and would have a person asked
        )  # fmt: skip
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, trust_remote_code=False)
    except ImportError as error:
        raise ModelUnavailable(f"{file} needs the package gguf: pip install -e '.[gguf]' ({error}).") from error
    except (OSError, ValueError, KeyError, NotImplementedError) as error:
        raise ModelUnavailable(
            f"{file} cannot be converted: {error} Convert it to safetensors, and name the folder."
        ) from error
    told = {name: value for name, value in packed.config.to_dict().items() if name != "quantization_config"}
    with torch.device("meta"):  # the weights are there already
        plain = AutoModelForCausalLM.from_config(type(packed.config).from_dict(told), dtype=torch.bfloat16)
    plain.load_state_dict(packed.state_dict(), assign=True)
    plain.tie_weights()
    plain.generation_config = packed.generation_config
    plain.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def _set_template(directory: Path, template: str) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
    # A turn ends with a token that the model can stop at.
    known = CHATML_END in tokenizer.get_vocab()
    end = CHATML_END if known or not tokenizer.eos_token else tokenizer.eos_token
    (directory / "chat_template.jinja").unlink(missing_ok=True)
    tokenizer.chat_template = template.replace("{{ turn_end }}", end)
    tokenizer.save_pretrained(directory)


def _link(file: Path, target: Path) -> None:
    """Weights as a second name of the same file where the disk allows it; what may be written again as a copy."""
    if file.suffix == ".safetensors":
        try:
            os.link(file.resolve(), target)
            return
        except OSError:
            pass
    shutil.copyfile(file, target)
