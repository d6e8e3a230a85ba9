"""Which way imports go: light processes stay light, and `core` knows nobody."""

import ast
import subprocess
import sys

from dpo_pipeline.settings import PROJECT_DIR

HEAVY = {"torch", "transformers", "trl", "peft", "mlflow", "gradio", "datasets"}
PACKAGE = PROJECT_DIR / "dpo_pipeline"
MAY_IMPORT = {
    "core": {"core"},
    "stores": {"core", "stores"},
    "ml": {"core", "stores", "ml"},
    "loop": {"core", "stores", "ml", "reports", "simulation", "loop"},
    "reports": {"core", "reports"},
    "assets": {"core", "stores", "ml", "loop", "reports", "assets", "resources"},
    "serving": {"core", "stores", "ml", "loop", "serving", "gate", "program_logs"},
    "simulation": {"core", "stores", "simulation"},
}
ALWAYS = {"settings", "errors", "__init__"}


def loaded_by(module: str) -> set[str]:
    code = f"import sys, {module}; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stdout.split()}


def test_loading_the_definitions_loads_no_model_library() -> None:
    assert not loaded_by("dpo_pipeline.definitions") & HEAVY


def test_core_loads_neither_dagster_nor_a_model_library() -> None:
    modules = ", ".join(f"dpo_pipeline.core.{path.stem}" for path in (PACKAGE / "core").glob("[!_]*.py"))
    assert not loaded_by(modules) & (HEAVY | {"dagster", "duckdb", "sqlalchemy", "fastapi", "httpx"})


def test_the_command_line_starts_without_them_too() -> None:
    assert not loaded_by("dpo_pipeline.cli") & (HEAVY | {"dagster"})


def test_folders_import_only_what_they_may() -> None:
    wrong = []
    for folder, allowed in MAY_IMPORT.items():
        for path in (PACKAGE / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
                names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                for name in names:
                    parts = name.split(".")
                    if parts[0] == "dpo_pipeline" and len(parts) > 1 and parts[1] not in allowed | ALWAYS:
                        wrong.append(f"{path.relative_to(PROJECT_DIR)} imports {name}")
    assert wrong == []
