"""Libraries load without the garbage collector, which is as it was afterwards."""

import gc
import subprocess
import sys

import pytest

from dpo_pipeline.quick_imports import quick_imports


def test_the_definitions_load_without_a_full_collection() -> None:
    """Each would look through all of Dagster, in every process that Dagster starts."""
    count = "gc.get_stats()[2]['collections']"
    code = f"import dagster, gc; was = {count}; import dpo_pipeline.definitions; print({count} - was, gc.isenabled())"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "True"]


def test_the_collector_is_as_it_was_also_where_an_import_fails() -> None:
    frozen = gc.get_freeze_count()
    for was in (gc.enable, gc.disable, gc.enable):
        was()
        before = gc.isenabled()
        with pytest.raises(ModuleNotFoundError), quick_imports():
            assert not gc.isenabled()
            import no_such_module  # type: ignore[import-not-found]  # noqa: F401
        assert gc.isenabled() == before
    assert gc.get_freeze_count() == frozen, "nothing was loaded, so nothing stays for good"
