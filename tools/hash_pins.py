"""Write `requirements.txt`: the pinned set of `constraints.txt` with the hash of every file that pip may choose.
Likewise `requirements-scaled.txt`, what `make scaled` adds, and `requirements-audit.txt`, the tools of `make audit` and
`make sbom`.

Of each pin, wheels for the Pythons we support and the source archive, as the index that pip uses lists them (PEP 691).
torch is left out: which build it is, CPU or CUDA, is chosen when it is installed.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from packaging.requirements import Requirement

PROJECT = Path(__file__).resolve().parent.parent
VERSIONS = ("311", "312", "313", "314")
PYTHONS = {f"{kind}{version}" for kind in ("cp", "py") for version in VERSIONS} | {"py3", "py2.py3", "abi3"}
NOT_HASHED = {"torch"}
SETS = {
    "requirements.txt": ("constraints.txt", "`make setup` accepts"),
    "requirements-scaled.txt": ("constraints-scaled.txt", "`make scaled` accepts beside those of `make setup`"),
    "requirements-audit.txt": ("constraints-audit.txt", "`make audit` and `make sbom` accept"),
}


def main() -> None:
    for written, (pinned, by) in SETS.items():
        _write(PROJECT / written, pinned, by)


def _write(written: Path, pinned: str, by: str) -> None:
    lines = [line for line in (PROJECT / pinned).read_text().splitlines() if line.strip() and not line.startswith("#")]
    wanted = [pin for pin in map(Requirement, lines) if pin.name not in NOT_HASHED]
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda pin: sorted(set(_hashes(pin))), wanted))
    entries = []
    for pin, hashes in zip(wanted, found, strict=True):
        if not hashes:
            sys.exit(f"The index lists no file of {pin} that a supported Python could install.")
        entries.append(" \\\n".join([str(pin), *(f"    --hash=sha256:{each}" for each in hashes)]) + "\n")
    head = f"# Made by `make lock` from {pinned}; what is listed is all that {by}.\n"
    written.write_text(head + "".join(entries))
    print(f"{written.name}: {len(entries)} packages, {sum(map(len, found))} files")


def _hashes(pin: Requirement) -> Iterator[str]:
    version = str(pin.specifier).removeprefix("==")
    address = f"{_index()}/{re.sub(r'[-_.]+', '-', pin.name).lower()}/"
    answer = httpx.get(address, headers={"Accept": "application/vnd.pypi.simple.v1+json"}, timeout=60)
    for file in answer.raise_for_status().json()["files"]:
        wheel = file["filename"].endswith(".whl")
        stem = re.sub(r"\.(whl|tar\.gz|zip)$", "", file["filename"])
        # Of an archive the name may have hyphens, of a wheel it has none (PEP 427).
        found, *tags = stem.split("-")[1:] if wheel else [stem.rpartition("-")[2]]
        if found == version and not file.get("yanked") and (not wheel or set(tags) & PYTHONS):
            yield file["hashes"]["sha256"]


def _index() -> str:
    """Of pip's own settings, or PyPI."""
    if set_here := os.environ.get("PIP_INDEX_URL"):
        return set_here.rstrip("/")
    asked = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    told = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    return (told or "https://pypi.org/simple").rstrip("/")


if __name__ == "__main__":
    main()
