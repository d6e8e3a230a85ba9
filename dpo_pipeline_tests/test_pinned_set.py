"""What is installed is what is pinned, by hash."""

import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from dpo_pipeline.settings import PROJECT_DIR

HASHED = re.compile(r"^(\S+==\S.*) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.MULTILINE)


@pytest.mark.parametrize("of", ["", "-scaled", "-audit"])
def test_every_pin_has_hashes(of: str) -> None:
    pins = pinned(of)
    hashed = HASHED.findall((PROJECT_DIR / f"requirements{of}.txt").read_text())
    assert {Requirement(pin) for pin, _ in hashed} == {each for each in pins if each.name != "torch"}, (
        f"run `make lock`: constraints{of}.txt has changed since"
    )


def pinned(of: str = "") -> list[Requirement]:
    return [Requirement(line) for line in (PROJECT_DIR / f"constraints{of}.txt").read_text().splitlines()]


def named(of: str = "") -> dict[str, Requirement]:
    return {canonicalize_name(each.name): each for each in pinned(of)}


def test_the_tools_that_look_at_the_pinned_set_are_pinned_like_it() -> None:
    tools, ours = named("-audit"), named()
    assert {"pip-audit", "cyclonedx-bom"} <= tools.keys()
    both = tools.keys() & ours.keys()
    assert [tools[name].specifier for name in both] == [ours[name].specifier for name in both]
    makefile = (PROJECT_DIR / "Makefile").read_text()
    installing = [line for line in makefile.splitlines() if ".venv-audit/bin/pip install" in line]
    assert len(installing) == 1 and "--no-deps --require-hashes -r requirements-audit.txt" in installing[0]
    # Without it, where advisories cannot be reached everything is left out, and the answer is that nothing was found.
    assert "pip-audit --strict " in makefile
    assert "jsonschema" in tools and "--no-validate" not in makefile, "what `make sbom` writes is checked as CycloneDX"


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13", "3.14"])
def test_whatever_an_installation_needs_is_pinned(python: str) -> None:
    """Hashes are of what is listed; what is not would be fetched without. What torch brings depends on its build."""
    there = {"python_version": python, "python_full_version": f"{python}.0"}
    pins = {name for of in ("", "-scaled") for name, each in named(of).items()
            if each.marker is None or each.marker.evaluate(there)}  # fmt: skip
    waiting, seen = [("dpo-pipeline", frozenset({"dev", "scaled-dev"}))], set[tuple[str, frozenset[str]]]()
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen or name == "torch":
            continue
        seen.add((name, extras))
        try:
            asked = [Requirement(each) for each in requires(name) or ()]
        except PackageNotFoundError:  # of an extra that is not installed here
            continue
        for each in asked:
            if any(each.marker is None or each.marker.evaluate({**there, "extra": extra}) for extra in (*extras, "")):
                waiting.append((canonicalize_name(each.name), frozenset(each.extras)))
    assert {name for name, _ in seen} - pins == {"dpo-pipeline"}


@pytest.mark.nightly
@pytest.mark.timeout(900)
@pytest.mark.parametrize("of", ["", "-scaled"])
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13", "3.14"])
def test_for_every_python_there_is_a_wheel_whose_hash_is_listed(python: str, of: str, tmp_path: Path) -> None:
    """Without it pip takes an archive, which has to be built, by tools that nobody pinned."""
    asked = ["--dry-run", "--quiet", "--python-version", python, "--implementation", "cp", "--only-binary=:all:",
             "--no-deps", "--require-hashes", "--target", str(tmp_path),
             "-r", str(PROJECT_DIR / f"requirements{of}.txt")]  # fmt: skip
    found = subprocess.run(
        [sys.executable, "-m", "pip", "install", *asked], capture_output=True, text=True, check=False
    )
    if "NewConnectionError" in found.stderr:
        pytest.skip("no index of packages can be reached")
    assert found.returncode == 0, found.stderr


def test_what_is_past_one_machine_is_pinned_like_it() -> None:
    assert not named().keys() & named("-scaled").keys(), "each has one pin"
    makefile = (PROJECT_DIR / "Makefile").read_text()
    begin = makefile.index("$(SCALED): $(STAMP)")
    first_step = makefile[begin:].splitlines()[1]
    assert "$(HASHED) --no-deps --require-hashes -r requirements-scaled.txt" in first_step


def test_an_image_is_built_of_the_pinned_sets() -> None:
    """The files that installing is made of are in what Docker is given."""
    given = (PROJECT_DIR / "deploy" / "Dockerfile.dockerignore").read_text().split()
    makefile = (PROJECT_DIR / "Makefile").read_text()
    rules = re.findall(r"^\$\((?:STAMP|SCALED)\): (.*)$", makefile, re.MULTILINE)
    needed = {each for rule in rules for each in rule.split() if not each.startswith(("$", "tools/"))}
    assert {f"!{each}" for each in needed} | {"!tools"} <= set(given)


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
