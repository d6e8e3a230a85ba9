"""The strip of the loop's page: where each part leads."""

from dpo_pipeline.core.overview import Overview, Step
from dpo_pipeline.serving.pages.loop import overview_page

TRAINED = Step("Training", "done", "v1.1", "Trained last on 90 pairs; not at work now.", version="v1.1")


def test_a_step_leads_to_the_page_of_its_version_and_to_its_runs() -> None:
    shown = overview_page(Overview((TRAINED,), "v1.0 answers everybody.", "v1.2 waits."), {"Dagster": "http://h:3000"})
    assert '<a href="/versions/v1.1"' in shown
    assert '<a href="http://h:3000/runs?q%5B0%5D=tag%3Adagster%2Fpartition%3Dv1.1"' in shown
    assert ">done<" in shown and "waiting" not in shown


def test_whoever_comes_is_told_what_they_can_do_once_they_can() -> None:
    votes = Step("Votes", "open", "12", "From the A/B test page.")
    assert 'href="/compare">compare two answers' in overview_page(Overview((votes,), "Now.", "Then."), {})
    assert "Your part" not in overview_page(Overview((TRAINED,), "v1.0 is being built.", "Then."), {})


def test_where_nobody_knows_dagsters_address_there_is_no_link_to_it() -> None:
    shown = overview_page(Overview((TRAINED,), "v1.0 answers everybody.", "v1.2 waits."), {})
    assert "Dagster" not in shown and "/runs" not in shown
