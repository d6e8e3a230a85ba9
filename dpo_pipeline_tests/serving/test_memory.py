"""What a server that runs for months must not keep: tabs that were closed, and memory that was freed."""

import ctypes
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import psutil
import pytest

from dpo_pipeline.serving.app import return_memory
from dpo_pipeline.serving.page_queue import MOST_UNREAD
from dpo_pipeline.settings import Settings
from dpo_pipeline_tests.programs_under_test import Server, serving
from dpo_pipeline_tests.serving.conftest import WITH_PAGES
from dpo_pipeline_tests.upstream import Upstream, answered_by

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


# Of Gradio the real tables; what stands behind the queue notes what Gradio would.
QUEUE = """
import asyncio, json, sys
from datetime import timedelta
from pathlib import Path
from fastapi import FastAPI
from dpo_pipeline.serving.page_queue import IN_USE_S, JOIN, MOST_UNREAD_TOGETHER, PageQueue
from dpo_pipeline.serving.pages.site import mount_pages
from dpo_pipeline.settings import Limits, load_settings

site = mount_pages(FastAPI(), load_settings(data_dir=Path(sys.argv[1])), lambda: None)
holder, unread, told = site.state_holder, site._queue.pending_event_ids_session, []

async def gradio(scope, receive, send):
    page = json.loads((await receive())["body"])["session_hash"]
    holder[page]
    unread.setdefault(page, set()).add("event")
    told.append("taken")

async def refused(error, scope, receive, send):
    told.append(f"{error.status} {error}")

queue = PageQueue(gradio, site, Limits(open_pages=3, open_pages_per_address=2), refused)

def joined(address, page):
    async def receive():
        return {"type": "http.request", "body": json.dumps({"session_hash": page}).encode(), "more_body": False}
    scope = {"type": "http", "method": "POST", "path": JOIN, "client": (address, 1)}
    asyncio.run(queue(scope, receive, None))
    return told[-1]

first = [joined(*each) for each in (("192.0.2.1", "a"), ("192.0.2.1", "b"), ("192.0.2.2", "c"))]
full = joined("192.0.2.3", "d")
holder.time_last_used["b"] -= timedelta(seconds=IN_USE_S + 1)
room = joined("192.0.2.3", "d")
left = [sorted(table) for table in (holder.session_data, holder.time_last_used, unread)]
unread["c"] = set(range(MOST_UNREAD_TOGETHER))
print(json.dumps([first, full, room, left, joined("192.0.2.3", "d"), joined("192.0.2.2", "c")]))
"""


def test_a_page_that_nobody_uses_makes_room_and_what_waits_unread_is_bounded_for_all_together(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", QUEUE, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, full, room, left, anybody, theirs = json.loads(done.stdout)
    assert first == ["taken"] * 3 and full.startswith("503 3 pages are in use")
    assert room == "taken" and left == [["a", "c", "d"]] * 3, "nothing is kept of the page that made room"
    assert anybody == "503 2000 answers of pages wait to be read. Try again shortly."
    assert theirs.startswith("429 2000 answers of pages wait for 192.0.2.2")


@pytest.fixture(scope="module")
def small(own_project: Settings, models: Upstream) -> Iterator[Server]:
    limits = {"DPO_LIMITS__OPEN_PAGES": "30", "DPO_LIMITS__OPEN_PAGES_PER_ADDRESS": "20"}
    with serving(own_project.data_dir, **WITH_PAGES, **answered_by(models), **limits) as running:
        yield running


def queued(server: Server) -> int:
    """The number of a function that pages ask for by the queue."""
    events = server.client.get("/config").json()["dependencies"]
    return next(each["id"] for each in events if each["queue"] is not False and each["backend_fn"])


def joined(server: Server, address: str, page: str, number: int) -> httpx.Response:
    body = {"data": [], "fn_index": number, "session_hash": page}
    headers = {"X-Forwarded-For": address}
    return server.client.post("/gradio_api/queue/join", json=body, headers=headers)


def test_one_address_opens_so_many_pages_and_all_together_so_many(small: Server) -> None:
    number = queued(small)

    def of(address: str, amount: int) -> list[int]:
        with ThreadPoolExecutor(8) as pool:
            ask = partial(joined, small, address, number=number)
            return [each.status_code for each in pool.map(lambda page: ask(page=f"{address} {page}"), range(amount))]

    assert sorted(of("198.51.100.1", 40)) == [200] * 20 + [429] * 20
    told = joined(small, "198.51.100.1", "one more", number)
    assert "20 pages are open from 198.51.100.1" in told.json()["error"]["message"] and told.headers["retry-after"]
    assert sorted(of("198.51.100.2", 14)) == [200] * 10 + [503] * 4
    full = joined(small, "198.51.100.2", "one more", number)
    assert full.json()["error"]["code"] == "pages_full" and "30 pages are in use" in full.text
    assert joined(small, "198.51.100.1", "198.51.100.1 0", number).status_code == 200, "whoever is there goes on"
    past = {"data": [], "fn_index": number, "session_hash": "past the queue"}
    for path in ("/gradio_api/run/predict", "/gradio_api/component_server"):
        assert small.client.post(path, json=past).status_code == 503, path
    utf16 = json.dumps(past | {"session_hash": "read in another way"}).encode("utf-16")
    asked = {"Content-Type": "application/json"}
    assert small.client.post("/gradio_api/queue/join", content=utf16, headers=asked).status_code == 503
    assert joined(small, "198.51.100.3", "x" * 101, number).status_code == 400


def test_answers_that_nobody_reads_are_so_many(small: Server) -> None:
    number = queued(small)
    answers = [joined(small, "198.51.100.1", "198.51.100.1 0", number) for _ in range(MOST_UNREAD + 1)]
    assert answers[0].status_code == 200 and answers[-1].status_code == 429
    assert "nobody reads them" in answers[-1].json()["error"]["message"]


def test_freed_memory_goes_back_to_the_system() -> None:
    """Blocks below the size that glibc maps by itself, and the last one kept: the others are holes below it."""
    if not hasattr(ctypes.CDLL(None), "malloc_trim"):
        pytest.skip("only glibc keeps such holes")
    blocks = [b"x" * 100_000 for _ in range(1000)]
    del blocks[:-1]
    held = psutil.Process().memory_info().rss
    return_memory()
    assert held - psutil.Process().memory_info().rss > 50e6
