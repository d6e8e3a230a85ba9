"""Which way imports go: light processes stay light, and `core` knows nobody."""

import ast
import subprocess
import sys
from functools import cache

from dpo_pipeline.settings import PROJECT_DIR

HEAVY = {"torch", "transformers", "trl", "peft", "mlflow", "gradio", "datasets"}
PACKAGE = PROJECT_DIR / "dpo_pipeline"
MAY_IMPORT = {
    "settings": set(),
    "core": {"core"},
    "stores": {"core", "stores"},
    "ml": {"core", "stores", "ml"},
    "loop": {"core", "stores", "ml", "reports", "simulation", "loop"},
    "reports": {"core", "reports"},
    "assets": {"core", "stores", "ml", "loop", "reports", "assets", "resources"},
    "automation": {"core", "stores", "loop", "assets", "automation", "resources"},
    "serving": {"core", "stores", "ml", "loop", "serving", "gate", "program_logs"},
    "simulation": {"core", "stores", "simulation"},
}
ALWAYS = {"settings", "errors", "request_errors", "in_words", "nearest", "machine", "quick_imports", "__version__"}
LONGEST, LONGEST_ELSEWHERE = 250, 400
"""Lines of a file: of the package, and of a test or benchmark."""
TWICE = {"Answer"}
"""What a model answers, and how a door of the server answers a refusal."""


@cache
def parsed() -> dict[str, ast.Module]:
    """Every module of the package by its name."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PROJECT_DIR).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def loaded_by(module: str) -> set[str]:
    code = f"import sys, {module}; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stdout.split()}


def test_loading_the_definitions_loads_no_model_library() -> None:
    assert not loaded_by("dpo_pipeline.definitions") & HEAVY


def test_core_loads_neither_dagster_nor_a_model_library() -> None:
    modules = ", ".join(name for name in parsed() if name.startswith("dpo_pipeline.core."))
    assert not loaded_by(modules) & (HEAVY | {"dagster", "duckdb", "sqlalchemy", "fastapi", "httpx"})


def test_the_command_line_starts_without_them_too() -> None:
    assert not loaded_by("dpo_pipeline.cli") & (HEAVY | {"dagster", "numpy"})


def imported(module: ast.Module) -> set[str]:
    """What it imports anywhere, also in functions and for types only; of `from a import b` both `a` and `a.b`."""
    names = set()
    for node in ast.walk(module):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def test_folders_import_only_what_they_may() -> None:
    wrong = []
    for name, module in parsed().items():
        folder = name.split(".")[1:2]
        for each in imported(module) if folder and folder[0] in MAY_IMPORT else ():
            parts = each.split(".")
            if parts[0] == "dpo_pipeline" and len(parts) > 1 and parts[1] not in MAY_IMPORT[folder[0]] | ALWAYS:
                wrong.append(f"{name} imports {each}")
    assert wrong == []


def test_no_module_imports_one_that_imports_it() -> None:
    """Nor by a detour, in a function, or for types only."""
    modules = parsed()
    left = {
        # A package's own `__init__` gathers what lies in it.
        name: {each for each in imported(module) & modules.keys() if not name.startswith(f"{each}.")}
        for name, module in modules.items()
    }
    while free := {name for name, needs in left.items() if not needs & left.keys() - {name}}:
        left = {name: needs for name, needs in left.items() if name not in free}
    assert sorted(left) == []


def test_one_word_means_one_thing() -> None:
    """No two public types have one name, whether classes or names given to types."""
    places: dict[str, list[str]] = {}
    for name, module in parsed().items():
        for node in module.body:
            if isinstance(node, ast.ClassDef) and node.name[0] != "_":
                places.setdefault(node.name, []).append(name)
            elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript):
                for target in node.targets:
                    if isinstance(target, ast.Name) and target.id[0].isupper() and not target.id.isupper():
                        places.setdefault(target.id, []).append(name)
    assert {each: found for each, found in places.items() if len(found) > 1 and each not in TWICE} == {}


def test_no_file_is_longer_than_can_be_read_at_once() -> None:
    folders = (PACKAGE, PROJECT_DIR / "dpo_pipeline_tests", PROJECT_DIR / "benchmarks")
    lengths = {path: len(path.read_bytes().splitlines()) for folder in folders for path in folder.rglob("*.py")}
    most = {path: LONGEST if path.is_relative_to(PACKAGE) else LONGEST_ELSEWHERE for path in lengths}
    assert {str(path.relative_to(PROJECT_DIR)): n for path, n in lengths.items() if n > most[path]} == {}
