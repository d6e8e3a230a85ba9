"""Two servers that share nothing but a database: whichever a person reaches, what they said is there, once."""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from dpo_pipeline.core.votes import decode_preference
from dpo_pipeline.errors import ServiceError
from dpo_pipeline.loop.curate import curate
from dpo_pipeline.loop.export_votes import export_votes
from dpo_pipeline.loop.forget import forget
from dpo_pipeline.loop.ingest import ingest
from dpo_pipeline.resources import WarehouseResource
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.leadership import check_nobody_serves
from dpo_pipeline.stores.ledger import Ledger
from dpo_pipeline.stores.logs import follow_logs
from dpo_pipeline.stores.pseudonyms import pseudonyms_of, signing_key
from dpo_pipeline.stores.serving_log import all_feedback
from dpo_pipeline_tests.examples import put_version, settings_in
from dpo_pipeline_tests.postgres import Postgres
from dpo_pipeline_tests.programs_under_test import Server, eventually, serving
from dpo_pipeline_tests.upstream import Upstream, answered_by, model_server

pytestmark = pytest.mark.slow
ANN = {"annotator": "Ann"}


class Replicas(NamedTuple):
    """Two running servers, and the folder of the machine that trains, which runs none."""

    first: Server
    second: Server
    elsewhere: Settings
    folders: list[Path]


@pytest.fixture(scope="module")
def models() -> Iterator[Upstream]:
    with model_server() as running:
        yield running


