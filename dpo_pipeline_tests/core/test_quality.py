"""The user's four criteria by hand-worked examples, those beyond, and the ones that look at earlier votes."""

import random
import re
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import Indel

from dpo_pipeline.core.admission import LONGEST_TEXT
from dpo_pipeline.core.quality import (
    CRITERIA,
    ValidationHistory,
    failed_criteria,
    more_detailed,
    sentences,
    similarity,
    validate,
    vote_features,
)
from dpo_pipeline.core.votes import Preference
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
# The sentence ends in one pattern, as the guide states them; the code takes a faster way to the same number.
SENTENCE_END = re.compile(r"[.!?](?=[\s\"')\]*_])")
WIDE_SENTENCE_END = re.compile(r"[。！？…]+")
PROSE = st.text(st.sampled_from("aB3 .!?\n\"')]*_。！…\u00a0"), max_size=40)


def validated(
    votes: list[Preference], criteria: QualityCriteria = DEFAULT, memory: ValidationHistory | None = None
) -> list[tuple[str, ...]]:
    memory = memory or ValidationHistory()
    return [validate(vote_features(vote, criteria), criteria, memory) for vote in votes]


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
        ("पानी सौ डिग्री पर उबलता है। पहाड़ों पर यह कम होता है। इसका कारण वायुदाब है।", 3),
        ("জল ফোটে। পাহাড়ে কম।", 2),
        ("پانی ابلتا ہے۔ پہاڑوں پر کم۔", 2),
        ("متى يغلي الماء؟ عند مئة درجة.", 2),
        ("מתי רותחים מים? במאה מעלות.", 2),
        ("Ջուրը եռում է։ Լեռներում՝ ավելի շուտ։", 2),
        ("ရေဆူသည်။ တောင်ပေါ်တွင်လျော့သည်။", 2),
        ("ውሃ ይፈላል። በተራራ ላይ ይቀንሳል።", 2),
        ("ទឹកពុះ។ នៅលើភ្នំតិចជាង។", 2),
        ("ཆུ་ཁོལ། རི་ལ་ཉུང་།", 2),
        ("お湯が沸く。山では低い。理由は気圧だ。", 3),
        ("물은 끓는다. 산에서는 낮다.", 2),
        ("Вода кипит. В горах ниже!", 2),
        ("Το νερό βράζει. Στα βουνά λιγότερο.", 2),
        ("¿Cuándo hierve el agua? A cien grados.", 2),
        ("Wasser kocht. Auf Bergen früher.", 2),
        ("Nước sôi. Trên núi thấp hơn.", 2),
        ("తెలుగు నీరు మరుగుతుంది. కొండలపై తక్కువ.", 2),
        ("น้ำเดือดที่ร้อยองศา บนภูเขาต่ำกว่า เพราะความดัน", 3),  # Thai has no terminator: a space ends a sentence
        ("Maji huchemka. Milimani chini.", 2),
        ("水沸腾。山上更低。", 2),
        ("你好!我很好.谢谢", 3),
        ("“Stop.” Then he left.", 2),
        ("Il a dit «Stop.» Puis il est parti.", 2),
        ("„Halt.“ Dann ging er.", 2),
        ("Πού είναι; Εδώ είναι.", 2),
        ("Πού είναι\u037e Εδώ είναι.", 2),
        ("Ջուրը եռում է: Լեռներում՝ ավելի շուտ:", 2),
        ("ውሃ ይፈላል፡፡ በተራራ ላይ ይቀንሳል፡፡", 2),
        ("בראשית ברא׃ והארץ היתה׃", 2),
        ("ජලය නටයි෴ කඳුවල අඩුයි෴", 2),
        ("ນ້ຳເດືອດ ຢູ່ພູຕ່ຳກວ່າ", 2),
        ("เด็ก ๆ เล่นน้ำ", 1),
        ("ཆུ་ཁོལ།  །རི་ལ་ཉུང་།  །", 2),
        ("ရေ၊ မီး၊ လေ ရှိသည်။", 1),
        ("Two things: one; two.", 1),
        ("Zwei Dinge für später: eins; zwei.", 1),
    ],
)
def test_sentences(text: str, count: int) -> None:
    assert sentences(text) == count


@pytest.mark.parametrize(
    ("chosen", "rejected"),
    [("น้ำเดือดที่ร้อยองศาเพราะความดันอากาศ", "น้ำเดือด"), ("ນ້ຳເດືອດທີ່ຮ້ອຍອົງສາ", "ນ້ຳເດືອດ"), ("One. Two.", "One.")],
)
def test_more_detailed_refuses_no_language_whole(chosen: str, rejected: str) -> None:
    assert more_detailed(chosen, rejected) and not more_detailed(rejected, chosen) and not more_detailed(chosen, chosen)


def test_of_a_pair_of_a_megabyte_no_more_is_compared_than_people_may_send(monkeypatch: pytest.MonkeyPatch) -> None:
    """As an earlier log may hold one: all of it compared took two minutes."""
    compared: list[int] = []

    def noted(chosen: str, rejected: str, cutoff: float = 0.0) -> float:
        compared.extend((len(chosen), len(rejected)))
        return similarity(chosen, rejected, cutoff)

    monkeypatch.setattr("dpo_pipeline.core.quality.similarity", noted)
    chance = random.Random(1)
    chosen, rejected = ("".join(chance.choices("äöü𝄞漢字", k=500_000)) for _ in range(2))
    failed_criteria(chosen, rejected, QualityCriteria(more_detailed=False, no_self_naming=False))
    assert compared and max(compared) <= LONGEST_TEXT


