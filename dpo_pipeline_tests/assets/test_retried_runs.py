"""A run whose process was killed is started again by Dagster, from the step that it was in."""

import dagster as dg
import pytest

from dpo_pipeline.automation.jobs import JOBS
from dpo_pipeline_tests.assets.conftest import Loop


def ingest_and_validate() -> dg.JobDefinition:
    """By name, as another process finds it."""
    from dpo_pipeline.definitions import defs

    return defs.resolve_job_def("ingest_and_validate")


def test_a_run_goes_on_at_the_step_that_it_was_in(loop: Loop) -> None:
    first = loop.run("ingest_and_validate")
    assert first.success
    again = dg.execute_job(
        dg.reconstructable(ingest_and_validate),
        instance=loop.instance,
        reexecution_options=dg.ReexecutionOptions(first.run_id, step_selection=["validated_pairs"]),
    )
    with again:
        assert again.success and [event.step_key for event in again.get_step_success_events()] == ["validated_pairs"]


@pytest.mark.parametrize("name", [job.name for job in JOBS])
def test_no_job_hands_values_from_step_to_step(name: str) -> None:
    from dpo_pipeline.definitions import defs

    job = defs.resolve_job_def(name)
    assert job.resource_defs["io_manager"] is not dg.mem_io_manager, "Dagster refuses to go on from such a step"
