"""Every training leaves its curve where pages find it."""

import pytest

from dpo_pipeline.core.training_curve import line_of
from dpo_pipeline.stores.training_curves import read_curve
from dpo_pipeline_tests.assets.conftest import Loop

pytestmark = pytest.mark.slow


def test_the_first_version_leaves_its_loss(loop: Loop) -> None:
    assert read_curve(loop.settings.reports_dir, "v1.0", 1) == []
    loop.build_baseline()
    losses = line_of(read_curve(loop.settings.reports_dir, "v1.0", 1), "loss")
    steps = [step for step, _ in losses]
    assert len(losses) > 1 and steps == sorted(steps) and all(0 < loss < 10 for _, loss in losses)
