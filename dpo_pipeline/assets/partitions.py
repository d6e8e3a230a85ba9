"""What the assets share: the partition by version name, the owner, the pool of the warehouse."""

import ast
import hashlib
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import dagster as dg

from dpo_pipeline.reports.plots import Draw, png_markdown
from dpo_pipeline.settings import Settings

_MARKUP = re.compile(r"[\\|\[\]<>`]")
VERSIONS = dg.DynamicPartitionsDefinition(name="versions")
OWNERS = ["team:llmops"]
# DuckDB admits one writer and nobody beside it: whatever opens the warehouse waits here for its turn.
WAREHOUSE_POOL = "warehouse"
# Training and evaluation use all cores (or the one GPU).
COMPUTE_POOL = "compute"


def code_version(*modules: str) -> str:
    """What Dagster compares to tell that an asset was made by other code: the syntax of the modules that decide it.

    Comments, docstrings and layout do not count, nor does what those modules import: name it too.

    Args:
        modules: as in `core.quality`.
    """
    return hashlib.sha256("\0".join(map(_syntax, modules)).encode()).hexdigest()[:12]


@cache
def _syntax(module: str) -> str:
    """A hash of a module's nodes and names in their order, without `ast.dump`, which takes three times as long: every
    process of Dagster's begins with this.
    """
    spec = find_spec(f"dpo_pipeline.{module}")
    assert spec and spec.origin, f"there is no module dpo_pipeline.{module}"
    found: list[str] = []
    _collect(ast.parse(Path(spec.origin).read_text(encoding="utf-8")), found)
    return hashlib.sha256(" ".join(found).encode()).hexdigest()


def _collect(node: object, found: list[str]) -> None:
    """Without texts that stand alone: docstrings, and those below constants."""
    match node:
        case ast.Expr(value=ast.Constant(value=str())):
            return
        case ast.AST():
            found.append(type(node).__name__)
            for name in node._fields:
                _collect(getattr(node, name), found)
        case list():
            found.append("[")
            for each in node:
                _collect(each, found)
            found.append("]")
        case _:
            found.append(repr(node))


def when_inputs_change(cron: str) -> dg.AutomationCondition[dg.AssetKey | dg.AssetCheckKey]:
    """Follow what the asset is made from, at most once between two ticks of a clock.

    Args:
        cron: in UTC; a run costs some seconds of a core, so that not every vote is worth one.
    """
    condition = dg.AutomationCondition[dg.AssetKey | dg.AssetCheckKey]
    # Of two updates between two looks Dagster knows the order only so: with `any_deps_updated` and `since_last_handled`
    # what changed right after the asset was made would be lost.
    changed = condition.any_deps_match(condition.newly_updated()).since(condition.newly_updated())
    tick = condition.cron_tick_passed(cron).since_last_handled()
    return changed & tick & ~(condition.in_progress() | condition.any_deps_in_progress())


def data_version(*parts: object) -> dg.DataVersion:
    """A content hash as Dagster shows it."""
    return dg.DataVersion(hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:16])


def plot(draw: Draw, name: str) -> dg.MetadataValue:
    """A plot as Dagster shows one: markdown that carries its picture."""
    return dg.MetadataValue.md(png_markdown(draw, name))


def page(settings: Settings, address: str, file: Path) -> dg.MetadataValue:
    """A page as Dagster leads to it: where serving shows it, or the file, where there are no pages.

    Args:
        address: below that of serving.
    """
    shown = settings.page_address(address)
    return dg.MetadataValue.url(shown) if shown else dg.MetadataValue.path(file)


def table(rows: list[dict[str, object]]) -> dg.MetadataValue:
    """Rows with the same keys as a markdown table; null is an empty cell."""
    if not rows:
        return dg.MetadataValue.md("_none_")
    head = list(rows[0])
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(_cell(row[name]) for name in head) + " |" for row in rows]
    return dg.MetadataValue.md("\n".join(lines))


def _cell(value: object) -> str:
    """A text is no markup: it neither ends a cell or a row, nor becomes a link, a picture or HTML."""
    return "" if value is None else _MARKUP.sub(r"\\\g<0>", " ".join(str(value).split()))
