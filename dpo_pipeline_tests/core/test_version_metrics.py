"""What counts for and against a version, alone and in a stage of its rollout."""

from dataclasses import replace

import msgspec
import pytest

from dpo_pipeline.core.exposure import Unit, gets_challenger, is_control, unit_key
from dpo_pipeline.core.serving_records import FeedbackRecord, Record
from dpo_pipeline.core.stage_metrics import Stage, stage_metrics
from dpo_pipeline.core.version_metrics import version_metrics
from dpo_pipeline_tests.examples import MOMENT, request

CANARY = Stage(since=MOMENT, new="v1.1", baseline="v1.0", traffic=0.2)
EARLIER = "2026-01-05T09:30:00.000Z"
P99_MS = 2000.0


def rating(person: str, stars: int, request_id: str) -> FeedbackRecord:
    told = {"event_id": f"evt-{person}-{request_id}-{stars}", "recorded_at": MOMENT, "request_id": request_id}
    return FeedbackRecord(**told, user=person, version="v1.1", signal="rating", value=stars)


def people(served: bool) -> list[str]:
    """Of whom the canary serves the new version, or not."""
    return [name for n in range(1000) if gets_challenger(name := f"user {n}", "v1.1", CANARY.traffic) == served]


def test_one_person_is_one_voice_and_a_request_is_rated_once() -> None:
    told = [rating("flood", 1, "r-1" if number % 2 else f"r-{number}") for number in range(100)]
    for person in ("ann", "bob", "cleo"):
        told += [rating(person, 2, f"r-of-{person}"), rating(person, 5, f"r-of-{person}")]
    metrics = version_metrics(told, ["v1.1"])["v1.1"]
    assert metrics.satisfaction == (1 + 5 + 5 + 5) / 4
    assert metrics.ratings == 51 + 3, "the newest rating of each request"


def test_whoever_names_a_version_is_not_among_its_people() -> None:
    """A load test of v1.1 by name, by somebody whom the rollout serves v1.0, and the other way round."""
    served, other = people(True)[0], people(False)[0]
    asked = [(served, "v1.1"), (other, "v1.1"), (served, "v1.0"), (other, "v1.0")]
    records: list[Record] = [request(n, user=user, version=version) for n, (user, version) in enumerate(asked)]
    new, baseline, met = stage_metrics([*records, rating(other, 1, "r-1")], CANARY, P99_MS)
    assert (new.requests, new.ratings, met.new, baseline.requests) == (1, 0, 1, 1)


def test_what_nobody_vouches_for_is_no_evidence() -> None:
    """Strangers who fail, and who rate badly, beside one person with a key and one from before keys were."""
    records: list[Record] = []
    for number, (person, identity) in enumerate(zip(people(True), ["named", "anonymous", "new", None], strict=False)):
        known = {"identity": identity} if identity else {}
        records.append(request(number, user=person, outcome="ok" if identity in ("named", None) else "error", **known))
        rated = rating(person, 5 if identity != "anonymous" else 1, f"r-{number}")
        records.append(msgspec.structs.replace(rated, **known))
    new, _, met = stage_metrics(records, CANARY, P99_MS)
    assert (new.requests, new.errors, new.satisfaction, met.opinions.units) == (2, 0, 5, 2)
    everybody, _, _ = stage_metrics(records, replace(CANARY, count_unproven=True), P99_MS)
    assert (everybody.requests, everybody.errors, everybody.ratings) == (4, 2, 4)


@pytest.mark.parametrize("unit", ["person", "conversation", "request"])
def test_a_rating_counts_also_where_it_is_written_before_its_request(unit: Unit) -> None:
    """Requests are written a moment later than answered: who rates at once is in the log first."""
    numbers = [
        number
        for number in range(200)
        if gets_challenger(unit_key(unit, f"p{number}", f"talk {number}", f"r-{number}"), "v1.1", CANARY.traffic)
    ]
    rated = [rating(f"p{number}", 4, f"r-{number}") for number in numbers]
    asked = [request(number, user=f"p{number}", conversation=f"talk {number}") for number in numbers]
    new, _, met = stage_metrics([*rated, *asked], replace(CANARY, unit=unit), P99_MS)
    assert len(numbers) > 20 and (new.requests, new.ratings, met.opinions.units) == (len(numbers),) * 3
    assert new.satisfaction == 4


def test_a_clock_that_was_set_back_takes_no_evidence_away() -> None:
    """Of the stage is what was answered in its epoch, at whatever moment; what was answered before it is not."""
    ours = people(True)[:4]
    control = [name for name in people(False) if is_control(name, "v1.1", CANARY.traffic)][:4]
    now = [request(n, user=name, recorded_at=EARLIER, epoch=5, outcome="error") for n, name in enumerate(ours)]
    beside = [
        request(10 + n, user=name, version="v1.0", recorded_at=EARLIER, epoch=6) for n, name in enumerate(control)
    ]
    before = [request(20 + n, user=name, epoch=4) for n, name in enumerate(ours)]
    rated = [msgspec.structs.replace(rating(ours[0], 2, "r-0"), recorded_at=EARLIER)]
    records: list[Record] = [*before, *now, *beside, *rated]
    new, baseline, met = stage_metrics(records, replace(CANARY, epoch=5), P99_MS)
    assert (new.requests, new.errors, new.satisfaction, baseline.requests) == (4, 4, 2.0, 4)
    assert (met.new, met.control, met.opinions.units) == (4, 4, 1)
    by_the_clock, _, _ = stage_metrics(records, CANARY, P99_MS)
    assert (by_the_clock.requests, by_the_clock.errors) == (4, 0), "without an epoch the moment has to tell"


def test_what_simulated_people_asked_and_rated_counts_and_is_counted_apart_too() -> None:
    asked = [request(n, user="p", source="simulated" if n else "ui") for n in range(3)]
    rated = [msgspec.structs.replace(rating("p", 4, f"r-{n}"), source="simulated") for n in range(2)]
    found = version_metrics([*asked, *rated], ["v1.1"])["v1.1"]
    assert (found.requests, found.simulated_requests, found.ratings, found.simulated_ratings) == (3, 2, 2, 2)


def test_records_from_before_epochs_were_kept_count_by_their_moment() -> None:
    old = [request(n, user=name) for n, name in enumerate(people(True)[:3])]
    older = [request(10 + n, user=name, recorded_at=EARLIER) for n, name in enumerate(people(True)[:3])]
    new, _, _ = stage_metrics([*older, *old], replace(CANARY, epoch=5), P99_MS)
    assert new.requests == 3
