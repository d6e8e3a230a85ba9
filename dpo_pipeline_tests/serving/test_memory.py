"""What a server that runs for months must not keep: tabs that were closed, and memory that was freed."""

import ctypes
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from dpo_pipeline.serving.app import return_memory

pytestmark = pytest.mark.slow
# In a process of its own: Gradio leaves event loops behind that nobody closes.
SCRIPT = """
from datetime import timedelta
from pathlib import Path
import sys
from fastapi import FastAPI
from dpo_pipeline.serving.pages.site import CLOSED_FOR, forget_closed_tabs, mount_pages
from dpo_pipeline.settings import load_settings

site = mount_pages(FastAPI(), load_settings(data_dir=Path(sys.argv[1])), lambda: None)
holder = site.state_holder
for name in ("open for long", "closed just now", "closed for long"):
    holder[name].is_closed = name != "open for long"
    if name != "closed just now":
        holder.time_last_used[name] -= CLOSED_FOR + timedelta(seconds=1)
print(forget_closed_tabs(site), sorted(holder.session_data), sorted(holder.time_last_used), forget_closed_tabs(site))
"""


def test_closed_tabs_are_forgotten_and_open_ones_kept(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, check=False)
    left = ["closed just now", "open for long"]
    assert done.stdout.strip() == f"1 {left} {left} 0", done.stderr


def test_freed_memory_goes_back_to_the_system() -> None:
    """Blocks below the size that glibc maps by itself, and the last one kept: the others are holes below it."""
    if not hasattr(ctypes.CDLL(None), "malloc_trim"):
        pytest.skip("only glibc keeps such holes")
    blocks = [b"x" * 100_000 for _ in range(1000)]
    del blocks[:-1]
    held = psutil.Process().memory_info().rss
    return_memory()
    assert held - psutil.Process().memory_info().rss > 50e6
