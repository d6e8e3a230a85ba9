"""The token of a comparison: who it is for is told to nobody, and a clock that is put back takes no vote away; and for
how long a vote can be taken back.
"""

import asyncio
import base64
import time
from pathlib import Path
from typing import Any

import pytest
from itsdangerous import URLSafeTimedSerializer

from dpo_pipeline.core.redaction import redact
from dpo_pipeline.core.votes import NO_REASON, Sampling
from dpo_pipeline.request_errors import TokenRefused, TooLate
from dpo_pipeline.serving.services.comparison_views import ComparisonView
from dpo_pipeline.serving.services.comparisons import Comparisons
from dpo_pipeline.serving.services.questions import Questions
from dpo_pipeline.serving.services.slips import ON_ITS_WAY_S, SLIP_S
from dpo_pipeline.serving.services.visitors import Visitor
from dpo_pipeline.stores.log import AppendLog
from dpo_pipeline.stores.reviews import ReviewLog
from dpo_pipeline.stores.serving_state import ServingState
from dpo_pipeline.stores.vote_log import FileVotes
from dpo_pipeline_tests.examples import settings_in

KEY, PSEUDONYM = b"k" * 64, "0123456789abcdef"


@pytest.fixture
def comparisons(tmp_path: Path) -> Any:
    settings = settings_in(tmp_path)
    state = ServingState(tmp_path / "state.db")
    questions = Questions(settings.collection, settings.bank_dir, state, dict)
    votes = FileVotes(AppendLog(settings.prefs_log), settings.collection.max_line_bytes, None)
    yield Comparisons(settings.collection, votes, ReviewLog(settings.reviews_log), questions, state, KEY, redact)
    state.close()


def shown(comparisons: Comparisons) -> ComparisonView:
    return comparisons.open(
        prompt="Why?", category="other", models=("v1.0", "v1.1"), answers=("Because.", "No idea."),
        visitor=Visitor(PSEUDONYM, "visit", "api", "127.0.0.1"), sampling=Sampling(), propensity=1.0, prompt_ratio=1.0,
        steered=False, asked_by=PSEUDONYM,
    )  # fmt: skip


def test_it_tells_nobody_whose_it_is(comparisons: Comparisons) -> None:
    parts = shown(comparisons).token.split(".")
    told = b"".join(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in parts)
    assert PSEUDONYM.encode() not in told


@pytest.mark.parametrize("back_s", [3.0, 3600.0])
def test_a_clock_that_is_put_back_takes_no_vote_away(
    comparisons: Comparisons, monkeypatch: pytest.MonkeyPatch, back_s: float
) -> None:
    open_one, now = shown(comparisons), time.time()
    monkeypatch.setattr(time, "time", lambda: now - back_s)
    assert comparisons.find(open_one.comparison_id, open_one.token).annotator == PSEUDONYM


def test_it_ends(comparisons: Comparisons, monkeypatch: pytest.MonkeyPatch) -> None:
    open_one, now = shown(comparisons), time.time()
    monkeypatch.setattr(time, "time", lambda: now + 25 * 3600)
    with pytest.raises(TokenRefused, match="expired"):
        comparisons.find(open_one.comparison_id, open_one.token)


def test_one_that_was_issued_before_still_counts(comparisons: Comparisons) -> None:
    open_one = shown(comparisons)
    earlier = URLSafeTimedSerializer(KEY, salt="comparison").dumps([open_one.comparison_id, PSEUDONYM])
    assert comparisons.find(open_one.comparison_id, str(earlier)).annotator == PSEUDONYM
    with pytest.raises(TokenRefused, match="another person"):
        comparisons.find(open_one.comparison_id, str(earlier), "somebody else")


def test_a_vote_can_be_taken_back_for_ten_seconds_and_once(
    comparisons: Comparisons, monkeypatch: pytest.MonkeyPatch
) -> None:
    slip, meant, never = (comparisons.find(each.comparison_id, each.token) for each in map(shown, [comparisons] * 3))

    async def vote() -> None:
        for each in (slip, meant):
            await comparisons.vote(each, "left", NO_REASON)

    asyncio.run(vote())
    comparisons.take_back(slip)
    comparisons.take_back(slip)
    with pytest.raises(TooLate):
        comparisons.take_back(never)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + SLIP_S + ON_ITS_WAY_S + 1)
    with pytest.raises(TooLate, match="within 10 seconds"):
        comparisons.take_back(meant)
    comparisons.take_back(slip)
    found = comparisons.voted([each.comparison_id for each in (slip, meant, never)], PSEUDONYM)
    assert [recorded.withdrawn for _, recorded in found] == [True, False]
