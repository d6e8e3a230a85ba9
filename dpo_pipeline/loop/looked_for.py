"""By what somebody is looked for while they are forgotten, kept until the last look is done.

Pseudonyms and texts leave the logs that they are read from before the last look. Interrupted in between, the same
removal again would not know them any more, and would find nothing. One file, for its owner alone, gone afterwards.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from dpo_pipeline.request_errors import InvalidRequest
from dpo_pipeline.stores.artifacts import write_text

FILE = "looked_for.json"


@dataclass(frozen=True)
class LookedFor:
    """`people` are pseudonyms; `name` as it stands beside a key, empty where they hold none."""

    people: tuple[str, ...]
    name: str
    texts: tuple[str, ...]


def with_interrupted(data_dir: Path, people: tuple[str, ...], name: str) -> LookedFor:
    """Whom to remove, and by which texts: with what an interrupted removal of any of these people knew.

    Raises:
        InvalidRequest: a removal of somebody else was interrupted. It goes first: the logs may be half rewritten.
    """
    if not kept_in(data_dir).exists():
        return LookedFor(people, name, ())
    kept = json.loads(kept_in(data_dir).read_text(encoding="utf-8"))
    before = LookedFor(tuple(kept["people"]), kept["name"], tuple(kept["texts"]))
    if not set(before.people) & set(people):
        raise InvalidRequest(
            f"The removal of {before.people[0]} was interrupted, and nobody else is removed before it is done: "
            f"`dpo forget {before.people[0]} --pseudonym`, and then this again."
        )
    return LookedFor(tuple(dict.fromkeys([*people, *before.people])), name or before.name, before.texts)


def begin(data_dir: Path, wanted: LookedFor) -> None:
    write_text(kept_in(data_dir), json.dumps(asdict(wanted)), mode=0o600)


def end(data_dir: Path) -> None:
    """The last look is done."""
    kept_in(data_dir).unlink(missing_ok=True)


def kept_in(data_dir: Path) -> Path:
    return data_dir / FILE
