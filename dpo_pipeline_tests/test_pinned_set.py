"""What is installed is what is pinned, by hash."""

import re
import subprocess
from pathlib import Path

from dpo_pipeline.settings import PROJECT_DIR

HASHED = re.compile(r"^(\S+)==(\S+) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.MULTILINE)


def test_every_pin_has_hashes() -> None:
    pins = (PROJECT_DIR / "constraints.txt").read_text().split()
    hashed = HASHED.findall((PROJECT_DIR / "requirements.txt").read_text())
    assert {f"{name}=={version}" for name, version, _ in hashed} == {each for each in pins if "torch==" not in each}, (
        "run `make lock`: constraints.txt has changed since"
    )


def installed_by(pip: Path) -> "subprocess.CompletedProcess[str]":
    command = ["sh", "tools/install_pinned.sh", "sh", str(pip)]
    return subprocess.run(command, cwd=PROJECT_DIR, capture_output=True, text=True, check=False)


def test_every_pin_is_installed_once_and_by_its_hash(tmp_path: Path) -> None:
    assert "install_pinned.sh $(HASHED)" in (PROJECT_DIR / "Makefile").read_text()
    pip = tmp_path / "pip.sh"
    pip.write_text(f'test "$1 $2 $3" = "--no-deps --require-hashes -r" && cp "$4" {tmp_path}\n')
    done = installed_by(pip)
    assert done.returncode == 0, done.stderr
    halves = [HASHED.findall((tmp_path / f"{half}.txt").read_text()) for half in (0, 1)]
    whole = HASHED.findall((PROJECT_DIR / "requirements.txt").read_text())
    assert sorted(halves[0] + halves[1]) == sorted(whole)
    assert abs(len(halves[0]) - len(halves[1])) <= 1


def test_an_installation_fails_with_either_half_of_it(tmp_path: Path) -> None:
    for half in (0, 1):
        pip = tmp_path / f"pip-{half}.sh"
        pip.write_text(f'case "$4" in */{half}.txt) echo "hash of {half} is another" >&2; exit 3;; esac\n')
        done = installed_by(pip)
        assert done.returncode == 3 and f"hash of {half} is another" in done.stderr
