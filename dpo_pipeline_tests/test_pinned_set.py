"""What is installed is what is pinned, by hash."""

import re

from dpo_pipeline.settings import PROJECT_DIR

HASHED = re.compile(r"^(\S+)==(\S+) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.MULTILINE)


def test_every_pin_has_hashes() -> None:
    pins = (PROJECT_DIR / "constraints.txt").read_text().split()
    hashed = HASHED.findall((PROJECT_DIR / "requirements.txt").read_text())
    assert {f"{name}=={version}" for name, version, _ in hashed} == {each for each in pins if "torch==" not in each}, (
        "run `make lock`: constraints.txt has changed since"
    )
    assert "--require-hashes -r requirements.txt" in (PROJECT_DIR / "Makefile").read_text()
