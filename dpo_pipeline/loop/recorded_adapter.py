"""The adapter of a version: on disk is what the ledger has, or it is not used."""

from pathlib import Path

from dpo_pipeline.errors import ArtifactCorrupt
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores import artifacts
from dpo_pipeline.stores.ledger import VersionRecord
from dpo_pipeline.stores.shared_artifacts import fetch


def adapter_folder(settings: Settings, record: VersionRecord) -> Path:
    """Where a version's adapter is on this machine: under its hash, or where the ledger says that it was put; brought
    from the shared store where it is not here yet.

    Raises:
        ArtifactCorrupt, ArtifactUnavailable: the store has something else, or does not answer.
    """
    by_hash, recorded = settings.artifacts_dir / "adapters" / str(record.adapter_sha)[:16], str(record.adapter_dir)
    for folder in (by_hash, Path(recorded)):
        if (folder / artifacts.MANIFEST).is_file():
            return folder
    return by_hash if fetch(settings, by_hash).is_dir() else Path(recorded)


def adapter_of(settings: Settings, record: VersionRecord) -> Path:
    """The folder of a version's adapter, every file of it hashed again.

    Raises:
        ArtifactMissing, ArtifactCorrupt: the folder is not there, or holds something else.
        ArtifactUnavailable: as `adapter_folder`.
    """
    folder = adapter_folder(settings, record)
    found = artifacts.verify(folder)["sha256"]
    if found != record.adapter_sha:
        raise ArtifactCorrupt(
            f"{folder} holds {found[:12]}; {record.name} is {str(record.adapter_sha)[:12]}. Somebody put other weights "
            "there: bring the folder back from a backup, or roll the version back."
        )
    return folder
