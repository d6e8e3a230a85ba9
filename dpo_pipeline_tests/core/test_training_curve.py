"""What is kept of a training's rows."""

from dpo_pipeline.core.training_curve import MOST_POINTS, kept_points, line_of


def test_only_what_is_shown_is_kept() -> None:
    rows = [{"step": 1, "loss": 0.7, "rewards/margins": 0.0, "learning_rate": 0.1}, {"step": 2, "loss": 0.6}]
    kept = kept_points(rows)
    assert kept == [{"step": 1.0, "loss": 0.7, "rewards/margins": 0.0}, {"step": 2.0, "loss": 0.6}]
    assert line_of(kept, "rewards/margins") == [(1.0, 0.0)] and line_of(kept, "rewards/accuracies") == []


def test_a_long_curve_is_thinned_out_and_keeps_its_end() -> None:
    kept = kept_points([{"step": step, "loss": 1.0} for step in range(1, 1002)])
    assert MOST_POINTS / 2 < len(kept) <= MOST_POINTS and kept[-1]["step"] == 1001
    assert kept_points([]) == []
