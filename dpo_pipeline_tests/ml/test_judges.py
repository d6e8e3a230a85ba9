"""Judges with real parts: a second server, a reward model on disk, people's labels; and what an evaluation may ask."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from dpo_pipeline.core.dataset import Pair, split_pairs
from dpo_pipeline.core.judging import FENCE, Comparison, reference_score, trust
from dpo_pipeline.core.questions import Question, split_bank
from dpo_pipeline.core.winrate import Outcome
from dpo_pipeline.errors import EvaluationLeaked, ModelUnavailable, SettingsError
from dpo_pipeline.ml.base_model import locate_base
from dpo_pipeline.ml.eval_set import build_eval_set
from dpo_pipeline.ml.evaluation import AdapterRef, judge_versions
from dpo_pipeline.ml.generation import Generator, ScoredAnswer
from dpo_pipeline.ml.llm_judge import LlmJudge
from dpo_pipeline.ml.scoring import AutomaticJudge
from dpo_pipeline.ml.training_plan import write_dataset
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores import artifacts
from dpo_pipeline.stores.bank import read_bank
from dpo_pipeline_tests.examples import SHARED_DATA
from dpo_pipeline_tests.upstream import Upstream, model_server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[Upstream]:
    with model_server() as running:
        yield running


def with_judge(settings: Settings, **fields: object) -> Settings:
    return settings.model_copy(update={"evaluation": settings.evaluation.model_copy(update=fields)})


def compared(settings: Settings, count: int = 6) -> list[Comparison]:
    return [Comparison(q, q.detailed[0], q.wrong[0]) for q in read_bank(settings.bank_dir)[:count]]


def test_an_llm_judge_sees_both_orders_and_is_not_swayed_by_place(project: Settings, server: Upstream) -> None:
    settings = with_judge(project, judge="llm", judge_url=server.url, judge_model="judge")

    def longer(model: str, text: str) -> str:
        """Prefers the longer answer, whatever its place."""
        first, second = (text.split(f"ANSWER {letter} {FENCE}\n")[1].split(f"\n{FENCE}")[0] for letter in "AB")
        return f"The longer one.\n[[{'A' if len(first) > len(second) else 'B'}]]"

    server.say = longer
    server.asked.clear()
    pairs = compared(settings)
    found = LlmJudge(settings).compare(pairs)
    assert [each.outcome for each in found] == ["win" if len(p.answer) > len(p.other) else "loss" for p in pairs]
    assert len(server.asked) == 2 * len(pairs)
    server.say = lambda model, text: "The first, of course. [[A]]"
    assert all(each.outcome == "tie" and each.flipped for each in LlmJudge(settings).compare(pairs))
    server.say = lambda model, text: "Hard to say."
    assert all(each.outcome is None for each in LlmJudge(settings).compare(pairs))


def test_a_judge_that_does_not_answer_is_an_error_and_no_verdict(project: Settings, server: Upstream) -> None:
    settings = with_judge(project, judge="llm", judge_url=server.url, judge_model="judge")
    server.status = 500
    try:
        with pytest.raises(ModelUnavailable, match="DPO_EVALUATION__JUDGE=automatic"):
            LlmJudge(settings).compare(compared(settings, 1))
    finally:
        server.status = 200
    with pytest.raises(SettingsError, match="DPO_EVALUATION__JUDGE_URL"):
        LlmJudge(with_judge(project, judge="llm"))


def test_a_reward_model_from_a_folder(project: Settings, tmp_path: Path) -> None:
    import torch
    from transformers import AutoConfig, Qwen2ForSequenceClassification

    from dpo_pipeline.ml.reward_model import RewardModelJudge

    base = locate_base(project).directory
    for path in base.glob("*token*"):
        shutil.copy(path, tmp_path)
    config = AutoConfig.from_pretrained(base, num_labels=1)
    torch.manual_seed(0)
    Qwen2ForSequenceClassification(config).save_pretrained(tmp_path)
    settings = with_judge(project, judge="reward_model", reward_model=str(tmp_path), tie_margin=0.0)
    judge = RewardModelJudge(settings)
    pairs = compared(settings)
    found = judge.compare(pairs)
    turned = judge.compare([Comparison(p.question, p.other, p.answer) for p in pairs])
    assert {each.outcome for each in found} <= {"win", "loss"} and len({each.score for each in found}) > 1
    for one, other in zip(found, turned, strict=True):
        assert one.score == pytest.approx(other.other_score, abs=1e-4) and one.outcome != other.outcome
    with pytest.raises(ModelUnavailable, match="DPO_EVALUATION__REWARD_MODEL"):
        RewardModelJudge(with_judge(project, judge="reward_model", reward_model=str(tmp_path / "none")))


def test_likelihoods_are_the_models_own_under_each_adapter(project: Settings, baseline: Path) -> None:
    """Against a plain forward pass of PEFT, row by row."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = locate_base(project)
    generator = Generator(base, project.model)
    sha = artifacts.read_manifest(baseline)["sha256"]
    generator.load(sha, baseline)
    texts = ["Air spreads blue light.", "A much longer answer about the sky, the air, and the evening."]
    rows = [
        ScoredAnswer((("user", "Why is the sky blue?"),), text, adapter) for text in texts for adapter in (None, sha)
    ]
    found = generator.logprobs(rows, batch=3)
    plain = AutoModelForCausalLM.from_pretrained(base.directory).eval()
    tuned = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base.directory), baseline).eval()
    for row, scored in zip(rows, found, strict=True):
        ids, begin = generator._scored_ids(row)
        with torch.inference_mode():
            logits = (tuned if row.adapter else plain)(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
        expected = [float(logits[i - 1, ids[i]]) for i in range(begin, len(ids))]
        assert scored == pytest.approx(expected, abs=2e-4)


def test_the_automatic_judge_prefers_right_and_complete(project: Settings) -> None:
    judge = AutomaticJudge(Generator(locate_base(project), project.model), project.evaluation)
    found = judge.compare(compared(project, 40))
    assert sum(each.outcome == "win" for each in found) >= 38
    unknown = Question("What do you dream of?", "other", (), (), (), "", ())
    [other] = judge.compare([Comparison(unknown, "Of the sea.", "Of the sea.")])
    assert other.outcome == "tie"


def test_without_facts_the_words_of_the_references_decide(project: Settings) -> None:
    judge = AutomaticJudge(Generator(locate_base(project), project.model), project.evaluation)
    wrong = ("Watermelons grow in your stomach.",)
    asked = Question("What if I eat a seed?", "other", (), (), wrong, "The seed passes through your body.", ())
    found = judge.compare(
        [Comparison(asked, "A seed just passes through your body.", "A melon grows in your stomach.")]
    )
    assert found[0].outcome == "win"


def test_an_exam_asks_nothing_that_was_trained_on(project: Settings) -> None:
    asked, held_out = split_bank(read_bank(project.bank_dir), project.collection.holdout_share)

    def dataset(questions: list[Question]) -> Path:
        pairs = [
            Pair(
                event_id=f"e{number}", prompt=question.question, chosen=question.detailed[0],
                rejected=question.terse[0], category=question.category, source="ui",
            )
            for number, question in enumerate(questions)
        ]  # fmt: skip
        return write_dataset(project, split_pairs(pairs, frozenset(), 0.1, 8))

    made = build_eval_set(project, dataset(asked[:60]))
    assert made.bank and made.harmful and made.votes and {origin for origin, _ in made.others} == {"edge_case"}
    assert {question.question for question in made.bank} <= {question.question for question in held_out}
    with pytest.raises(EvaluationLeaked, match="dpo_dataset"):
        build_eval_set(project, dataset([*asked[:60], *held_out[:8]]))


def test_what_is_measured_of_a_version_against_itself(project: Settings, baseline: Path) -> None:
    """The same weights twice: no drift, equal answers, nothing but ties."""
    manifest = artifacts.read_manifest(baseline)
    own = AdapterRef(manifest["sha256"], baseline)
    settings = with_judge(project, questions=10, samples=1, edge_cases=2)
    answers, measured = judge_versions(
        settings, locate_base(settings), own, own, build_eval_set(settings), lambda step, total, metrics: None
    )
    assert {answer.outcome for answer in answers} == {"tie"} and len(answers) == 12
    assert measured.drift and abs(measured.drift.kl_per_token) < 1e-6 and measured.trust is None
    assert measured.safety and measured.safety.requests == 24 and not measured.safety.fewer


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="the labelled answers are not here (../shared/data)")
def test_reference_scores_against_peoples_labels() -> None:
    """How far to trust word overlap: people labelled these answers true or not."""
    references = {row["question"]: row for row in rows("qa_truthfulqa")}
    labelled = [row for row in rows("factuality_truthfulqa_labelled_3000") if row["question"] in references]
    scored = []
    for row in labelled:
        known = references[row["question"]]
        scored.append((reference_score(row["answer"], known["references"], known["incorrect"]), row["label"] == "yes"))
    right = sum((score > 0.5) == label for score, label in scored) / len(scored)
    true = sorted(score for score, label in scored if label)
    false = sorted(score for score, label in scored if not label)
    auc = sum(sum(score > other for other in false) + sum(score == other for other in false) / 2 for score in true)
    auc /= len(true) * len(false)
    print(f"{len(scored)} labelled answers: agreement {right:.3f}, area under the curve {auc:.3f}")
    assert len(scored) > 2500 and auc > 0.6


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="the annotated battles are not here (../shared/data)")
def test_length_alone_against_pandalms_annotators() -> None:
    """The longer answer wins with people more often than not, which is why length is controlled for."""
    from dpo_pipeline.core.judging import by_scores

    said: list[Outcome] = []
    judged = []
    for row in rows("battles_pandalm_human"):
        if row["winner"] in ("model_a", "model_b"):
            said.append("win" if row["winner"] == "model_a" else "loss")
            judged.append(by_scores(float(row["len_a"]), float(row["len_b"]), 0.5))
    found = trust(judged, said)
    print(f"length alone: {found}")
    assert found.share is not None and 0.4 < found.share < 0.7


