"""What may break around serving, and what people notice of it. Kills are in `test_serving` and `test_engine`."""

import json
import re
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import psutil
import pytest

from dpo_pipeline.core.votes import decode_preference
from dpo_pipeline.settings import PROJECT_DIR, Settings
from dpo_pipeline.stores.ledger import Ledger
from dpo_pipeline_tests.examples import settings_in
from dpo_pipeline_tests.programs_under_test import Server, eventually, serving
from dpo_pipeline_tests.serving.conftest import VARIABLES
from dpo_pipeline_tests.upstream import Upstream, answered_by

pytestmark = pytest.mark.slow
METRIC = re.compile(r"dpo_\w+")
UNLIMITED = (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY)


SLOWLY = "Take your time"
SLOW_S = 3.0
SLOW_REDACTOR = f"""
import time

def redact(text):
    if {SLOWLY!r} in text:
        time.sleep({SLOW_S})
    return text
"""


@pytest.fixture(scope="module")
def server(own_project: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """With no MLflow and no Dagster anywhere near it, and a redactor of its own that is slow where a text says so."""
    folder = tmp_path_factory.mktemp("redactor")
    (folder / "slow_redaction.py").write_text(SLOW_REDACTOR)
    own = {"PYTHONPATH": str(folder), "DPO_COLLECTION__REDACTOR": "slow_redaction:redact"}
    with serving(own_project.data_dir, **VARIABLES, **own) as running:
        yield running


def compare(server: Server) -> dict[str, Any]:
    shown: dict[str, Any] = server.client.post("/v1/comparisons", json={"prompt": "Why is the sky blue?"}).json()
    return shown


def vote(server: Server, shown: dict[str, Any]) -> Any:
    path = f"/v1/comparisons/{shown['comparison_id']}/vote"
    return server.client.post(path, json={"token": shown["token"], "vote": "left"})


def test_a_full_disk_is_told_nothing_is_acknowledged_and_the_next_vote_is_whole(
    server: Server, own_project: Settings
) -> None:
    """The server may write no file beyond so many bytes: the line breaks off in the middle, as on a full disk."""
    assert vote(server, compare(server)).status_code == 201
    before = own_project.prefs_log.read_bytes()
    shown = compare(server)
    process = psutil.Process(server.pid)
    process.rlimit(psutil.RLIMIT_FSIZE, (len(before) + 100, psutil.RLIM_INFINITY))
    try:
        refused = vote(server, shown)
    finally:
        process.rlimit(psutil.RLIMIT_FSIZE, UNLIMITED)
    assert refused.status_code == 507 and "Send it again" in refused.json()["error"]["message"]
    assert own_project.prefs_log.read_bytes() == before
    assert vote(server, shown).status_code == 201
    lines = own_project.prefs_log.read_bytes().split(b"\n")[:-1]
    assert [decode_preference(line).comparison_id for line in lines][-1] == shown["comparison_id"]


def test_a_full_disk_is_told_to_whoever_rates(server: Server, own_project: Settings) -> None:
    chat = {"model": "v1.0", "messages": [{"role": "user", "content": "Why is the sky blue?"}]}
    request_id = server.client.post("/v1/chat/completions", json=chat).json()["id"]
    rating = {"request_id": request_id, "rating": 4}
    process = psutil.Process(server.pid)
    eventually(lambda: list(own_project.serving_log_dir.glob("*.jsonl")), bool)
    size = max(path.stat().st_size for path in own_project.serving_log_dir.glob("*.jsonl"))
    process.rlimit(psutil.RLIMIT_FSIZE, (size, psutil.RLIM_INFINITY))
    try:
        refused = server.client.post("/v1/feedback", json=rating)
    finally:
        process.rlimit(psutil.RLIMIT_FSIZE, UNLIMITED)
    assert (refused.status_code, refused.json()["error"]["code"]) == (507, "not_recorded"), refused.text
    assert server.client.post("/v1/feedback", json=rating).status_code == 201


def test_a_locked_warehouse_is_not_noticed(server: Server, own_project: Settings) -> None:
    own_project.warehouse_path.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(str(own_project.warehouse_path)) as connection:
        connection.execute("create table if not exists held (i integer)")
        assert vote(server, compare(server)).status_code == 201
        assert server.client.get("/v1/rollout").status_code == 200
        assert server.client.get("/readyz").status_code == 200


def test_metrics_tell_what_happened(server: Server) -> None:
    body = {"model": "v1.0", "messages": [{"role": "user", "content": "Why is the sky blue?"}]}
    assert server.client.post("/v1/chat/completions", json=body).status_code == 200
    told = server.client.get("/metrics").text
    assert 'dpo_answers_total{outcome="ok",stage="full",version="v1.0"}' in told
    assert 'dpo_rollout_traffic{version="v1.0"} 1.0' in told
    assert 'route="/v1/comparisons/{comparison_id}/vote"' in told and "cmp-" not in told


def test_the_dashboard_asks_for_metrics_there_are(server: Server) -> None:
    """By their names and labels, as Prometheus reads them."""
    told = server.client.get("/metrics").text
    panels = json.loads((PROJECT_DIR / "docs" / "dashboards" / "grafana.json").read_text())["panels"]
    asked = {name for panel in panels for target in panel["targets"] for name in METRIC.findall(target["expr"])}
    assert len(asked) >= 10
    for name in asked:
        assert f"# TYPE {re.sub('_(bucket|sum|count)$', '', name)} " in told, name


def test_a_torn_tail_is_no_reason_not_to_start(server: Server, own_project: Settings) -> None:
    """A comparison opened while the last line is torn, by a program that died: its vote is found again."""
    with own_project.prefs_log.open("ab") as file:
        file.write(b'{"event_id": "torn')
    shown = compare(server)
    assert vote(server, shown).status_code == 201
    for other in own_project.serving_log_dir.glob("state.db"):
        with sqlite3.connect(other) as state:  # the oldest comparison that is still open is the one at the torn line
            state.execute("delete from comparisons where id <> ?", (shown["comparison_id"],))
    server.kill()
    server.start()
    assert vote(server, shown).status_code == 200
    path = f"/v1/comparisons/{shown['comparison_id']}/vote"
    assert server.client.post(path, json={"token": shown["token"], "vote": "right"}).status_code == 409


def test_an_adapter_that_must_not_be_served_stops_nobody_else(server: Server, own_project: Settings) -> None:
    """v1.1 is rolled out; one bit of it flips on disk; the server is started again."""
    with Ledger(own_project.ledger_address) as ledger:
        ledger.start_rollout("v1.1", ledger.deployment().epoch, ("test",), "test")
        weights = Path(str(ledger.version("v1.1").adapter_dir)) / "adapter_model.safetensors"
        whole = weights.read_bytes()
        server.kill()
        weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        try:
            server.start()
            ready = server.client.get("/readyz").json()
            assert ready["models"] == ["v1.0"] and "v1.1 is not served" in ready["trouble"]
            assert server.client.get("/v1/rollout").json()["version"] is None
            assert vote(server, compare(server)).status_code == 201
        finally:
            weights.write_bytes(whole)
        mended = eventually(lambda: server.client.get("/readyz").json(), lambda told: told["trouble"] is None)
        assert mended["models"] == ["v1.0", "v1.1"] and mended["trouble"] is None
        ledger.roll_back(ledger.deployment().epoch, ("test",), {}, "test")


def test_a_ledger_that_fails_is_followed_again(server: Server, own_project: Settings) -> None:
    with sqlite3.connect(own_project.ledger_address.removeprefix("sqlite:///")) as ledger:
        ledger.execute("alter table deployment rename to away")
        ledger.commit()
        try:
            told = eventually(lambda: server.client.get("/readyz").json(), lambda told: bool(told["trouble"]))
            assert "no such table" in told["trouble"] and vote(server, compare(server)).status_code == 201
        finally:
            ledger.execute("alter table away rename to deployment")
            ledger.commit()
    assert eventually(lambda: server.client.get("/readyz").json(), lambda told: not told["trouble"])["trouble"] is None


def test_a_ledger_that_is_none_is_named_and_left_as_it_is(tmp_path: Path, models: Upstream) -> None:
    settings = settings_in(tmp_path)
    ledger = tmp_path / "ledger.db"
    ledger.write_bytes(b"no ledger at all, " * 400)
    with serving(settings.data_dir, "/healthz", **answered_by(models), DPO_ACCESS__PAGES="false") as server:
        told = eventually(lambda: server.client.get("/readyz"), lambda answer: "ledger.db" in answer.text)
        assert told.status_code == 503 and "cannot be read as a ledger" in told.text and "dpo restore" in told.text
        refused = server.client.post("/v1/chat/completions", json=chat("Why is the sky blue?"))
        assert refused.status_code == 503 and "ledger.db" in refused.text
    assert ledger.read_bytes().startswith(b"no ledger at all")


def chat(question: str) -> dict[str, Any]:
    return {"model": "chat", "messages": [{"role": "user", "content": question}]}


def test_while_another_program_holds_the_state_votes_wait_their_turn_and_nobody_else(
    server: Server, own_project: Settings
) -> None:
    with closing(sqlite3.connect(own_project.serving_state, timeout=10, isolation_level=None)) as state:
        state.execute("begin exclusive")
        with ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(server.client.post, "/v1/comparisons", json={"prompt": "Why?"}) for _ in range(4)]
            looks = []
            while not all(each.done() for each in asked):
                began = time.monotonic()
                assert server.client.get("/healthz").status_code == 200
                looks.append(time.monotonic() - began)
            refused = [each.result() for each in asked]
        state.execute("rollback")
    assert max(looks) < 1.0
    assert {each.status_code for each in refused} == {507} and "Send it again" in refused[0].text
    assert vote(server, compare(server)).status_code == 201


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/comparisons"])
def test_a_slow_redactor_holds_up_nobody_else(server: Server, path: str) -> None:
    body = (
        {"model": "chat", "messages": [{"role": "user", "content": SLOWLY}]} if "chat" in path else {"prompt": SLOWLY}
    )
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(lambda: server.client.post(path, json=body, timeout=60))
        looks = []
        while not slow.done():
            began = time.monotonic()
            assert server.client.get("/healthz").status_code == 200
            looks.append(time.monotonic() - began)
        assert slow.result().is_success
    # One that waited for the redactor would have taken nearly all of it.
    assert len(looks) > 5 and max(looks) < 0.6 * SLOW_S, f"the longest of {len(looks)} looks took {max(looks):.1f} s"
