"""Directories are there whole or not at all, and a flipped bit is found before anything is loaded."""

import json
from pathlib import Path

import pytest

from dpo_pipeline.errors import ArtifactCorrupt, ArtifactMissing
from dpo_pipeline.stores import artifacts


def publish(directory: Path, text: str = "weights") -> dict[str, object]:
    def fill(into: Path) -> dict[str, str]:
        (into / "sub").mkdir()
        (into / "model.bin").write_text(text)
        (into / "sub" / "more.txt").write_text("more")
        return {"kind": "test"}

    return artifacts.publish(directory, fill)


def test_published_and_verified(tmp_path: Path) -> None:
    manifest = publish(tmp_path / "a")
    assert artifacts.verify(tmp_path / "a") == manifest
    assert set(manifest["files"]) == {"model.bin", "sub/more.txt"}
    assert publish(tmp_path / "b")["sha256"] == manifest["sha256"]
    assert publish(tmp_path / "c", "other")["sha256"] != manifest["sha256"]


def test_publishing_again_does_nothing(tmp_path: Path) -> None:
    publish(tmp_path / "a")
    assert artifacts.publish(tmp_path / "a", lambda into: pytest.fail("built again")) == publish(tmp_path / "a")


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail(into: Path) -> dict[str, str]:
        (into / "half").write_text("half")
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        artifacts.publish(tmp_path / "a", fail)
    assert list(tmp_path.iterdir()) == []


def test_weights_that_were_swapped_together_with_the_manifests_list_are_found(tmp_path: Path) -> None:
    """The ledger names the hash in the manifest: it must be that of the files which are loaded."""
    manifest = publish(tmp_path / "a")
    (tmp_path / "a" / "model.bin").write_text("somebody else's weights")
    files = artifacts.hash_files(tmp_path / "a")
    (tmp_path / "a" / artifacts.MANIFEST).write_text(json.dumps({**manifest, "files": files}))
    with pytest.raises(ArtifactCorrupt, match="its sha256 was made of other files"):
        artifacts.verify(tmp_path / "a")


@pytest.mark.parametrize("damage", ["flipped", "truncated", "missing", "added"])
def test_damage_is_found_and_the_file_named(tmp_path: Path, damage: str) -> None:
    publish(tmp_path / "a")
    file = tmp_path / "a" / "model.bin"
    if damage == "flipped":
        file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:])
    elif damage == "truncated":
        file.write_bytes(file.read_bytes()[:-1])
    elif damage == "missing":
        file.unlink()
    else:
        file.with_name("model.bin").write_text("weights")
        file.with_name("extra.bin").write_text("extra")
    with pytest.raises(ArtifactCorrupt, match=r"extra\.bin" if damage == "added" else r"model\.bin"):
        artifacts.verify(tmp_path / "a")


def test_without_a_manifest_it_was_never_finished(tmp_path: Path) -> None:
    with pytest.raises(ArtifactMissing, match="never finished"):
        artifacts.verify(tmp_path)


def test_a_link_moves_in_one_step(tmp_path: Path) -> None:
    for name in ("one", "two"):
        publish(tmp_path / name)
        artifacts.point(tmp_path / "links" / "current", tmp_path / name)
        assert (tmp_path / "links" / "current").resolve() == tmp_path / name


def test_a_link_among_the_files_is_refused(tmp_path: Path) -> None:
    """Other weights could be put behind it after they were verified."""
    artifacts.publish(tmp_path / "adapter", lambda folder: {"kind": "test"} if (folder / "a").write_text("x") else {})
    (tmp_path / "adapter" / "a").rename(tmp_path / "elsewhere")
    (tmp_path / "adapter" / "a").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtifactCorrupt, match="is a link"):
        artifacts.verify(tmp_path / "adapter")
