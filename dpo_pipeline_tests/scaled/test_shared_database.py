"""What servers agree on through the database: the ledger, who leads, secrets and limits."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from dpo_pipeline.errors import DpoError, StaleEpoch
from dpo_pipeline.request_errors import TooManyRequests
from dpo_pipeline.serving.access import RateLimits
from dpo_pipeline.serving.shared_rates import CALLS, METADATA, SharedRates
from dpo_pipeline.settings import Limits
from dpo_pipeline.stores.database import create_once, engine_of, shared_secret
from dpo_pipeline.stores.leadership import Leadership
from dpo_pipeline.stores.ledger import Ledger
from dpo_pipeline_tests.examples import put_version
from dpo_pipeline_tests.programs_under_test import eventually

pytestmark = pytest.mark.slow

AT_ONCE = 8
OPEN = "import sys; from dpo_pipeline.stores.ledger import Ledger; print(len(Ledger(sys.argv[1]).versions()))"
HOLD = """
import sys, time
from dpo_pipeline.stores.database import engine_of
from dpo_pipeline.stores.leadership import Leadership
leadership = Leadership(engine_of(sys.argv[1]), "registry")
print(leadership.held(), flush=True)
time.sleep(600)
"""


def all_at_once(call: Callable[[int], object]) -> list[object]:
    """What each call came to; our own errors as values."""
    begin = threading.Barrier(AT_ONCE)

    def run(number: int) -> object:
        begin.wait()
        try:
            return call(number)
        except DpoError as error:
            return error

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(run, range(AT_ONCE)))


def test_eight_processes_open_a_new_ledger_at_once(database: str) -> None:
    started = [
        subprocess.Popen([sys.executable, "-c", OPEN, database], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(AT_ONCE)
    ]
    for process in started:
        out, trouble = process.communicate(timeout=120)
        assert (process.returncode, out) == (0, b"0\n"), trouble.decode()


def test_one_of_eight_promotions_on_one_epoch_moves_it(database: str) -> None:
    ledger = Ledger(database)
    put_version(ledger, "v1.0", status="registered")
    put_version(ledger, "v1.1", status="registered")
    states = all_at_once(lambda number: ledger.install_champion("v1.0", f"person {number}"))
    assert {getattr(state, "epoch", None) for state in states} == {1}, "the first installs it, the others find it"
    assert len(ledger.decisions()) == 1
    ledger.start_rollout("v1.1", 1, ["improved"], "loop")
    moved = all_at_once(lambda number: ledger.promote("canary", 2, ["held"], {}, f"server {number}"))
    assert sum(isinstance(each, StaleEpoch) for each in moved) == AT_ONCE - 1
    assert ledger.deployment().stage == "canary" and ledger.deployment().epoch == 3


def test_a_version_that_eight_begin_at_once_is_begun(database: str) -> None:
    ledger = Ledger(database)
    records = all_at_once(lambda number: ledger.record_dataset("v1.1", f"hash {number}", 100, 100))
    assert len({getattr(record, "name", record) for record in records}) == 1
    assert len(ledger.versions()) == 1


def test_an_actor_may_have_a_long_name(database: str) -> None:
    ledger = Ledger(database)
    put_version(ledger, "v1.0", status="registered")
    ledger.install_champion("v1.0", "x" * 500)
    assert ledger.decisions()[0].actor == "x" * 500


def test_who_leads_is_one_and_another_within_five_seconds_of_its_end(database: str) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, database], stdout=subprocess.PIPE) as first:
        assert first.stdout and first.stdout.readline() == b"True\n"
        second = Leadership(engine_of(database), "registry")
        assert not second.held() and not second.held()
        first.kill()
        first.wait()
        killed = time.monotonic()
        assert eventually(second.held, bool, seconds=10)
        assert time.monotonic() - killed < 5
    third = Leadership(engine_of(database), "registry")
    assert second.held() and not third.held()
    second.close()
    assert third.held(), "handed on by whoever stops"
    third.close()


def test_a_leader_that_lost_its_connection_leads_no_more(database: str) -> None:
    engine = engine_of(database)
    first, second = Leadership(engine, "registry"), Leadership(engine, "registry")
    assert first.held()
    with engine.begin() as connection:
        others = "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory'"
        connection.execute(sa.text(others))
    assert eventually(second.held, bool)
    with pytest.raises(DpoError, match="who leads"):
        first.held()
    assert not first.held()
    second.close()


def test_a_secret_is_the_first_that_was_made(engine: sa.Engine) -> None:
    told = all_at_once(lambda number: shared_secret(engine, "serving.key", lambda: f"secret {number}"))
    assert len(set(told)) == 1 and isinstance(told[0], bytes) and told[0].startswith(b"secret")


def test_a_limit_is_one_for_all_servers(engine: sa.Engine) -> None:
    """Both count on; what one server has counted, the other knows after its next turn."""
    create_once(engine, METADATA)
    now = [1_000_000.0]
    limits = Limits(votes_per_minute=10)
    rates = [RateLimits(limits, lambda: now[0]) for _ in range(2)]
    servers = [SharedRates(engine, each) for each in rates]

    def votes(server: int, person: str = "ann") -> int:
        """How many of ten are let in."""
        given = 0
        for _ in range(10):
            try:
                rates[server].check("votes", person, "127.0.0.1")
                given += 1
            except TooManyRequests:
                break
        return given

    for _ in range(6):
        rates[0].check("votes", "ann", "127.0.0.1")
    rates[1].check("votes", "ann", "127.0.0.1")
    for _ in range(2):
        for server in servers:
            server.share()
    assert votes(1) == 3 and votes(0) == 3, "until the next turn each has what is left"
    for server in (*servers, *servers):
        server.share()
    assert votes(0) == votes(1) == 0
    assert votes(0, "bob") == 10
    with engine.connect() as connection:
        told = connection.scalar(sa.select(CALLS.c.count).where(CALLS.c.whose == "ann"))
    assert told == 13, "every call once"
    now[0] += 180
    for server in servers:
        server.share()
    assert votes(0) == 10
    for server in servers:
        server.share()
    with engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.min(CALLS.c.minute))) == 1_000_180 // 60, "old minutes go"
