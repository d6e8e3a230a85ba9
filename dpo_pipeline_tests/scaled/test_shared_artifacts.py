"""Sealed folders in a store: a real S3 by HTTP, and a plain folder such as a network drive."""

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest

from dpo_pipeline.errors import ArtifactCorrupt, ArtifactUnavailable, SettingsError
from dpo_pipeline.loop.recorded_adapter import adapter_of
from dpo_pipeline.ml.base_model import ensure_base, locate_base
from dpo_pipeline.ml.train_process import publish_adapter
from dpo_pipeline.stores.artifacts import MANIFEST, publish, verify
from dpo_pipeline.stores.shared_artifacts import ArtifactStore, _file_system
from dpo_pipeline_tests.examples import settings_in, version_record
from dpo_pipeline_tests.scaled.s3 import BUCKET, s3_server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("moto", reason="make test-scaled installs it")
    with s3_server(tmp_path_factory.mktemp("s3")) as variables, pytest.MonkeyPatch.context() as patched:
        for name, value in variables.items():
            patched.setenv(name, value)
        _file_system.cache_clear()
        yield f"s3://{BUCKET}"
    _file_system.cache_clear()
    fsspec.filesystem("s3").clear_instance_cache()


@pytest.fixture(params=["s3", "folder"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "s3":
        return f"{request.getfixturevalue('bucket')}/{tmp_path.name}"
    return f"file://{tmp_path / 'store'}"


@pytest.fixture
def machines(url: str, tmp_path: Path) -> list[ArtifactStore]:
    return [ArtifactStore(url, tmp_path / name) for name in "ab"]


def sealed(folder: Path, text: str = "weights") -> Path:
    def fill(directory: Path) -> dict[str, object]:
        (directory / "part").mkdir()
        (directory / "part" / "weights.bin").write_text(text)
        (directory / "config.json").write_text("{}")
        return {"kind": "test"}

    publish(folder, fill)
    return folder


def test_a_folder_comes_to_another_machine_whole(machines: list[ArtifactStore], tmp_path: Path) -> None:
    there, here = sealed(tmp_path / "a" / "artifacts" / "x"), tmp_path / "b" / "artifacts" / "x"
    assert not machines[1].pull(here)
    machines[0].push(there)
    machines[0].push(there)
    assert machines[1].pull(here) and machines[1].pull(here)
    assert verify(here) == verify(there)
    assert (here / "part" / "weights.bin").read_text() == "weights"
    assert machines[1].folders(tmp_path / "b" / "artifacts") == [here]
    machines[0].drop(there)
    assert machines[1].folders(tmp_path / "b" / "artifacts") == []


def test_what_was_damaged_in_the_store_is_refused_and_leaves_nothing(
    machines: list[ArtifactStore], url: str, tmp_path: Path
) -> None:
    there, here = sealed(tmp_path / "a" / "x"), tmp_path / "b" / "x"
    machines[0].push(there)
    files, root = fsspec.core.url_to_fs(url)
    sha = json.loads((there / MANIFEST).read_text())["files"]["part/weights.bin"]
    place = f"{root}/content/{sha[:2]}/{sha}"
    files.pipe_file(place, b"WEIGHTS")
    with pytest.raises(ArtifactCorrupt, match="sha256"):
        machines[1].pull(here)
    assert not here.exists() and [each.suffix for each in here.parent.iterdir()] == [".lock"]
    files.pipe_file(place, b"wei")  # an upload that broke off is made good by the next one
    files.invalidate_cache()
    machines[0].push(there)
    assert machines[1].pull(here)


def test_of_two_folders_by_one_name_the_first_stays(machines: list[ArtifactStore], tmp_path: Path) -> None:
    first, second = sealed(tmp_path / "a" / "x", "one"), sealed(tmp_path / "b" / "x", "another")
    with ThreadPoolExecutor(2) as pool:
        pushed = [pool.submit(store.push, folder) for store, folder in zip(machines, (first, second), strict=True)]
    refused = [each.exception() for each in pushed if each.exception()]
    assert len(refused) == 1 and isinstance(refused[0], ArtifactCorrupt)


def test_a_page_is_rewritten(machines: list[ArtifactStore], tmp_path: Path) -> None:
    page, copy = tmp_path / "a" / "reports" / "weekly.html", tmp_path / "b" / "reports" / "weekly.html"
    assert not machines[1].pull_file(copy)
    page.parent.mkdir(parents=True)
    for text in ("first", "second"):
        page.write_text(text)
        machines[0].push_file(page)
        assert machines[1].pull_file(copy) and copy.read_text() == text


def test_a_store_that_is_gone_is_told(tmp_path: Path) -> None:
    pytest.importorskip("s3fs", reason="make test-scaled installs it")
    store = ArtifactStore("s3://dpo/x?nobody", tmp_path)
    with pytest.MonkeyPatch.context() as patched:
        for name, value in {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "x"}.items():
            patched.setenv(name, value)
        patched.setenv("AWS_SECRET_ACCESS_KEY", "x")
        fsspec.filesystem("s3").clear_instance_cache()
        _file_system.cache_clear()
        store = ArtifactStore("s3://dpo/x", tmp_path)
        with pytest.raises(ArtifactUnavailable, match="DPO_ARTIFACTS_URL"):
            store.pull(tmp_path / "x")
    _file_system.cache_clear()
    fsspec.filesystem("s3").clear_instance_cache()
    with pytest.raises(SettingsError, match="no-such"):
        ArtifactStore("no-such://x", tmp_path)


def test_a_machine_with_an_empty_folder_serves_what_another_trained(url: str, tmp_path: Path) -> None:
    """Base and adapter come from the store, by their hashes; the path of the ledger is another machine's."""
    here, there = (settings_in(tmp_path / name, artifacts_url=url) for name in ("a", "b"))
    base = ensure_base(here, lambda step, total, metrics: None)
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    (fresh / "adapter_model.safetensors").write_bytes(os.urandom(1000))
    folder, sha = publish_adapter(fresh, here.artifacts_dir / "adapters", {"base_sha": base.sha})
    ArtifactStore(url, here.data_dir).push(folder)
    record = version_record("v1.0", adapter_sha=sha, adapter_dir="/srv/another/machine/adapters/x")
    assert locate_base(there).sha == base.sha
    found = adapter_of(there, record)
    assert found.is_relative_to(there.data_dir) and verify(found)["sha256"] == sha
