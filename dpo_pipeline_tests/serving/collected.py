"""A project in which people have voted: votes, results, a version at stage canary with its traffic."""

import random
from datetime import UTC, datetime, timedelta
from itertools import count

import duckdb

from dpo_pipeline.core.curation import summarise
from dpo_pipeline.core.dataset import Pair
from dpo_pipeline.core.exposure import gets_challenger
from dpo_pipeline.core.serving_records import FeedbackRecord, RequestRecord
from dpo_pipeline.core.votes import Vote, encode_preference
from dpo_pipeline.loop.ingest import LOG, ingest, validate_new
from dpo_pipeline.loop.roll_out import decide_now
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.bank import read_bank
from dpo_pipeline.stores.curation import publish_summary
from dpo_pipeline.stores.ledger import Ledger, utc_now
from dpo_pipeline.stores.log import AppendLog
from dpo_pipeline.stores.reviews import apply_reviews
from dpo_pipeline.stores.serving_log import ServingLog
from dpo_pipeline.stores.serving_state import ServingState
from dpo_pipeline.stores.warehouse import Warehouse, prepare
from dpo_pipeline_tests.examples import GivenVotes, preference

VOTES = 180
PAIRS = (("v1.0", "v1.1"), ("v1.1", "v1.2"), ("v1.0", "v1.2"))
ATTACK = '<img src=x onerror="document.title=`hit`"><svg onload="document.title=`hit`"></svg>[x](javascript:alert(1))'
"""A question that would take over a page which does not keep it inert."""


def vote(settings: Settings) -> None:
    """Votes of seven people over the last days, most of them today; the newest asks `ATTACK`."""
    dice = random.Random(7)
    questions = read_bank(settings.bank_dir)
    now = datetime.now(UTC)
    events = []
    for number in range(VOTES):
        asked = dice.choice(questions)
        first, second = PAIRS[number % 3]
        better: Vote = "b" if dice.random() < 0.68 else "a"
        day = now - timedelta(days=dice.choice([0, 0, 0, 0, 0, 1, 2]), seconds=VOTES - number)
        answers = {"a": dice.choice(asked.terse), "b": dice.choice(asked.detailed)}
        if dice.random() < 0.1:
            better = dice.choice(["tie", "both_bad"])
        events.append(
            preference(
                number, better, prompt=asked.question, category=asked.category, model_a=first, model_b=second,
                response_a=answers["a"], response_b=answers["b"], source=dice.choice(["ui", "api"]),
                recorded_at=day.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            )
        )  # fmt: skip
    asked = questions[0]
    events.append(
        preference(
            VOTES, "b", prompt=ATTACK, model_a="v1.0", model_b="v1.1", response_a=ATTACK, source="ui",
            response_b=f"{ATTACK} {asked.detailed[0]} And more.", recorded_at=utc_now(),
        )
    )  # fmt: skip
    AppendLog(settings.prefs_log).append_all([encode_preference(event) for event in events])


def curate(settings: Settings) -> list[Pair]:
    """What a curation run does; the pairs that are valid."""
    settings.warehouse_path.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(str(settings.warehouse_path)) as connection:
        prepare(connection)
        store = Warehouse(connection, settings.prefs_log)
        ingest(store, settings.quarantine_log, 1 << 20, settings.quality)
        validate_new(store, settings.quality)
        apply_reviews(store, settings.reviews_log, settings.review_table)
        publish_summary(settings.curation_summary, summarise(store.tallies(), store.position(LOG).offset))
        return store.valid_pairs()


def roll_out(settings: Settings, name: str = "v1.1") -> None:
    """The version at stage canary, with requests and ratings of both sides since then, held by a real decision."""
    votes = GivenVotes([(f"person-{n % 7}", "win" if n % 4 else "loss") for n in range(120)])
    log, dice = ServingLog(settings.serving_log_dir), random.Random(3)
    with Ledger(settings.ledger_address) as ledger:
        decide_now(settings, ledger, votes, name, "loop")
        later = datetime.now(UTC) + timedelta(days=2)  # shadow copies are waited for no longer than a canary lasts
        decide_now(settings, ledger, votes, name, "loop", later)
        state = ledger.deployment()
        assert state.stage == "canary"
        for version, requests in ((name, 12), (str(state.champion), 220)):
            for number in range(requests):
                request_id = next(
                    ids for n in count() if _served(ids := f"{version}-{number}-{n}", name) == (version == name)
                )
                log.append(_request(version, request_id, number, dice))
                if number % 3 == 0:
                    log.append(_rating(version, request_id, dice.choice([4, 4, 5] if version == name else [3, 4, 4])))
        decide_now(settings, ledger, votes, name, "loop")


def _served(request_id: str, challenger: str) -> bool:
    """Whether the canary serves this request: with nobody in the week before, requests are assigned."""
    return gets_challenger(request_id, challenger, 0.05)


def join(settings: Settings) -> None:
    """Two of the seven people want to be named."""
    state = ServingState(settings.serving_log_dir / "state.db")
    state.join("person-0", "Grace")
    state.join("person-1", "Linus")
    state.close()


def _request(version: str, request_id: str, number: int, dice: random.Random) -> RequestRecord:
    return RequestRecord(
        request_id=request_id, recorded_at=utc_now(), session_id="s", user=f"u{number % 9}",
        version=version, adapter_sha="0", stage="canary", shadow=False, latency_ms=dice.uniform(80, 400),
        ttft_ms=None, tokens=20, outcome="error" if number % 97 == 96 else "ok",
    )  # fmt: skip


def _rating(version: str, request_id: str, stars: int) -> FeedbackRecord:
    return FeedbackRecord(
        event_id=f"r-{request_id}", recorded_at=utc_now(), request_id=request_id, user="u1", version=version,
        signal="rating", value=stars,
    )  # fmt: skip
