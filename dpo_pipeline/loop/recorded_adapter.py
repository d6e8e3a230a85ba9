"""The adapter of a version: on disk is what the ledger has, or it is not used."""

from pathlib import Path

from dpo_pipeline.errors import ArtifactCorrupt
from dpo_pipeline.stores import artifacts
from dpo_pipeline.stores.ledger import VersionRecord


def adapter_of(record: VersionRecord) -> Path:
    """The folder of a version's adapter, every file of it hashed again.

    Raises:
        ArtifactMissing, ArtifactCorrupt: the folder is not there, or holds something else.
    """
    folder = Path(str(record.adapter_dir))
    found = artifacts.verify(folder)["sha256"]
    if found != record.adapter_sha:
        raise ArtifactCorrupt(
            f"{folder} holds {found[:12]}; {record.name} is {str(record.adapter_sha)[:12]}. Somebody put other weights "
            "there: bring the folder back from a backup, or roll the version back."
        )
    return folder