@given(st.text(max_size=300))
def test_sentences_never_fails_and_never_exceeds_the_characters(text: str) -> None:
    assert 0 <= sentences(text) <= len(text)


@given(PROSE)
def test_sentences_are_the_ends_within_the_text_and_the_last_one(text: str) -> None:
    body = text.rstrip(" \u00a0\t\r\n\"')]*_.!?。！？…")
    ends = len(SENTENCE_END.findall(body)) + len(WIDE_SENTENCE_END.findall(body))
    assert sentences(text) == (ends + 1 if body else 0)


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


@given(st.text("ab", max_size=40), st.text("ab", max_size=40), st.floats(0.01, 1))
def test_a_cutoff_changes_no_similarity_at_or_above_it(first: str, second: str, cutoff: float) -> None:
    exact = similarity(first, second)
    assert similarity(first, second, cutoff) == (exact if exact >= cutoff else 0.0)


def test_what_is_too_short_to_be_similar_is_not_looked_at_and_nothing_else() -> None:
    for one, other in product(range(80), range(80)):
        texts = "x" * one, "x" * other
        assert similarity(*texts, 0.8) == Indel.normalized_similarity(*texts, score_cutoff=0.8)


NAMES = ["ChatGPT", "GPT-4", "Gemini", "Claude", "Bard", "Qwen", "Llama 3", "LLaMA", "Vicuna", "OpenAssistant",
         "Open Assistant", "chat-v2", "Chat-v2", "v1.0"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("opening", ["I am ", "i'm the ", "Well. MY NAME IS ", "This is\n", "I’m  "])
def test_every_name_is_found_behind_every_introduction(name: str, opening: str) -> None:
    only = OFF.model_copy(update={"no_self_naming": True})
    assert failed_criteria(f"{opening}{name}, at your service.", SHORT, only) == ["self_naming"]
    assert failed_criteria(SHORT, f"{opening}{name}, at your service.", only) == ["self_naming"]
    assert failed_criteria(f"Ask {name}.", SHORT, only) == []


def test_a_name_does_not_begin_where_the_other_text_ended() -> None:
    assert failed_criteria("Who I am", "Claude is a name", OFF.model_copy(update={"no_self_naming": True})) == []


def test_a_tie_is_no_pair() -> None:
    assert validated([preference(vote="tie"), preference(vote="both_bad")]) == [("no_winner",), ("no_winner",)]


def test_a_vote_against_ones_own_earlier_vote_is_a_contradiction() -> None:
    relaxed = DEFAULT.model_copy(update={"more_detailed": False, "min_length_ratio": None})
    first, second = preference(0), preference(0, vote="b", event_id="evt-other")
    again = preference(0, event_id="evt-again")
    assert validated([first, second, again], relaxed) == [(), ("contradiction",), ("repeat",)]


def test_the_same_choice_with_the_sides_exchanged_is_a_repeat() -> None:
    relaxed = DEFAULT.model_copy(update={"more_detailed": False, "min_length_ratio": None})
    swapped = preference(0, vote="b", event_id="evt-swapped", response_a=SHORT, response_b=LONG)
    assert validated([preference(0), swapped], relaxed) == [(), ("repeat",)]


def test_another_persons_opposite_vote_is_evidence() -> None:
    relaxed = DEFAULT.model_copy(update={"more_detailed": False, "min_length_ratio": None})
    other = preference(0, vote="b", event_id="evt-other", annotator="somebody else")
    assert validated([preference(0), other], relaxed) == [(), ()]


def test_one_person_with_a_hundred_votes_holds_no_more_than_the_share() -> None:
    votes = [preference(i, annotator="eager") for i in range(100)]
    votes += [preference(1000 + i, annotator=f"person-{i % 10}") for i in range(100)]
    results = validated(votes)
    assert results[:100].count(()) == DEFAULT.annotator_floor
    assert all("annotator_share" in failed for failed in results[:100] if failed)
    assert results[100:] == [()] * 100


def test_those_whom_nobody_vouches_for_hold_a_small_share_together() -> None:
    """200 invented names of one vote each, among the votes of a team: no tenth of the dataset is theirs."""
    team = [preference(i, annotator=f"person-{i % 8}", identity="named") for i in range(100)]
    crowd = [preference(100 + i, annotator=f"invented-{i}", identity="anonymous") for i in range(200)]
    found = validated(team + crowd)
    taken = sum(not failed for failed in found[100:])
    assert found[:100] == [()] * 100 and set(found[100:]) == {(), ("anonymous_share",)}
    assert taken == 5, "5 of 105"
    assert validated(crowd, QualityCriteria(max_anonymous_share=None)) == [()] * 200
    assert validated(crowd[:1]) == [("anonymous_share",)], "alone they are no dataset"
    assert validated([preference(1, identity="new")]) == [()], "somebody new at the machine is trained on"


def test_the_share_does_not_bind_imports() -> None:
    votes = [preference(i, annotator="import-file", source="import") for i in range(100)]
    assert validated(votes) == [()] * 100


@pytest.mark.slow
@given(st.integers(1, 60), st.integers(0, 2**30))
def test_batches_do_not_change_results(size: int, seed: int) -> None:
    votes = [preference(i % 17, vote="a" if (i * seed) % 3 else "b", event_id=f"e{i}") for i in range(60)]
    memory = ValidationHistory()
    in_batches = [failed for i in range(0, 60, size) for failed in validated(votes[i : i + size], memory=memory)]
    assert validated(votes) == in_batches
