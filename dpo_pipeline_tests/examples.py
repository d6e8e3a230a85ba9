"""Values that many tests need: a preference, a pair, settings on an empty data directory."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dpo_pipeline.core.identity import Uncounted
from dpo_pipeline.core.outcomes import RequestOutcome
from dpo_pipeline.core.serving_records import RequestRecord
from dpo_pipeline.core.votes import Preference, Vote, outcome
from dpo_pipeline.core.winrate import Outcome
from dpo_pipeline.settings import PROJECT_DIR, Settings, load_settings
from dpo_pipeline.stores.ledger import Ledger, VersionRecord
from dpo_pipeline.stores.ledger.tables import VERSIONS
from dpo_pipeline.stores.reviews import Review

SHORT = "It is Paris, of course."
LONG = "The capital of France is Paris. It lies on the river Seine and is home to the Eiffel Tower."
MOMENT = "2026-01-05T10:00:00.000Z"
SHARED_DATA = PROJECT_DIR.parent / "shared" / "data"


def preference(number: int = 0, vote: Vote = "a", **changes: Any) -> Preference:
    """A whole event; by default a person chose the longer answer a."""
    fields: dict[str, Any] = {
        "event_id": f"evt-{number}",
        "recorded_at": "2026-01-01T00:00:00.000Z",
        "comparison_id": f"cmp-{number}",
        "session_id": "session",
        "prompt": f"What is the capital of France? ({number})",
        "category": "factual_qa",
        "model_a": "v1.0",
        "model_b": "v1.0",
        "response_a": LONG,
        "response_b": SHORT,
        "left": "a" if number % 2 else "b",
        "annotator": f"person-{number % 7}",
        "source": "api",
    }
    fields.update(changes)
    names = ("chosen", "rejected", "chosen_model", "rejected_model")
    decided = outcome(vote, fields["response_a"], fields["response_b"], fields["model_a"], fields["model_b"])
    return Preference(vote=vote, **{**dict(zip(names, decided, strict=True)), **fields})


def withdrawal(event_id: str) -> Review:
    """Whoever gave this vote said at once that it was a slip."""
    return Review(
        review_id=f"rev-{event_id}", recorded_at="2026-01-01T00:00:05.000Z", event_id=event_id, action="withdraw",
        reason="a slip", actor="voter",
    )  # fmt: skip


def request(number: int, **changes: Any) -> RequestRecord:
    """What serving keeps of an answer; by default v1.1 answered ann in the canary."""
    fields: dict[str, Any] = {
        "request_id": f"r-{number}", "recorded_at": MOMENT, "session_id": "", "user": "ann", "version": "v1.1",
        "adapter_sha": "0" * 64, "stage": "canary", "shadow": False, "latency_ms": 100.0, "ttft_ms": None,
        "tokens": 5, "outcome": "ok",
    }  # fmt: skip
    fields |= changes
    return RequestRecord(**fields | {"outcome": RequestOutcome(fields["outcome"])})


def put_version(ledger: Ledger, name: str, **values: Any) -> VersionRecord:
    """A version as a test wants it, whatever it was before: the ledger's own verbs allow only what may follow."""
    now = ledger.clock()
    rows = {key: json.dumps(value) if isinstance(value, dict) else value for key, value in values.items()}
    engine = sa.create_engine(ledger.url)
    with engine.begin() as connection:
        there = sa.update(VERSIONS).where(VERSIONS.c.name == name)
        if connection.execute(there.values({"updated_at": now, **rows})).rowcount == 0:
            new = {"attempt": 1, "pairs_seen": 0, "status": "training", "created_at": now, "updated_at": now}
            connection.execute(sa.insert(VERSIONS).values({**new, "name": name, **rows}))
    engine.dispose()
    return ledger.version(name)


def version_record(name: str, **values: Any) -> VersionRecord:
    """A version that was trained once and of which nothing else is known."""
    usual: dict[str, Any] = dict.fromkeys(field.name for field in dataclasses.fields(VersionRecord))
    usual |= {"attempt": 1, "status": "trained", "pairs_seen": 0}
    usual |= dict.fromkeys(("created_at", "updated_at"), "2026-01-01T00:00:00+00:00")
    return VersionRecord(**{**usual, "name": name, **values})


def settings_in(directory: Path, **overrides: Any) -> Settings:
    return load_settings(data_dir=directory, **overrides)


Voted = Sequence[tuple[str, Outcome]]


@dataclass
class GivenVotes:
    """What people said of two versions, as a test has it, where a warehouse would be opened."""

    votes: Voted | Mapping[tuple[str, str], Voted] = ()
    crowd: Voted = ()

    def __call__(self) -> "AbstractContextManager[GivenVotes]":
        return nullcontext(self)

    def head_to_head(self, new: str, baseline: str, count_unproven: bool = False) -> Voted:
        return self.votes.get((new, baseline), ()) if isinstance(self.votes, Mapping) else self.votes

    def unproven(self, new: str, baseline: str, since: str) -> Voted:
        return self.crowd

    def uncounted(self, new: str, baseline: str, count_unproven: bool) -> Uncounted:
        return Uncounted(len(self.crowd))
