"""What may break around serving, and what people notice of it. Kills are in `test_serving` and `test_engine`."""

from collections.abc import Iterator
from typing import Any

import duckdb
import psutil
import pytest

from dpo_pipeline.core.votes import decode_preference
from dpo_pipeline.settings import Settings
from dpo_pipeline_tests.programs_under_test import Server, serving
from dpo_pipeline_tests.serving.conftest import VARIABLES

pytestmark = pytest.mark.slow
UNLIMITED = (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY)


@pytest.fixture(scope="module")
def server(own_house: Settings) -> Iterator[Server]:
    """With no MLflow and no Dagster anywhere near it."""
    with serving(own_house.data_dir, **VARIABLES) as running:
        yield running


def compare(server: Server) -> dict[str, Any]:
    shown: dict[str, Any] = server.client.post("/v1/comparisons", json={"prompt": "Why is the sky blue?"}).json()
    return shown


def vote(server: Server, shown: dict[str, Any]) -> Any:
    path = f"/v1/comparisons/{shown['comparison_id']}/vote"
    return server.client.post(path, json={"token": shown["token"], "vote": "left"})


def test_a_full_disk_is_told_nothing_is_acknowledged_and_the_next_vote_is_whole(
    server: Server, own_house: Settings
) -> None:
    """The server may write no file beyond so many bytes: the line breaks off in the middle, as on a full disk."""
    assert vote(server, compare(server)).status_code == 201
    before = own_house.prefs_log.read_bytes()
    shown = compare(server)
    process = psutil.Process(server.pid)
    process.rlimit(psutil.RLIMIT_FSIZE, (len(before) + 100, psutil.RLIM_INFINITY))
    try:
        refused = vote(server, shown)
    finally:
        process.rlimit(psutil.RLIMIT_FSIZE, UNLIMITED)
    assert refused.status_code == 507 and "send it again" in refused.json()["error"]["message"]
    assert own_house.prefs_log.read_bytes() == before
    assert vote(server, shown).status_code == 201
    lines = own_house.prefs_log.read_bytes().split(b"\n")[:-1]
    assert [decode_preference(line).comparison_id for line in lines][-1] == shown["comparison_id"]


def test_a_locked_warehouse_is_not_noticed(server: Server, own_house: Settings) -> None:
    own_house.warehouse_path.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(str(own_house.warehouse_path)) as connection:
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
