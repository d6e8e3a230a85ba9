"""Sealed folders of several machines in one store, such as a bucket of S3; the data folder of each is a cache of it.

Content lies under its sha256, so that equal files are one and none is ever overwritten. A folder is there once its
manifest is: that comes last, and only where there is none. Whatever is brought here is hashed before it is used.
"""

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock

from dpo_pipeline.errors import ArtifactCorrupt, ArtifactUnavailable, DpoError, SettingsError
from dpo_pipeline.in_words import fault
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.artifacts import CARD, MANIFEST, replacing, verify

CONTENT, FOLDERS, FILES = "content", "folders", "files"


class ArtifactStore:
    """The store behind an address that fsspec knows, for one data folder.

    Args:
        url: such as s3://bucket/path; credentials and endpoint come from where fsspec looks for them.
    """

    def __init__(self, url: str, data_dir: Path):
        self.url, self._dir = url, data_dir
        self._fs, root = _file_system(url)
        self._root = PurePosixPath(root)

    def push(self, folder: Path) -> None:
        """Put a sealed folder into the store; where it is there, nothing is done.

        Raises:
            ArtifactCorrupt: the folder is not as its manifest says, or another one of this name is there.
            ArtifactUnavailable: the store does not answer; what was put there is no folder yet.
        """
        manifest = verify(folder)
        data, place = (folder / MANIFEST).read_bytes(), self._place(FOLDERS, f"{self._name(folder)}.json")
        with self._asking():
            for name, sha in _content(manifest).items():
                self._put_content(folder / name, sha)
            if not self._fs.exists(place):
                self._create(place, data)
            found = json.loads(self._fs.cat_file(place))["sha256"]
        if found != manifest["sha256"]:
            raise ArtifactCorrupt(
                f"{place} at {self.url} is {found[:12]}, {folder} is {manifest['sha256'][:12]}: two machines made "
                "different folders of one name. The one in the store stays; delete the folder here to have it brought."
            )

    def pull(self, folder: Path) -> bool:
        """Bring a sealed folder here, whole; false: the store has none of this name. One that is here already stays.

        Raises:
            ArtifactCorrupt: what the store has is not what it should be; nothing is left of it here.
            ArtifactUnavailable: the store does not answer.
        """
        if (folder / MANIFEST).is_file():
            return True
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")):  # two threads, or programs, may want it at once
            return (folder / MANIFEST).is_file() or self._pull(folder)

    def _pull(self, folder: Path) -> bool:
        place = self._place(FOLDERS, f"{self._name(folder)}.json")
        fresh = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
        try:
            with self._asking():
                self._fs.invalidate_cache()
                if not self._fs.exists(place):
                    return False
                data = self._fs.cat_file(place)
                fresh.mkdir()
                for name, sha in _content(json.loads(data)).items():
                    self._get_content(fresh / name, sha)
            (fresh / MANIFEST).write_bytes(data)
            verify(fresh)
            shutil.rmtree(folder, ignore_errors=True)  # one that was never finished
            fresh.rename(folder)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        return True

    def folders(self, below: Path) -> list[Path]:
        """Where the store's folders below a path would be here; raises ArtifactUnavailable."""
        place = self._place(FOLDERS, self._name(below))
        with self._asking():
            self._fs.invalidate_cache()
            found = self._fs.find(place) if self._fs.exists(place) else []
        names = (each for each in sorted(found) if each.endswith(".json"))
        return [below / PurePosixPath(each).relative_to(place).with_suffix("") for each in names]

    def drop(self, folder: Path) -> None:
        """The folder goes, and of its content what no other folder has.

        Raises:
            ArtifactUnavailable
        """
        place = self._place(FOLDERS, f"{self._name(folder)}.json")
        with self._asking():
            self._fs.invalidate_cache()
            if not self._fs.exists(place):
                return
            unused = set(_content(json.loads(self._fs.cat_file(place))).values())
            self._fs.rm_file(place)  # first: without its content it would be a folder that nobody can have
            for other in self._fs.find(self._place(FOLDERS)):
                unused -= set(_content(json.loads(self._fs.cat_file(other))).values())
            for sha in unused:
                if self._fs.exists(content := self._place(CONTENT, sha[:2], sha)):
                    self._fs.rm_file(content)

    def drop_files(self, below: Path) -> None:
        """Files that `push_file` put below a path; raises ArtifactUnavailable."""
        place = self._place(FILES, self._name(below))
        with self._asking():
            self._fs.invalidate_cache()
            if self._fs.exists(place):
                self._fs.rm(place, recursive=True)

    def push_file(self, path: Path) -> None:
        """Put a file there that is rewritten now and then, such as a page; the last one stays.

        Raises:
            ArtifactUnavailable
        """
        with self._asking():
            self._fs.makedirs(str(PurePosixPath(self._place(FILES, self._name(path))).parent), exist_ok=True)
            self._fs.pipe_file(self._place(FILES, self._name(path)), path.read_bytes())

    def pull_file(self, path: Path) -> bool:
        """Bring such a file here, over what is here; false: the store has none. Raises ArtifactUnavailable."""
        place = self._place(FILES, self._name(path))
        with self._asking():
            self._fs.invalidate_cache()
            if not self._fs.exists(place):
                return False
            data = self._fs.cat_file(place)
        with replacing(path) as file:
            file.write(data)
        return True

    def _put_content(self, path: Path, sha: str) -> None:
        """A file of another size is what an upload left that broke off."""
        place = self._place(CONTENT, sha[:2], sha)
        if not self._fs.exists(place) or self._fs.size(place) != path.stat().st_size:
            self._fs.makedirs(str(PurePosixPath(place).parent), exist_ok=True)
            self._fs.put_file(str(path), place)

    def _get_content(self, path: Path, sha: str) -> None:
        """
        Raises:
            ArtifactCorrupt: the store lacks it.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._fs.get_file(self._place(CONTENT, sha[:2], sha), str(path))
        except FileNotFoundError as error:
            raise ArtifactCorrupt(
                f"{self.url} lacks {path.name} ({sha[:12]}) of {path.parent.name}. Materialize it again."
            ) from error
        with path.open("rb") as file:
            os.fsync(file.fileno())

    def _create(self, place: str, data: bytes) -> None:
        """Where there is nothing, whole; what another machine put there meanwhile stays."""
        self._fs.makedirs(str(PurePosixPath(place).parent), exist_ok=True)
        try:
            if hasattr(self._fs, "link"):  # a disk: a file that is being written could be read already
                self._fs.pipe_file(fresh := f"{place}.{uuid.uuid4().hex[:8]}", data)
                try:
                    self._fs.link(fresh, place)
                finally:
                    self._fs.rm_file(fresh)
            else:
                self._fs.pipe_file(place, data, mode="create")
        except OSError:
            self._fs.invalidate_cache()
            if not self._fs.exists(place):
                raise

    def _place(self, *parts: str) -> str:
        return str(self._root.joinpath(*parts))

    def _name(self, path: Path) -> str:
        return path.relative_to(self._dir).as_posix()

    @contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except DpoError:
            raise
        except Exception as error:  # whatever the library of this store has for it
            raise ArtifactUnavailable(
                f"{self.url} did not do it: {fault(error)}. Start that store, or fix "
                "DPO_ARTIFACTS_URL and its credentials; then try again."
            ) from error


def _content(manifest: dict[str, Any]) -> dict[str, str]:
    """sha256 by name of what is kept; a card is rewritten as more is known, and stays where it is."""
    return {name: sha for name, sha in manifest["files"].items() if name != CARD}


def store_of(settings: Settings) -> ArtifactStore | None:
    """The store that is set; null: the artifacts of this machine are its own."""
    return ArtifactStore(settings.artifacts_url, settings.data_dir) if settings.artifacts_url else None


def share(settings: Settings, folder: Path) -> None:
    """Let the other machines have a sealed folder, where there are some; raises as `ArtifactStore.push`."""
    if store := store_of(settings):
        store.push(folder)


def fetch(settings: Settings, folder: Path) -> Path:
    """The same folder, brought here where it is not and a store has it; raises as `ArtifactStore.pull`."""
    if store := store_of(settings):
        store.pull(folder)
    return folder


@cache
def _file_system(url: str) -> tuple[Any, str]:
    import fsspec  # a tenth of a second, and s3fs half of one, that only whoever shares a store shall wait

    try:
        file_system, root = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise SettingsError(
            f"DPO_ARTIFACTS_URL={url}: {error}. Run `make scaled` for S3; other stores need their fsspec package."
        ) from error
    return file_system, root