@pytest.mark.nightly
@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="the labelled pairs are not here (../shared/data)")
def test_the_automatic_judge_itself_against_people(project: Settings) -> None:
    """Questions without facts or reference: only likelihood and sentiment speak, and they say next to nothing.

    Beside them the same true and false answers with the references known: there words decide.
    """
    judge = AutomaticJudge(Generator(locate_base(project), project.model), project.evaluation)
    names = ("pairs_hhh_alignment", "pairs_hh_harmless", "pairs_autoj", "pairs_llmfao_crowd")
    pairs = [(row["prompt"], row["chosen"], row["rejected"]) for name in names for row in rows(name)]
    labelled: dict[str, dict[str, str]] = {}
    for row in rows("factuality_truthfulqa_labelled_3000"):
        labelled.setdefault(row["question"], {})[row["label"]] = row["answer"]
    true = [(question, said["yes"], said["no"]) for question, said in labelled.items() if len(said) == 2]
    known = {
        row["question"]: Question(
            row["question"], "other", (), tuple(row["references"]), tuple(row["incorrect"]), row["references"][0], ()
        )
        for row in rows("qa_truthfulqa")
    }
    for title, decided, references, low, high in (
        ("pairs that people decided", pairs, {}, 0.2, 0.7),
        ("a true and a false answer", true, {}, 0.2, 0.7),
        ("a true and a false answer, references known", true, known, 0.6, 1.0),
    ):
        short = [each for each in decided if isinstance(each[0], str) and all(0 < len(text) <= 300 for text in each)]
        comparisons = [
            Comparison(references.get(asked, Question(asked, "other", (), (), (), "", ())), chosen, rejected)
            for asked, chosen, rejected in short
        ]
        found = trust(judge.compare(comparisons), ["win"] * len(comparisons))
        longer = sum(len(chosen) > len(rejected) for _, chosen, rejected in short) / len(short)
        print(f"automatic judge on {title}: {found}; the longer answer: {longer:.3f} of {len(short)}")
        assert len(short) > 100 and found.share is not None and low < found.share < high


def rows(name: str) -> list[dict]:  # type: ignore[type-arg]
    return [json.loads(line) for line in (SHARED_DATA / f"{name}.jsonl").read_text().split("\n") if line]
