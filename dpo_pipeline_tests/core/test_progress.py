"""How long work still takes, and what people who wait for the first version are told."""

from dpo_pipeline.core.progress import TaskProgress, first_version

NOW = 1_000_000.0


def task(name: str, step: int, total: int = 100, ago: float = 0.0, took: float = 10.0) -> TaskProgress:
    return TaskProgress(name, step, total, {}, updated=NOW - ago, started=NOW - ago - took)


def test_time_left_is_the_speed_of_this_start() -> None:
    assert task("sft", 25, took=10).left_s == 30
    resumed = TaskProgress("sft", 60, 100, {}, updated=NOW, started=NOW - 10, first_step=50)
    assert resumed.left_s == 40


def test_the_first_report_knows_no_speed() -> None:
    first = TaskProgress("sft", 7, 100, {}, updated=NOW, started=NOW, first_step=7)
    assert first.left_s is None and str(first) == "step 7 of 100"


def test_each_phase_of_the_first_start_has_its_sentence() -> None:
    base, sft = task("base_model", 100), task("sft", 100)
    said = [
        first_version([], None, NOW),
        first_version([task("base_model", 50)], None, NOW),
        first_version([base], None, NOW),
        first_version([base, task("sft", 50)], None, NOW),
        first_version([base, sft], None, NOW),
        first_version([base, sft], "v1.0", NOW),
    ]
    assert "Dagster starts" in said[0]
    assert said[1] == "The base model is being built: step 50 of 100, about 10 s left."
    assert "tuned next" in said[2]
    assert said[3] == "v1.0, the first version, is being tuned: step 50 of 100, about 10 s left."
    assert "being recorded" in said[4]
    assert said[5].startswith("v1.0 is ready and is being loaded")


def test_a_task_that_stands_still_says_so_and_where_to_look() -> None:
    said = first_version([task("sft", 50, ago=300)], None, NOW)
    assert "nothing has moved for 5 min" in said and "Dagster" in said
