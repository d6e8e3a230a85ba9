"""Content-addressed directories, published by rename.

A directory is written under a temporary name, gets a manifest with the sha256 of every file, and
is renamed to its final name in one step: it is there whole or not at all.
"""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from dpo_pipeline.errors import ArtifactCorrupt, ArtifactMissing

MANIFEST, CARD = "manifest.json", "README.md"


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_sha(files: Mapping[str, str]) -> str:
    """Identity of a directory: sha256 over its file names and their sha256, in order of name."""
    lines = "".join(f"{name}\0{digest}\n" for name, digest in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def hash_files(directory: Path) -> dict[str, str]:
    """sha256 by relative name of every file but the manifest, and the card, which is rewritten as more is known.

    Raises:
        ArtifactCorrupt: a link, behind which other content can be put at any time.
    """
    if link := next((path for path in directory.rglob("*") if path.is_symlink()), None):
        raise ArtifactCorrupt(f"{link} is a link; only files are served. Delete {directory} and materialize it again.")
    return {
        str(path.relative_to(directory)): file_sha256(path)
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path not in (directory / MANIFEST, directory / CARD)
    }


def write_manifest(directory: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Write the manifest last: a directory with one is complete. Returns it."""
    files = hash_files(directory)
    manifest = {**facts, "sha256": content_sha(files), "files": files}
    write_text(directory / MANIFEST, json.dumps(manifest, indent=2, ensure_ascii=False, sort_keys=True))
    return manifest


def read_manifest(directory: Path) -> dict[str, Any]:
    """The manifest, without checking the files.

    Raises:
        ArtifactMissing: no such directory, or it has no manifest.
    """
    path = directory / MANIFEST
    if not path.is_file():
        raise ArtifactMissing(f"{directory} holds no {MANIFEST}: it was never finished. Materialize it again.")
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ArtifactCorrupt(f"{path} is not JSON ({error}). Delete {directory} and materialize it again.") from error
    return manifest


def verify(directory: Path) -> dict[str, Any]:
    """The manifest, after every file was hashed again. Call it before every load.

    Raises:
        ArtifactMissing: no such directory or no manifest.
        ArtifactCorrupt: a file is missing, was added, or differs, or the list of files was changed after it was sealed.
    """
    manifest = read_manifest(directory)
    if content_sha(manifest.get("files", {})) != manifest.get("sha256"):
        raise ArtifactCorrupt(
            f"{directory / MANIFEST}: its sha256 was made of other files than it lists; somebody changed it. Delete "
            "the directory and materialize it again; do not serve it."
        )
    found = hash_files(directory)
    # Manifests from before cards were rewritten list PEFT's.
    required = {name: digest for name, digest in manifest.get("files", {}).items() if name != CARD}
    for name in sorted(found.keys() | required.keys()):
        if found.get(name) != required.get(name):
            raise ArtifactCorrupt(
                f"{directory / name}: sha256 {found.get(name, 'missing')} found, {required.get(name, 'no such file')} "
                "required by the manifest. Delete the directory and materialize it again; do not serve it."
            )
    return manifest


def publish(final: Path, fill: Callable[[Path], Mapping[str, Any]]) -> dict[str, Any]:
    """Let `fill` write into a fresh directory, seal it with a manifest, and rename it to `final`.

    Where `final` stands already, complete, nothing is done: same name, same content.

    Args:
        fill: writes files and returns the facts that the manifest shall carry.
    """
    if (final / MANIFEST).is_file():
        return verify(final)
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.parent / f".{final.name}.{uuid.uuid4().hex[:8]}"
    temporary.mkdir()
    try:
        manifest = write_manifest(temporary, fill(temporary))
        if final.exists():
            shutil.rmtree(final)
        temporary.rename(final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return manifest


def write_text(path: Path, text: str, mode: int | None = None) -> None:
    """Replace a file in one step. `mode` are its permissions, where the usual ones are too wide."""
    with replacing(path) as file:
        if mode is not None:
            os.fchmod(file.fileno(), mode)
        file.write(text.encode())


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Replace a file in one step, at the end of the block: a reader sees the old one or the new one, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def point(link: Path, target: Path) -> None:
    """Make `link` a symbolic link to `target`, replacing an older link in one step."""
    link.parent.mkdir(parents=True, exist_ok=True)
    temporary = link.with_name(f".{link.name}.{uuid.uuid4().hex[:8]}")
    temporary.symlink_to(os.path.relpath(target, link.parent))
    temporary.replace(link)
