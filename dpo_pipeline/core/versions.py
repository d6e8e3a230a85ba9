"""Names and lineage of versions: v1.0 is the SFT baseline, v1.n the n-th DPO version."""

import re

from dpo_pipeline.errors import UnknownVersion

BASELINE = "v1.0"
_NAME = re.compile(r"v1\.(0|[1-9]\d*)")


def iteration(name: str) -> int:
    """The n of v1.n.

    Raises:
        UnknownVersion: the name is not of that form.
    """
    match = _NAME.fullmatch(name)
    if not match:
        raise UnknownVersion(f"{name!r} is not a version name. Versions are called v1.0, v1.1, v1.2 and so on.")
    return int(match.group(1))


def version_name(n: int) -> str:
    return f"v1.{n}"


def served_name(text: str) -> str:
    """The version a person means by `chat-v1.1`, the name the pages show, or by `v1.1`."""
    return text.removeprefix("chat-")


def next_version(existing: list[str]) -> str:
    """The name after the newest one; names are never used twice, rejected versions keep theirs."""
    return version_name(max((iteration(name) for name in existing), default=-1) + 1)
