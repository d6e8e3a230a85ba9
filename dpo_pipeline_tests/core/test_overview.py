"""What the loop's page and `dpo status` say: each state in a sentence, and why what comes next waits."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from dpo_pipeline.core.cadence import CadenceDecision
from dpo_pipeline.core.curation import CurationSummary
from dpo_pipeline.core.loop_facts import InProduction, LoopFacts
from dpo_pipeline.core.overview import Step, overview
from dpo_pipeline.core.progress import TaskProgress
from dpo_pipeline_tests.examples import version_record

NOW = 1_000_000.0
V10 = version_record("v1.0", status="champion", adapter_sha="a" * 64)
V11 = version_record(
    "v1.1", status="rolling_out", parent="v1.0", adapter_sha="b" * 64, pairs=90, pairs_seen=100,
    updated_at="1970-01-01T00:00:00+00:00",
)  # fmt: skip


def cadence(unused: int, due: bool = False, reason: str = "") -> CadenceDecision:
    return CadenceDecision(due, reason, "startup", 100, unused)


USUAL = LoopFacts(
    summary=CurationSummary(recorded=620, valid=606, rejected=12, quarantined=2),
    cadence=cadence(87),
    versions=(V10,),
    served=InProduction("v1.0"),
    tasks=(),
    max_attempts=3,
    now=NOW,
)


def task(name: str, step: int, ago: float = 0.0, **more: Any) -> TaskProgress:
    return TaskProgress(name, step, 100, {"loss": 0.62}, updated=NOW - ago, started=NOW - ago - 10, **more)


def at(facts: LoopFacts, name: str) -> Step:
    return next(step for step in overview(facts).steps if step.name == name)


@pytest.mark.parametrize(
    ("change", "now", "then"),
    [
        ({}, "v1.0 answers everybody.", "v1.1 needs 13 more valid pairs (87 of 100)."),
        ({"cadence": cadence(120, due=True)}, "v1.0 answers everybody.", "v1.1 is due: 120 valid pairs are ready"),
        (
            {"cadence": cadence(120, reason="cooling down for 3.0 more hours")},
            "v1.0 answers everybody.",
            "v1.1 waits: cooling down for 3.0 more hours.",
        ),
        (
            {"versions": (V10, replace(V11, status="training")), "tasks": (task("dpo", 30), task("eval", 3, ago=900))},
            "v1.0 answers everybody; v1.1 is being trained, step 30 of 100, about 23 s left.",
            "v1.1 (attempt 1 of 3) is then evaluated against v1.0.",
        ),
        (
            {"versions": (V10, replace(V11, status="trained")), "tasks": (task("eval", 50),)},
            "v1.1 is being evaluated, step 50 of 100",
            "evaluated against v1.0 next",
        ),
        ({"versions": (V10, replace(V11, status="improved"))}, "v1.0 answers", "v1.1 is better than v1.0"),
        ({"versions": (V10, replace(V11, status="registered"))}, "v1.0 answers", "its rollout begins"),
        (
            {"versions": (V10, replace(V11, status="inconclusive", attempt=3))},
            "v1.0 answers",
            "v1.1 came out inconclusive, and that was its last attempt",
        ),
        (
            {"versions": (V10, replace(V11, status="not_improved"))},
            "v1.0 answers",
            "v1.1 came out not improved (attempt 1 of 3); it is trained again with one thing changed.",
        ),
        (
            {
                "versions": (V10, V11),
                "served": InProduction("v1.0", "v1.1", "canary", 0.05, left_h=70.0),
                "cadence": cadence(606),
            },
            "v1.1 is in canary (5% of the traffic).",
            "v1.2: 606 valid pairs are ready; it waits for the rollout of v1.1, 3 days at the earliest.",
        ),
        (
            {"versions": (V10, V11), "served": InProduction("v1.0", "v1.1", "staging", 0.0, paused=True, left_h=30.0)},
            "v1.1 is in staging (A/B test, and copies that nobody sees), paused.",
            "v1.2 needs 13 more valid pairs (87 of 100) and waits for the rollout of v1.1, 30 h at the earliest.",
        ),
        (
            {"versions": (), "served": InProduction(None), "tasks": (task("sft", 50),)},
            "v1.0, the first version, is being tuned: step 50 of 100, about 10 s left.",
            "Then people can chat, compare two answers and vote.",
        ),
    ],
)
def test_what_happens_and_what_comes_next(change: dict[str, Any], now: str, then: str) -> None:
    found = overview(replace(USUAL, **change))
    assert now in found.happening
    assert then in found.next


def test_the_strip_counts_votes_and_pairs() -> None:
    assert at(USUAL, "Votes").figure == "620" and "2 lines could not be read" in at(USUAL, "Votes").said
    voted = CurationSummary(recorded=500, simulated=476, votes={"a": 300, "b": 188})
    said = at(replace(USUAL, summary=voted), "Votes").said
    assert said.startswith("12 by people, 476 simulated, 12 imported. ")
    pairs = at(USUAL, "Valid pairs")
    assert (pairs.figure, pairs.share) == ("606", 0.87)
    assert pairs.said == "87 are not used yet; 100 start a training. 12 did not pass a check."


def test_a_training_shows_its_loss_and_one_that_stands_still_says_so() -> None:
    at_work = replace(
        USUAL, versions=(V10, replace(V11, status="training")), tasks=(task("dpo", 30, losses=(0.69, 0.62)),)
    )
    step = at(at_work, "Training")
    assert (step.state, step.figure, step.share, step.losses) == ("working", "v1.1", 0.3, (0.69, 0.62))
    assert step.said == "Training on preferences, step 30 of 100, about 23 s left. Loss 0.62."
    stuck = at(replace(at_work, tasks=(task("dpo", 30, ago=600),)), "Training")
    assert stuck.state == "stuck" and "nothing has moved for 10 min" in stuck.said


def test_reports_of_an_earlier_training_are_not_taken_for_this_one() -> None:
    begun = datetime.fromtimestamp(NOW - 60, UTC).isoformat()
    training = replace(USUAL, versions=(V10, replace(V11, status="training", updated_at=begun)))
    old = (task("dpo", 12, ago=900),)
    step = at(replace(training, tasks=old), "Training")
    assert (step.state, step.figure) == ("working", "v1.1") and "being prepared or checked" in step.said
    assert "v1.1 is being trained." in overview(replace(training, tasks=old)).happening
    lost = replace(training, tasks=old, now=NOW + 7 * 3600)
    assert at(lost, "Training").state == "stuck" and "reports no step" in at(lost, "Training").said
    given_up = replace(USUAL, versions=(V10, replace(V11, status="given_up")), tasks=old)
    assert at(given_up, "Training").state == "done"


def test_the_strip_says_what_the_newest_version_came_to() -> None:
    judged = replace(V11, evaluation={"verdict": "improved"}, win_rate=0.63, mlflow_run="r", mlflow_version="2")
    step = at(replace(USUAL, versions=(V10, judged)), "Evaluation")
    assert step.said == "Improved: wins 63.0% against v1.0." and (step.mlflow_run, step.mlflow_version) == ("r", "2")
    by_length = replace(judged, evaluation={"verdict": "improved", "controlled": 0.4, "controlled_error": 0.01})
    assert at(replace(USUAL, versions=(V10, by_length)), "Evaluation").said.startswith("Improved, by length only")
    trained = at(replace(USUAL, versions=(V10, judged)), "Training").said
    assert trained == "Last trained on 90 pairs; nothing is being trained now."
    rollout = at(replace(USUAL, served=InProduction("v1.0", "v1.1", "half", 0.5, left_h=24)), "Rollout")
    assert (rollout.figure, rollout.share, rollout.state) == ("v1.1", 0.5, "working")
    assert "v1.0 has the rest. Full traffic in 24 h at the earliest." in rollout.said


def test_chips_tell_what_is_over_from_what_waits() -> None:
    def states(**change: Any) -> list[str]:
        return [step.state for step in overview(replace(USUAL, **change)).steps]

    assert states() == ["open", "waiting", "done", "waiting", "done"]
    both = (V10, replace(V11, evaluation={"verdict": "improved"}))
    served = InProduction("v1.0", "v1.1", "canary", 0.05)
    assert states(versions=both, served=served, cadence=cadence(120)) == ["open", "ready", "done", "done", "working"]
    assert states(versions=both, served=replace(served, paused=True))[-1] == "waiting"
    assert states(versions=(), served=InProduction(None), cadence=cadence(0)) == ["waiting"] * 5
    assert {step.version for step in overview(replace(USUAL, versions=both, served=served)).steps[2:]} == {"v1.1"}


def test_votes_that_nobody_reads_say_that_dagster_may_not_run() -> None:
    assert at(replace(USUAL, unread_s=500), "Valid pairs").state == "waiting"
    unread = at(replace(USUAL, unread_s=900), "Valid pairs")
    assert unread.state == "stuck" and "15 min to be read: is Dagster running?" in unread.said


def test_votes_that_are_not_read_yet_are_why_another_page_counts_more() -> None:
    assert "Newer ones are counted once they are read." in at(replace(USUAL, unread_s=3), "Votes").said
    assert "Newer ones" not in at(USUAL, "Votes").said


def test_an_empty_house_has_a_strip_too() -> None:
    empty = replace(USUAL, summary=CurationSummary(), versions=(), served=InProduction(None), cadence=cadence(0))
    assert [step.figure for step in overview(empty).steps] == ["0", "0", "none yet", "none yet", "none yet"]
