"""The examples of the guide, as they stand: a page of another origin, and a script with the real openai client."""

import functools
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from dpo_pipeline.settings import PROJECT_DIR, Settings
from dpo_pipeline_tests.browser import chromium, tab
from dpo_pipeline_tests.programs_under_test import Server, serving
from dpo_pipeline_tests.serving.conftest import VARIABLES
from dpo_pipeline_tests.upstream import Upstream, answered_by

pytestmark = pytest.mark.slow
EXAMPLES = PROJECT_DIR / "docs" / "examples"


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def product() -> Iterator[str]:
    """Somebody else's web server; yields its origin."""
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(QuietHandler, directory=str(EXAMPLES))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def server(own_project: Settings, product: str, models: Upstream) -> Iterator[Server]:
    with serving(
        own_project.data_dir, **VARIABLES, **answered_by(models), DPO_ACCESS__ORIGINS=json.dumps([product])
    ) as running:
        yield running


def lines(settings: Settings) -> list[dict[str, Any]]:
    logs = [settings.prefs_log, *settings.serving_log_dir.glob("*.jsonl")]
    return [json.loads(line) for log in logs if log.exists() for line in log.read_text().splitlines()]


@pytest.mark.browser
def test_a_rating_and_a_vote_from_another_origin(server: Server, product: str, own_project: Settings) -> None:
    with chromium() as browser, tab(browser, f"{product}/product.html?api={server.url}", "#question") as opened:
        page = opened.page
        page.fill("#question", "How many legs does a spider have?")
        page.click("text=Ask >> nth=-1")
        page.wait_for_function("document.getElementById('answer').textContent.length > 0")
        page.get_by_label("4 of 5").click()
        page.wait_for_selector("text=Thank you.")
        page.click("#compare")
        page.wait_for_function("document.getElementById('right').textContent.length > 0")
        page.click("#right + button")
        page.wait_for_selector("text=Left was v1.")
        opened.errors.clear()  # the page has no icon, which is no error of ours
    found = lines(own_project)
    assert any((line.get("signal"), line.get("value")) == ("rating", 4) for line in found)
    vote = next(line for line in found if line.get("prompt") == "How many legs does a spider have?" and "vote" in line)
    assert vote["vote"] == ("b" if vote["left"] == "a" else "a") and vote["source"] == "api"


def test_the_script(server: Server, own_project: Settings) -> None:
    command = [sys.executable, str(EXAMPLES / "product.py"), server.url]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "v1.0 says:" in done.stdout and "rated: evt-" in done.stdout and "voted: {'event_id'" in done.stdout
