"""The user's four criteria by hand-worked examples, those beyond, and the ones that look at earlier votes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpo_pipeline.core.quality import CRITERIA, Memory, failed_criteria, judge, judge_all, sentences, similarity
from dpo_pipeline.settings import QualityCriteria
from dpo_pipeline_tests.examples import LONG, SHORT, preference

DEFAULT = QualityCriteria()
OFF = QualityCriteria(
    min_length_ratio=None,
    max_similarity=None,
    min_characters=None,
    more_detailed=False,
    differ_within_characters=None,
    no_template_tokens=False,
    no_self_naming=False,
    no_contradiction=False,
    no_repeat=False,
    max_annotator_share=None,
)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("...", 0),
        ("One", 1),
        ("One.", 1),
        ("One. Two", 2),
        ("One. Two!", 2),
        ("Pi is 3.14 or so.", 1),
        ("See example.com now. Then go.", 2),
        ('He said "Stop." Then he left.', 2),
        ("Really?! Yes.", 2),
        ("One.\nTwo.\n\nThree.", 3),
        ("你好。今天很好！谢谢", 3),
        ("**Bold.** Plain.", 2),
    ],
)
def test_sentences(text: str, count: int) -> None:
    assert sentences(text) == count


@given(st.text(max_size=300))
def test_sentences_never_fails_and_never_exceeds_the_characters(text: str) -> None:
    assert 0 <= sentences(text) <= len(text)


@pytest.mark.parametrize(
    ("chosen", "rejected", "failed"),
    [
        (LONG, SHORT, []),
        (SHORT, LONG, ["length_ratio", "more_detailed"]),
        (LONG, LONG, ["identical", "similarity", "more_detailed"]),
        (LONG, "", ["empty", "too_short"]),
        (LONG, LONG.replace("Seine", "Rhine"), ["similarity", "more_detailed"]),
        (LONG, "Paris.", ["too_short"]),
        (LONG + " <|im_end|>", SHORT, ["template_tokens"]),
        (LONG + " I am v1.1, a model.", SHORT, ["self_naming"]),
        (LONG, "I'm ChatGPT and it is Paris", ["self_naming"]),
        (LONG + " I am in Paris. v1.1 of the guide says so.", SHORT, []),
    ],
)
def test_each_criterion_by_example(chosen: str, rejected: str, failed: list[str]) -> None:
    assert failed_criteria(chosen, rejected, DEFAULT) == failed


def test_length_ratio_is_strict_at_one_half() -> None:
    only = OFF.model_copy(update={"min_length_ratio": 0.5})
    assert failed_criteria("x" * 10, "y" * 20, only) == ["length_ratio"]
    assert failed_criteria("x" * 11, "y" * 20, only) == []


def test_longer_than_ten_characters() -> None:
    only = OFF.model_copy(update={"min_characters": 10})
    assert failed_criteria("x" * 10, "y" * 20, only) == ["too_short"]
    assert failed_criteria("x" * 11, "y" * 20, only) == []


def test_identical_within_the_length_the_model_reads() -> None:
    only = OFF.model_copy(update={"differ_within_characters": 100})
    assert failed_criteria("x" * 100 + "one", "x" * 100 + "two", only) == ["identical"]


def test_switched_off_only_what_can_teach_nothing_is_refused() -> None:
    assert failed_criteria(SHORT, LONG, OFF) == []
    assert failed_criteria(SHORT, SHORT, OFF) == ["identical"]
    assert failed_criteria(SHORT, " ", OFF) == ["empty"]


@given(st.text(max_size=200), st.text(max_size=200))
def test_every_reason_is_documented(chosen: str, rejected: str) -> None:
    assert set(failed_criteria(chosen, rejected, DEFAULT)) <= set(CRITERIA)


@given(st.text(max_size=80), st.text(max_size=80))
def test_similarity_is_symmetric_and_bounded(first: str, second: str) -> None:
    assert 0.0 <= similarity(first, second) == similarity(second, first) <= 1.0


def test_a_tie_is_no_pair() -> None:
    assert judge(preference(vote="tie"), DEFAULT, Memory()).failed == ("no_winner",)
    assert judge(preference(vote="both_bad"), DEFAULT, Memory()).failed == ("no_winner",)


def test_a_vote_against_ones_own_earlier_vote_is_a_contradiction() -> None:
    relaxed = DEFAULT.model_copy(update={"more_detailed": False, "min_length_ratio": None})
    first, second = preference(0), preference(0, vote="b", event_id="evt-other")
    again = preference(0, event_id="evt-again")
    verdicts = judge_all([first, second, again], relaxed, Memory())
    assert [verdict.failed for verdict in verdicts] == [(), ("contradiction",), ("repeat",)]


def test_another_persons_opposite_vote_is_evidence() -> None:
    relaxed = DEFAULT.model_copy(update={"more_detailed": False, "min_length_ratio": None})
    other = preference(0, vote="b", event_id="evt-other", annotator="somebody else")
    assert [v.failed for v in judge_all([preference(0), other], relaxed, Memory())] == [(), ()]


def test_one_person_with_a_hundred_votes_holds_no_more_than_the_share() -> None:
    votes = [preference(i, annotator="eager") for i in range(100)]
    votes += [preference(1000 + i, annotator=f"person-{i % 10}") for i in range(100)]
    verdicts = judge_all(votes, DEFAULT, Memory())
    held = sum(v.valid for v in verdicts[:100])
    assert held == DEFAULT.annotator_floor
    assert all("annotator_share" in v.failed for v in verdicts[:100] if not v.valid)
    assert all(v.valid for v in verdicts[100:])


def test_the_share_does_not_bind_imports() -> None:
    votes = [preference(i, annotator="import-file", source="import") for i in range(100)]
    assert all(verdict.valid for verdict in judge_all(votes, DEFAULT, Memory()))


@given(st.integers(1, 60), st.integers(0, 2**30))
def test_batches_do_not_change_verdicts(size: int, seed: int) -> None:
    votes = [preference(i % 17, vote="a" if (i * seed) % 3 else "b", event_id=f"e{i}") for i in range(60)]
    at_once = judge_all(votes, DEFAULT, Memory())
    memory = Memory()
    in_batches = [v for i in range(0, 60, size) for v in judge_all(votes[i : i + size], DEFAULT, memory)]
    assert at_once == in_batches