@pytest.fixture(scope="module")
def replicas(server: Postgres, models: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    database = server.new_database()
    with Ledger(database) as ledger:
        for name in ("v1.0", "v1.1"):
            put_version(ledger, name, status="registered", adapter_sha=f"sha of {name}", adapter_dir="/nowhere")
        ledger.install_champion("v1.0", "test")
    variables = {
        "DPO_DATABASE_URL": database,
        **answered_by(models),
        "DPO_ACCESS__PAGES": "false",
        "DPO_LIMITS__VOTES_PER_MINUTE": "10000",
        "DPO_LIMITS__ANSWERS_PER_MINUTE": "10000",
    }
    with ExitStack() as running:
        folders = [tmp_path_factory.mktemp(name) for name in ("first", "second", "elsewhere")]
        first, second = (running.enter_context(serving(folder, **variables)) for folder in folders[:2])
        yield Replicas(first, second, settings_in(folders[2], database_url=database), folders[:2])


def compare(server: Server, **fields: Any) -> dict[str, Any]:
    answer = server.client.post("/v1/comparisons", json={"prompt": "Why is the sky blue?", **ANN, **fields})
    assert answer.status_code == 201, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


def vote(server: Server, shown: dict[str, Any], choice: str = "left") -> httpx.Response:
    path = f"/v1/comparisons/{shown['comparison_id']}/vote"
    return server.client.post(path, json={"token": shown["token"], "vote": choice})


def nobody_serves(settings: Settings) -> bool:
    try:
        check_nobody_serves(settings.database_url)
    except ServiceError:
        return False
    return True


def votes_in(settings: Settings) -> list[Any]:
    """As the machine that trains has them."""
    follow_logs(settings)
    return [decode_preference(line) for line in settings.prefs_log.read_bytes().splitlines()]


def test_a_vote_at_either_is_one_vote(replicas: Replicas) -> None:
    shown = compare(replicas.first)
    recorded = vote(replicas.second, shown, "right")
    assert recorded.status_code == 201
    again = vote(replicas.first, shown, "right")
    assert (again.status_code, again.json()["event_id"]) == (200, recorded.json()["event_id"])
    assert vote(replicas.first, shown, "left").status_code == vote(replicas.second, shown, "tie").status_code == 409
    given = [each for each in votes_in(replicas.elsewhere) if each.event_id == recorded.json()["event_id"]]
    assert len(given) == 1 and given[0].chosen == shown["answers"]["right"]


def test_what_is_exported_are_the_votes_of_both(replicas: Replicas, tmp_path: Path) -> None:
    told = {vote(server, compare(server)).json()["event_id"] for server in (replicas.first, replicas.second)}
    export_votes(replicas.elsewhere, tmp_path / "votes.jsonl")
    lines = (tmp_path / "votes.jsonl").read_bytes()
    assert told <= {decode_preference(line).event_id for line in lines.splitlines()}
    assert lines == replicas.elsewhere.prefs_log.read_bytes()
    for folder in replicas.folders:
        # What a server counts, it reads from its own copy.
        copy = folder / replicas.elsewhere.prefs_log.relative_to(replicas.elsewhere.data_dir)
        assert eventually(lambda at=copy: at.read_bytes() if at.exists() else b"", lines.__eq__) == lines


def test_a_hundred_opposite_votes_at_both_at_once_give_one_201(replicas: Replicas) -> None:
    shown = compare(replicas.first)
    with ThreadPoolExecutor(16) as pool:
        answers = list(
            pool.map(
                lambda number: vote(replicas[number % 2], shown, ("left", "right")[number // 2 % 2]).status_code,
                range(100),
            )
        )
    counted = Counter(answers)
    assert counted[201] == 1 and counted[200] + counted[409] == 99
    assert counted[409] == 50, "half of them said otherwise"


def test_a_forged_token_is_refused_at_both(replicas: Replicas) -> None:
    shown = compare(replicas.second)
    for server in replicas[:2]:
        first, rest = shown["token"].rsplit(".", 1)
        forged = f"{first}.{'A' if rest[0] != 'A' else 'B'}{rest[1:]}"
        assert vote(server, shown | {"token": forged}).status_code == 403


def test_feedback_finds_the_answer_that_the_other_one_gave(replicas: Replicas) -> None:
    question = {"model": "chat", "messages": [{"role": "user", "content": "How do bees fly?"}]}
    answer = replicas.first.client.post("/v1/chat/completions", json=question).json()

    def rate() -> httpx.Response:
        return replicas.second.client.post("/v1/feedback", json={"request_id": answer["id"], "thumb": "up"})

    given = eventually(rate, lambda found: found.status_code == 201)
    assert given.status_code == 201, given.text
    follow_logs(replicas.elsewhere)
    [kept] = [each for each in all_feedback(replicas.elsewhere.serving_log_dir) if each.request_id == answer["id"]]
    assert kept.answer == answer["choices"][0]["message"]["content"]


def test_a_person_is_the_same_at_both_and_so_are_their_limits(replicas: Replicas) -> None:
    by = {compare(server)["comparison_id"] for server in replicas[:2]}
    assert len(by) == 2
    for shown, server in zip((compare(replicas.first), compare(replicas.second)), replicas[1::-1], strict=True):
        assert vote(server, shown).status_code == 201
    assert len({each.annotator for each in votes_in(replicas.elsewhere)[-2:]}) == 1


def test_both_follow_a_rollout_and_a_rollback(replicas: Replicas) -> None:
    """`bench_scaled` says how soon."""
    with Ledger(str(replicas.elsewhere.database_url)) as ledger:
        state = ledger.start_rollout("v1.1", ledger.deployment().epoch, ["improved"], "test")

        def routes() -> set[str]:
            return {server.client.get("/v1/rollout").json()["version"] for server in replicas[:2]}

        assert eventually(routes, {"v1.1"}.__eq__) == {"v1.1"}
        ledger.roll_back(state.epoch, ["enough"], {}, "test")
        assert eventually(routes, {None}.__eq__) == {None}


class Voter:
    """Somebody who votes all the while, sends to one server after the other, and sends again what got no answer."""

    def __init__(self, number: int, servers: Sequence[Server]):
        self._servers = itertools.islice(itertools.cycle(servers), number, None)
        self._choices = itertools.cycle(("left", "right", "right"))
        self.acknowledged: list[str] = []
        self.met: Counter[int | str] = Counter()

    def vote_until(self, ended: threading.Event) -> None:
        while not ended.is_set():
            shown, choice = self._ask("/v1/comparisons", {"prompt": "Why?", **ANN}), next(self._choices)
            path = f"/v1/comparisons/{shown['comparison_id']}/vote"
            self.acknowledged.append(self._ask(path, {"token": shown["token"], "vote": choice})["event_id"])

    def _ask(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        while True:
            try:
                answer = next(self._servers).client.post(path, json=body)
            except httpx.HTTPError as error:
                self.met[type(error).__name__] += 1
            else:
                self.met[answer.status_code] += 1
                if answer.status_code in (200, 201):
                    found: dict[str, Any] = answer.json()
                    return found
                assert answer.status_code in (503, 507), answer.text
            time.sleep(0.05)


def test_votes_through_a_killed_server_and_a_killed_database_are_there_once(
    replicas: Replicas, server: Postgres
) -> None:
    voters, ended = [Voter(number, replicas[:2]) for number in range(12)], threading.Event()
    with ThreadPoolExecutor(len(voters)) as pool:
        voting = [pool.submit(each.vote_until, ended) for each in voters]
        try:
            time.sleep(1.5)
            replicas.second.kill()
            replicas.second.start(ready="/healthz")
            time.sleep(1)
            server.kill()
            time.sleep(1)
            server.start()
            time.sleep(2)
        finally:
            ended.set()
        for each in voting:
            each.result()
    acknowledged = [event for voter in voters for event in voter.acknowledged]
    met = sum((voter.met for voter in voters), Counter[int | str]())
    stored = Counter(each.event_id for each in votes_in(replicas.elsewhere))
    assert len(acknowledged) > 100 and met[503] + met[507] > 0 and met["ConnectError"] > 0, met
    assert {stored[event] for event in acknowledged} == {1}, "every vote that was acknowledged, once"
    assert set(stored.values()) == {1}


def test_what_trains_reads_it_and_what_is_forgotten_is_gone_everywhere(replicas: Replicas) -> None:
    settings = replicas.elsewhere
    vote(replicas.first, compare(replicas.first, annotator="Bob", prompt="What does Bob want to know today?"))
    everything = votes_in(settings)
    with WarehouseResource().open(settings) as warehouse:
        read = ingest(warehouse, settings.quarantine_log, settings.collection.max_line_bytes, settings.quality)
        curate(settings, warehouse)
        assert (read.recorded, read.quarantined) == (len(everything), 0)
    bob = pseudonyms_of("Bob", signing_key(settings))
    with pytest.raises(ServiceError, match="A server still works on this database"):
        forget(settings, *bob)
    for server in replicas[:2]:
        server.kill()
    assert eventually(lambda: nobody_serves(settings), bool), "a killed server holds nothing"
    theirs = forget(settings, *bob)
    assert theirs.votes == 1 and not theirs.left
    assert len(votes_in(settings)) == len(everything) - 1
    for server in replicas[:2]:
        server.start(ready="/healthz")
    for folder in replicas.folders:
        copy = folder / settings.prefs_log.relative_to(settings.data_dir)
        assert eventually(copy.read_bytes, settings.prefs_log.read_bytes().__eq__) == settings.prefs_log.read_bytes()
