"""What CONTRIBUTING.md says of where a new thing goes is true: its files are there, and a page needs no others."""

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from dpo_pipeline.settings import PROJECT_DIR


def test_every_file_of_the_table_is_there() -> None:
    told = (PROJECT_DIR / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = [line for line in told.splitlines() if line.startswith("| ")]
    paths = {path for row in rows for path in re.findall(r"`([\w./]+/[\w./]*)`", row)}
    assert len(rows) >= 6 and len(paths) > 20
    assert [path for path in sorted(paths) if not (PROJECT_DIR / path).exists()] == []


def test_every_name_stands_in_the_file_that_the_table_says() -> None:
    """`make_judge` in `dpo_pipeline/ml/evaluation.py`; of `a` and `b` in a file, both."""
    told = (PROJECT_DIR / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = "\n".join(line for line in told.splitlines() if line.startswith("| "))
    named = re.findall(r"((?:`\w+` and )?`\w+`) in `([\w./]+\.py)`", rows)
    places = [(name, path) for names, path in named for name in re.findall(r"\w+", names.replace(" and ", " "))]
    assert len(places) >= 15
    lacking = [(name, path) for name, path in places if name not in (PROJECT_DIR / path).read_text(encoding="utf-8")]
    assert lacking == []


def test_every_test_that_the_table_of_threats_names_is_there() -> None:
    told = (PROJECT_DIR / "SECURITY.md").read_text(encoding="utf-8")
    rows = [line.rsplit("|", 2)[1] for line in told.splitlines() if line.startswith("| ")]
    paths = {path for row in rows for path in re.findall(r"`([\w./]+\.py)`", row)}
    places = [PROJECT_DIR / "dpo_pipeline_tests", PROJECT_DIR]
    assert len(rows) >= 15 and len(paths) > 25
    assert [path for path in sorted(paths) if not any((place / path).exists() for place in places)] == []


@pytest.mark.slow
def test_a_new_page_is_a_module_and_a_line(tmp_path: Path) -> None:
    script = """
        import asyncio, sys
        from types import ModuleType

        import httpx
        from fastapi import FastAPI
        from dpo_pipeline.serving.pages import site
        from dpo_pipeline.serving.site_map import SitePage
        from dpo_pipeline.settings import load_settings

        def build(service):
            import gradio as gr
            gr.HTML("Good morning.")

        page = ModuleType("dpo_pipeline.serving.pages.greeting")
        page.build = build
        sys.modules[page.__name__] = page
        site.PAGES = (*site.PAGES, SitePage("Greeting", "greeting", "greeting", "Greeting", "A word.", ""))
        app = FastAPI()
        site.mount_pages(app, load_settings(data_dir=sys.argv[1]), lambda: None)

        async def get(path):
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as client:
                return await client.get(path)

        print(asyncio.run(get("/greeting")).text)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    assert "Good morning." in shown and "Leaderboard" in shown
