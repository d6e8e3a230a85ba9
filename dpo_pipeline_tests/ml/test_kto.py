"""KTO for real on a tiny model: it learns from pairs and from answers that people called good or bad."""

from dataclasses import replace
from pathlib import Path

import pytest

from dpo_pipeline.core.dataset import LabelledAnswer, split_pairs, with_labelled
from dpo_pipeline.errors import DatasetTooSmall
from dpo_pipeline.ml.train_process import run
from dpo_pipeline.ml.training_plan import write_dataset, write_llamafactory_config
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.bank import read_bank
from dpo_pipeline_tests.ml.trainings import job, pairs, tensors

pytestmark = pytest.mark.slow


def labelled(settings: Settings, number: int) -> list[LabelledAnswer]:
    """Detailed answers are good and terse ones bad, as in the pairs; more good ones than bad."""
    questions = read_bank(settings.bank_dir)[:number]
    return [
        LabelledAnswer(
            event_id=f"thumb-{place}",
            prompt=question.question,
            answer=question.detailed[0] if place % 3 else question.terse[0],
            good=place % 3 > 0,
            source="thumb",
        )
        for place, question in enumerate(questions)
    ]


@pytest.mark.nightly
def test_it_learns_from_both_and_is_judged_on_held_out_pairs(project: Settings, baseline: Path) -> None:
    split = with_labelled(split_pairs(pairs(project), frozenset(), 0.15, 8), labelled(project, 60), 0.15)
    given = job(project, baseline, write_dataset(project, split), objective="kto", epochs=3)
    result = run(given)
    good = sum(each.good for each in split.labelled)
    assert result.facts["answers"] == 2 * len(split.train) + len(split.labelled)
    assert result.facts["good_answers"] == len(split.train) + good and result.facts["recipe"]["objective"] == "kto"
    assert result.metrics["rewards/accuracies"] > 0.6 and result.metrics["rewards/margins"] > 0.1
    assert result.curve[0]["loss"] > result.curve[-1]["loss"] and "kl" in result.curve[-1]
    start, made = tensors(baseline), tensors(Path(result.adapter_dir))
    assert start.keys() == made.keys(), "without TRL's copy of the reference"
    # The same job in another folder, without what the first one left there, comes out the same.
    again = run(replace(given, work_dir=given.work_dir + "-again"))
    assert again.adapter_sha == result.adapter_sha
    config = write_llamafactory_config(project.model, given)
    assert config and config.name == "kto.yaml" and "stage: kto" in config.read_text()


def test_thumbs_alone_make_a_version(project: Settings, baseline: Path) -> None:
    split = with_labelled(split_pairs([], frozenset(), 0.15, 0), labelled(project, 60), 0.15)
    result = run(job(project, baseline, write_dataset(project, split), objective="kto", epochs=2))
    assert result.facts["answers"] == len(split.labelled) > 40 and result.facts["pairs"] == 0
    assert result.metrics["rewards/margins"] > 0, "as the last step has it: nothing was held out"
    with pytest.raises(DatasetTooSmall, match="answers can be trained on"):
        few = with_labelled(split_pairs([], frozenset(), 0.15, 0), labelled(project, 10), 0.15)
        run(job(project, baseline, write_dataset(project, few), objective="kto"))
