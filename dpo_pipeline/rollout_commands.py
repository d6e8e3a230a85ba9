"""`dpo rollout …`: show the rollout, and decide about it by hand."""

import getpass
import json
from typing import TYPE_CHECKING, Annotated

import typer

from dpo_pipeline import terminal
from dpo_pipeline.access_commands import note
from dpo_pipeline.commands import app, command, data_folder, panel_of

if TYPE_CHECKING:
    from dpo_pipeline.loop.manual_actions import ManualAction

rollout = typer.Typer(help="Show the rollout, and decide about it by hand.", no_args_is_help=True)
app.add_typer(rollout, name="rollout", rich_help_panel=panel_of("rollout"))
Reason = Annotated[str, typer.Option(help="shown in the decision history")]


@command("show", of=rollout)
def show_rollout(as_json: Annotated[bool, typer.Option("--json", help="as JSON, for programs")] = False) -> None:
    """Version, stage, traffic and what it waits for."""
    from dpo_pipeline.status import loop_status

    found = loop_status(data_folder())
    if as_json:
        typer.echo(json.dumps(found["rollout"], indent=2))
    else:
        terminal.print_rollout(found)


@command("promote", of=rollout)
def promote(reason: Reason) -> None:
    """Promote the version that is being rolled out to its next stage now, unless a safety check or harm forbids it."""
    _order("promote", reason)


@command("pause", of=rollout)
def pause(reason: Reason) -> None:
    """Keep the version at its stage. Evidence of harm still rolls it back."""
    _order("pause", reason)


@command("resume", of=rollout)
def resume(reason: Reason) -> None:
    """Let the next check promote the version again."""
    _order("resume", reason)


@command("abort", of=rollout)
def abort(reason: Reason) -> None:
    """Roll the version back; at full traffic, the champion to its predecessor. Serving follows within seconds."""
    _order("abort", reason)


@command("make-champion", of=rollout)
def make_champion(version: Annotated[str, typer.Argument(help="such as v1.1")], reason: Reason) -> None:
    """Let an accepted version answer everybody now: what moving the alias champion in MLflow does."""
    from dpo_pipeline.loop import manual_actions
    from dpo_pipeline.stores.ledger import Ledger

    settings = data_folder()
    with Ledger(settings.ledger_address) as ledger:
        note(settings, f"rollout: make {version} champion", reason)
        actor = f"{getpass.getuser()}, dpo rollout make-champion"
        manual_actions.make_champion(settings, ledger, version, reason, actor)
    terminal.console.print(f"{version} is champion: it answers everybody within seconds.", markup=False)


@command("rollback")
def rollback(reason: Reason) -> None:
    """The same as `dpo rollout abort`."""
    _order("abort", reason)


def _order(what: "ManualAction", reason: str) -> None:
    from dpo_pipeline.loop.manual_actions import order
    from dpo_pipeline.stores.ledger import Ledger

    settings = data_folder()
    with Ledger(settings.ledger_address) as ledger:
        before = ledger.deployment()
        note(settings, f"rollout: {what}", reason)
        after = order(settings, ledger, what, reason, actor=f"{getpass.getuser()}, dpo rollout {what}")
    done = {
        "promote": f"promoted from {before.stage} to {after.stage}",
        "pause": f"paused at {after.stage}; evidence of harm still rolls it back",
        "resume": f"resumed at {after.stage}",
        "abort": f"rolled back; {after.champion} answers everybody within seconds",
    }
    terminal.console.print(f"{before.subject} is {done[what]}.")
