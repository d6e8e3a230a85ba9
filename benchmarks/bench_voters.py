"""How long does a vote take when 200 people vote at once?

200 people send votes to `dpo serve` for 30 s: at 100 a second all together, which is what a busy office does; and as
fast as they are answered. Then each asks for a comparison, reads nothing, and votes on it, so that generation takes the
other core. The comparisons of the first two were opened before. The rival is the server that one would write: FastAPI,
a lock, one line and one fsync for each vote; it knows neither tokens nor people. Each vote is acknowledged when it is
on disk, here and there. Goals: p99 of 250 ms at 100 votes a second; at least 187 votes a second as fast as they can, as
before it was checked who votes; nothing lost.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from bench_serving import install
from inputs import baseline, settings_for
from reporting import Goal, report, say, show
from servers import free_port, our_server, running

from dpo_pipeline.core.redaction import redact
from dpo_pipeline.core.votes import Sampling
from dpo_pipeline.serving.services.comparisons import Comparisons
from dpo_pipeline.serving.services.questions import Questions
from dpo_pipeline.serving.services.visitors import Visitor
from dpo_pipeline.settings import Settings, load_settings
from dpo_pipeline.stores.log import AppendLog
from dpo_pipeline.stores.pseudonyms import signing_key
from dpo_pipeline.stores.reviews import ReviewLog
from dpo_pipeline.stores.serving_state import ServingState
from dpo_pipeline.stores.vote_log import FileVotes

PEOPLE, SECONDS, RATE = 200, 30, 100
OPENED = 24_000


@dataclass(frozen=True)
class Ballot:
    """A vote that may be sent: the path and the body."""

    path: str
    body: dict[str, str]


@dataclass
class Met:
    """What the people met: milliseconds until each vote was acknowledged, votes that were refused, and comparisons that
    were, because more people asked than may wait."""

    milliseconds: list[float]
    refused: int
    seconds: float
    queue_full: int = 0

    def row(self, name: str) -> dict[str, Any]:
        ordered = sorted(self.milliseconds)
        return {
            "load": name,
            "votes": len(ordered),
            "votes/s": len(ordered) / self.seconds,
            "median, ms": statistics.median(ordered),
            "p99, ms": self.p99,
            "votes refused": self.refused,
            "queue full": self.queue_full,
        }

    @property
    def p99(self) -> float:
        return sorted(self.milliseconds)[int(0.99 * len(self.milliseconds))]


def opened(settings: Settings, count: int) -> list[Ballot]:
    """Comparisons of 200 people that wait for their votes, as serving itself opens them."""
    state, collection = ServingState(settings.serving_state), settings.collection
    questions = Questions(collection, settings.bank_dir, state, dict)
    votes = FileVotes(AppendLog(settings.prefs_log), collection.max_line_bytes, None)
    comparisons = Comparisons(
        collection, votes, ReviewLog(settings.reviews_log), questions, state, signing_key(settings), redact
    )
    ballots = []
    for number in range(count):
        shown = comparisons.open(
            prompt=f"What is question {number} about?", category="other", models=("v1.0", "v1.1"),
            answers=(f"It is about {number}, and about nothing else.", "I cannot tell."),
            visitor=Visitor(f"person-{number % PEOPLE}", f"visit-{number % PEOPLE}", "api", "127.0.0.1"),
            sampling=Sampling(), propensity=1.0, prompt_ratio=1.0, steered=False, asked_by="",
        )  # fmt: skip
        ballots.append(Ballot(f"/v1/comparisons/{shown.comparison_id}/vote", {"token": shown.token, "vote": "left"}))
    state.close()
    return ballots


async def vote(session: aiohttp.ClientSession, url: str, ballot: Ballot, met: Met) -> None:
    begin = time.perf_counter()
    async with session.post(url + ballot.path, json=ballot.body) as answer:
        await answer.read()
        met.refused += answer.status != 201
    met.milliseconds.append(1000 * (time.perf_counter() - begin))


def session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=120))


async def paced(url: str, ballots: Sequence[Ballot]) -> Met:
    """At `RATE` votes a second, whether or not the earlier ones are answered."""
    met, begin = Met([], 0, 0.0), time.perf_counter()
    async with session() as client, asyncio.TaskGroup() as group:
        for number, ballot in enumerate(ballots[: RATE * SECONDS]):
            await asyncio.sleep(max(begin + number / RATE - time.perf_counter(), 0))
            group.create_task(vote(client, url, ballot, met))
    met.seconds = time.perf_counter() - begin
    return met


async def as_fast_as_answered(url: str, ballots: Sequence[Ballot]) -> Met:
    """Each of the people sends the next vote when the last one is answered."""
    left, met, begin = iter(ballots), Met([], 0, 0.0), time.perf_counter()

    async def person(client: aiohttp.ClientSession) -> None:
        for ballot in left:
            if time.perf_counter() - begin > SECONDS:
                return
            await vote(client, url, ballot, met)

    async with session() as client:
        await asyncio.gather(*(person(client) for _ in range(PEOPLE)))
    met.seconds = time.perf_counter() - begin
    return met


async def with_comparisons(url: str) -> Met:
    """Each asks for a comparison and votes on it, as long as the time lasts."""
    met, begin = Met([], 0, 0.0), time.perf_counter()

    async def person(client: aiohttp.ClientSession, name: str) -> None:
        while time.perf_counter() - begin < SECONDS:
            async with client.get(f"{url}/v1/comparisons/next", params={"annotator": name}) as answer:
                shown = await answer.json()
            if answer.status != 201:
                met.queue_full += 1
                await asyncio.sleep(float(answer.headers.get("Retry-After", "1")))
                continue
            path = f"/v1/comparisons/{shown['comparison_id']}/vote"
            await vote(client, url, Ballot(path, {"token": shown["token"], "vote": "left"}), met)

    async with session() as client:
        await asyncio.gather(*(person(client, f"person {number}") for number in range(PEOPLE)))
    met.seconds = time.perf_counter() - begin
    return met


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="where v1.0 is trained; default: of the settings")
    settings = settings_for(parser.parse_args().data_dir)
    _, version = baseline(settings)
    with tempfile.TemporaryDirectory(prefix="bench-voters-", dir=settings.data_dir) as folder:
        place = Path(folder) / "data"
        install(settings, place, version)
        ours = load_settings(data_dir=place)
        say(f"opening {OPENED} comparisons")
        ballots = opened(ours, OPENED)
        calm, rest = ballots[: RATE * SECONDS], ballots[RATE * SECONDS :]
        with our_server(place) as url:
            steady = asyncio.run(paced(url, calm))
            fast = asyncio.run(as_fast_as_answered(url, rest))
            asking = asyncio.run(with_comparisons(url))
        written = len(ours.prefs_log.read_bytes().splitlines())
        port = free_port()
        plain = [sys.executable, str(Path(__file__).with_name("plain_votes.py")), f"{folder}/plain.jsonl", str(port)]
        with running(plain, {}, f"http://127.0.0.1:{port}", "/healthz") as url:
            rival_steady = asyncio.run(paced(url, calm))
            rival_fast = asyncio.run(as_fast_as_answered(url, rest))
    rows = [
        steady.row("dpo serve, 100 votes/s"), rival_steady.row("plain FastAPI, 100 votes/s"),
        fast.row("dpo serve, as fast as answered"), rival_fast.row("plain FastAPI, as fast as answered"),
        asking.row("dpo serve, a comparison before each vote"),
    ]  # fmt: skip
    show(f"{PEOPLE} people for {SECONDS} s", rows)
    acknowledged = sum(len(met.milliseconds) - met.refused for met in (steady, fast, asking))
    goals = [
        Goal("p99 of a vote at 100 a second, ms", steady.p99, "at most", 250),
        Goal("votes a second, as fast as answered", fast.row("")["votes/s"], "at least", 187),
        Goal("acknowledged votes that are not on disk", acknowledged - written, "at most", 0),
    ]
    report("bench_voters", goals, {"loads": rows})


if __name__ == "__main__":
    main()
