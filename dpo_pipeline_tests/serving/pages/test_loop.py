"""The strip of the loop's page: where each part leads."""

from dataclasses import replace

from dpo_pipeline.core.overview import Overview, Step
from dpo_pipeline.serving.pages.loop import overview_page

PROGRAMS = {"Dagster": "http://h:3000", "MLflow": "http://h:5000"}
TRAINED = Step("Training", "done", "v1.1", "Trained last on 90 pairs; not at work now.", version="v1.1")


def test_a_step_leads_to_the_page_of_its_version_and_to_its_runs() -> None:
    shown = overview_page(Overview((TRAINED,), "v1.0 answers everybody.", "v1.2 waits."), PROGRAMS, "chat")
    assert '<a href="/versions/v1.1"' in shown
    assert '<a href="http://h:3000/runs?q%5B0%5D=tag%3Adagster%2Fpartition%3Dv1.1"' in shown
    assert ">done<" in shown and "waiting" not in shown


def test_whoever_comes_is_told_what_they_can_do_once_they_can() -> None:
    votes = Step("Votes", "open", "12", "From the A/B test page.")
    assert 'href="/compare">compare two answers' in overview_page(Overview((votes,), "Now.", "Then."), {}, "chat")
    assert "Your part" not in overview_page(Overview((TRAINED,), "v1.0 is being built.", "Then."), {}, "chat")


def test_where_nobody_knows_dagsters_address_there_is_no_link_to_it() -> None:
    shown = overview_page(Overview((TRAINED,), "v1.0 answers everybody.", "v1.2 waits."), {}, "chat")
    assert "Dagster" not in shown and "/runs" not in shown


def test_mlflow_opens_on_the_training_or_the_version_and_not_on_its_first_page() -> None:
    training = replace(TRAINED, mlflow_run="f00d", mlflow_version="2")
    judged = replace(training, name="Evaluation")
    shown = overview_page(Overview((training, judged, TRAINED), "Now.", "Then."), PROGRAMS, "chat")
    assert '<a href="http://h:5000/#/runs/f00d?workflowType=machine_learning"' in shown
    assert '<a href="http://h:5000/#/models/chat/versions/2?workflowType=machine_learning"' in shown
    assert shown.count("in MLflow") == 2, "no link where MLflow has nothing of it"
