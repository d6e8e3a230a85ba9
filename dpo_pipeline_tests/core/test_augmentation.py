"""Synthetic pairs: marked, few, clear, and nowhere near an evaluation."""

from dpo_pipeline.core.augmentation import clear_winners, drawn_questions, is_near, mixed, paraphrases
from dpo_pipeline.core.dataset import Pair, split_pairs
from dpo_pipeline.core.judging import by_scores
from dpo_pipeline.core.questions import split_bank
from dpo_pipeline.stores.bank import read_bank
from dpo_pipeline_tests.examples import PROJECT_DIR

BANK = read_bank(PROJECT_DIR / "data" / "bank")
ASKED, HELD_OUT = split_bank(BANK, 0.25)
TEXTS = [question.question for question in HELD_OUT]


def pair(number: int, source: str = "ui", prompt: str | None = None) -> Pair:
    return Pair(
        event_id=f"{source}-{number}", prompt=prompt or ASKED[number].question, chosen=f"better {number}",
        rejected=f"worse {number}", category="creative", source=source,
    )  # fmt: skip


def test_a_paraphrase_is_near_its_question_and_not_the_same() -> None:
    question = "Why is the sky blue?"
    forms = paraphrases(question)
    assert len(set(forms)) == 4 and question not in forms
    assert all(is_near(form, [question]) for form in forms)
    assert not is_near("How do bees find their way home?", [question])


def test_nothing_near_a_held_out_question_is_drawn() -> None:
    drawn = drawn_questions(BANK, TEXTS, 200, seed=3)
    assert len(drawn) > 50 and not any(is_near(each.question, TEXTS) for each in drawn)
    assert drawn == drawn_questions(BANK, TEXTS, 200, seed=3) != drawn_questions(BANK, TEXTS, 200, seed=4)
    assert {each.question for each in drawn}.isdisjoint(question.question for question in BANK)


def test_only_clear_winners_are_kept_and_marked() -> None:
    questions = drawn_questions(ASKED, TEXTS, 3, seed=0)
    answers = [("a long good answer", "short"), ("one", "two"), ("bad", "a good one")]
    judged = [by_scores(0.9, 0.2, 0.0), by_scores(0.5, 0.45, 0.0), by_scores(0.1, 0.8, 0.0)]
    found = clear_winners(questions, answers, judged, margin=0.2)
    assert [(each.chosen, each.rejected, each.source) for each in found] == [
        ("a long good answer", "short", "synthetic"), ("a good one", "bad", "synthetic"),
    ]  # fmt: skip


def test_the_mix_keeps_its_share_and_the_eval_half_is_peoples_own() -> None:
    split = split_pairs([pair(number) for number in range(100)], frozenset(), 0.1, 8)
    made = [pair(number, "synthetic", f"A friend asked me: {ASKED[number].question}") for number in range(100)]
    made.append(pair(200, "synthetic", f"Could you tell me: {TEXTS[0]}") if len(ASKED) > 200 else pair(1, "synthetic"))
    both = mixed(split, made, 0.2, TEXTS)
    synthetic = [each for each in both.train if each.source == "synthetic"]
    assert 0 < len(synthetic) / len(both.train) <= 0.2
    assert both.eval == split.eval and all(each.source == "ui" for each in both.eval)
    evaluated = [str(each.prompt) for each in split.eval]
    assert not any(is_near(str(each.prompt), [*TEXTS, *evaluated]) for each in synthetic)
    assert both.content_hash != split.content_hash
    assert mixed(split, [], 0.2, TEXTS) is split
