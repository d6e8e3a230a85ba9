"""A data directory in which two versions are served; each test module gets its own copy."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dpo_pipeline.ml.base_model import locate_base
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores import artifacts
from dpo_pipeline.stores.ledger import Ledger
from dpo_pipeline_tests.browser import chromium
from dpo_pipeline_tests.examples import put_version
from dpo_pipeline_tests.ml.conftest import baseline, project  # noqa: F401  (fixtures)
from dpo_pipeline_tests.upstream import Upstream, model_server

if TYPE_CHECKING:
    from playwright.sync_api import Browser

VARIABLES = {
    "DPO_MODEL__MAX_NEW_TOKENS": "24",
    "DPO_LIMITS__VOTES_PER_MINUTE": "10000",
    "DPO_ACCESS__PAGES": "false",
}
"""What a server needs to find the trained project, and to let tests vote as fast as they can."""
WITH_PAGES = VARIABLES | {"DPO_ACCESS__PAGES": "true"}
"""The same for a server whose pages are looked at: Gradio is most of what it takes to start one."""


def disturb(weights: Path) -> None:
    """Other weights, and so other answers: a reply of the wrong version shows."""
    import torch
    from safetensors.torch import load_file, save_file

    chance = torch.Generator().manual_seed(1)
    tensors = load_file(weights)
    moved = {name: each + 0.3 * torch.randn(each.shape, generator=chance) for name, each in tensors.items()}
    save_file(moved, weights)


def install(settings: Settings, adapter: Path, names: tuple[str, ...] = ("v1.0",)) -> None:
    """Versions in the ledger, the first one champion; each an adapter of its own, so that hashes differ."""
    with Ledger(settings.ledger_address) as ledger:
        for name in names:
            folder = settings.artifacts_dir / "adapters" / name
            shutil.copytree(adapter, folder)
            manifest = artifacts.write_manifest(folder, {"base_sha": locate_base(settings).sha, "version": name})
            if name != "v1.0":
                disturb(folder / "adapter_model.safetensors")
                (folder / "notes.txt").write_text(name)
                manifest = artifacts.write_manifest(folder, {"base_sha": locate_base(settings).sha, "version": name})
            put_version(
                ledger, name, status="registered", adapter_sha=manifest["sha256"], adapter_dir=str(folder), parent=None
            )
        ledger.install_champion(names[0], actor="test")


@pytest.fixture(scope="module")
def own_project(
    project: Settings,  # noqa: F811
    baseline: Path,  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> Settings:
    directory = tmp_path_factory.mktemp("serving")
    (directory / "artifacts").mkdir()
    shutil.copytree(project.artifacts_dir / "base", directory / "artifacts" / "base")
    settings = project.model_copy(update={"data_dir": directory})
    install(settings, baseline, ("v1.0", "v1.1"))
    return settings


def beside(settings: Settings) -> Settings:
    """A copy of a served folder, for a second server: there is one on each."""
    folder = Path(tempfile.mkdtemp(prefix="beside", dir=settings.data_dir.parent)) / "data"
    shutil.copytree(settings.data_dir, folder)
    return settings.model_copy(update={"data_dir": folder})


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def models() -> Iterator[Upstream]:
    with model_server() as running:
        yield running
