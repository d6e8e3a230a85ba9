"""Figures of a week as people read them: with their unit, and as precise as they are worth reading."""

import pytest

from dpo_pipeline.core.kpi_names import KPI_NAMES, kpi_label, kpi_value
from dpo_pipeline_tests.core.test_report import report


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("error_rate", 0.00862, "0.86%"),
        ("error_rate", 0.0, "0%"),
        ("win_rate_over_baseline", 0.719, "71.9%"),
        ("category_coverage", 1.0, "100%"),
        ("user_satisfaction", 3.694, "3.69"),
        ("preferences_collected", 1810.0, "1,810"),
        ("session_length", 3.2, "3.2"),
    ],
)
def test_a_value_has_its_unit(name: str, value: float, told: str) -> None:
    assert kpi_value(name, value) == told


def test_every_figure_has_a_name_and_its_target_the_same_unit() -> None:
    kpis = {kpi.name: kpi for kpi in report().kpis}
    assert set(kpis) == set(KPI_NAMES) and not any("_" in kpi_label(name) for name in kpis)
    assert kpis["win_rate_over_baseline"].target == "at least 55%"
    assert kpis["preferences_collected"].target == "at least 300" and kpis["error_rate"].target == "below 1%"
