"""What a base model is known by: a hash over all that decides what it is asked and answers, remembered per file."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from dpo_pipeline.settings import Settings
from dpo_pipeline.stores import artifacts

STAMPED = ("st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")
EARLIER_STAMPED = ("st_size", "st_mtime_ns")
"""What earlier programs knew a file by."""
_WEIGHTS = ("*.safetensors", "config.json", "tokenizer.json")
DECIDING = (
    *_WEIGHTS,
    *("*.safetensors.index.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json"),
    *("added_tokens.json", "chat_template.json", "chat_template.jinja", "vocab.json", "merges.txt", "*.model"),
)
"""All that decides what a model is asked and what it answers: with another chat template it is another base."""


def known_identities(artifacts_dir: Path) -> Path:
    return artifacts_dir / "base" / "known.json"


def content_of(files: Sequence[Path], known: Path, settings: Settings | None = None) -> str:
    """sha256 over names and content of the files; `known` remembers it, so that gigabytes are read once.

    Args:
        settings: of a data folder whose adapters may be bound to the files by an earlier rule.
    """
    identities: dict[str, str] = json.loads(known.read_text()) if known.exists() else {}
    stamp = _stamp(files)
    if stamp not in identities:
        hashes = {path.name: artifacts.file_sha256(path) for path in files}
        content = artifacts.content_sha(hashes)
        identities.pop(_stamp(_of_weights(files), EARLIER_STAMPED), None)  # as an earlier program remembered it
        earlier = _earlier_identity(files, hashes, settings) if settings else None
        # Once: what is changed after that is another base.
        taken = earlier is None or earlier in identities.values()
        identities[stamp] = identities[content] = identities.get(content) or (content if taken else str(earlier))
        artifacts.write_text(known, json.dumps(identities, indent=2))
    return identities[stamp]


def _earlier_identity(files: Sequence[Path], hashes: Mapping[str, str], settings: Settings) -> str | None:
    """The identity from before templates and generation settings counted, where versions of this folder have it."""
    from dpo_pipeline.stores.ledger import Ledger  # not at the top: trainings that only load a base need no database

    counted = artifacts.content_sha({path.name: hashes[path.name] for path in _of_weights(files)})
    with Ledger(settings.ledger_address) as ledger:
        return counted if any(record.base_sha == counted for record in ledger.versions()) else None


def _of_weights(files: Sequence[Path]) -> list[Path]:
    return [path for path in files if any(path.match(pattern) for pattern in _WEIGHTS)]


def files_in(directory: Path, patterns: Sequence[str]) -> list[Path]:
    return sorted({path for pattern in patterns for path in directory.glob(pattern)})


def _stamp(files: Sequence[Path], names: Sequence[str] = STAMPED) -> str:
    """Changes when a file is added, removed, moved or written: the time of a file's last change cannot be set."""
    stats = [(path, path.stat()) for path in files]
    rows = [[str(path), *(getattr(stat, name) for name in names)] for path, stat in stats]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()
