"""Where MLflow's pages show what. An address that begins with `#` leads on from any page of the same MLflow."""

from dataclasses import dataclass

EVALUATION = "evaluation"
"""The folder of a run in which its evaluation lies."""
# MLflow 3 shows every browser the pages for applications until its switch is on "Model training"; a link may turn it.
WORKFLOW = "workflowType=machine_learning"


@dataclass(frozen=True)
class RunPages:
    """Of one training: its curves, its evaluation (null: there is none), and the runs beside it."""

    curves: str
    evaluation: str | None
    all_runs: str

    @classmethod
    def of(cls, experiment: str, run: str, report: str | None) -> "RunPages":
        """
        Args:
            report: path of the evaluation's page among the artifacts of the run.
        """
        return cls(
            run_page(experiment, run, "/model-metrics"),
            report and run_page(experiment, run, f"/artifacts/{report}"),
            f"#/experiments/{experiment}/runs?{WORKFLOW}",
        )


def run_page(experiment: str, run: str, part: str = "") -> str:
    return f"#/experiments/{experiment}/runs/{run}{part}?{WORKFLOW}"


def page_of_run(run: str) -> str:
    """For whoever does not know its experiment; MLflow leads on from there."""
    return f"#/runs/{run}?{WORKFLOW}"


def version_page(model: str, number: str) -> str:
    return f"#/models/{model}/versions/{number}?{WORKFLOW}"
