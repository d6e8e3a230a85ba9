"""One person under several pseudonyms becomes one again.

Earlier versions of this program made a pseudonym of a name as it was typed, so that the same name in other Unicode
letters, or with a space behind it, was somebody else. Only the name itself tells which pseudonyms those are: a keyed
hash leads nowhere back. Runs while the programs are stopped; interrupted, it can simply be run again.
"""

import fcntl
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from dpo_pipeline.loop.curate import rebuild_warehouse
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.artifacts import replacing
from dpo_pipeline.stores.ledger import utc_now
from dpo_pipeline.stores.log import days_of
from dpo_pipeline.stores.pseudonyms import known_pseudonyms
from dpo_pipeline.stores.serving_state import join_people


@dataclass(frozen=True)
class Joined:
    """How much stood under other spellings: lines of the preference log, of other logs, rows of the serving state."""

    votes: int = 0
    lines: int = 0
    rows: int = 0


def join_spellings(settings: Settings, name: str) -> Joined:
    """Write the pseudonym that `name` has now wherever one of its earlier ones stands.

    The next curation run validates all votes anew: two votes on one pair that were two people's are one's now.
    """
    person, *earlier = known_pseudonyms(name, settings) or [""]
    if not earlier:
        return Joined()
    others = [settings.quarantine_log, *days_of(settings.serving_log_dir), *days_of(settings.served_texts_dir)]
    lines = sum(_rewrite(path, earlier, person) for path in others)
    rows = join_people(settings.serving_state, earlier, person)
    votes = _rewrite(settings.prefs_log, earlier, person)
    if votes:
        rebuild_warehouse(settings, utc_now())
    return Joined(votes, lines, rows)


def _rewrite(path: Path, earlier: Collection[str], person: str) -> int:
    """How many lines changed; a file without any stays as it is.

    Whole JSON strings only: what people typed may hold such digits too, and its quotation marks are escaped.
    """
    if not path.exists():
        return 0
    changed = 0
    with path.open("rb") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        if not any(_joined(line, earlier, person) != line for line in log):
            return 0
        log.seek(0)
        with replacing(path) as file:
            for line in log:
                joined = _joined(line, earlier, person)
                changed += joined != line
                file.write(joined)
    return changed


def _joined(line: bytes, earlier: Collection[str], person: str) -> bytes:
    for each in earlier:
        line = line.replace(f'"{each}"'.encode(), f'"{person}"'.encode())
    return line
