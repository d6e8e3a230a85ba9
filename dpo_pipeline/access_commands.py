"""`dpo keys` and `dpo audit`: who may do what here, and who did."""

import getpass
from typing import TYPE_CHECKING, Annotated

import typer

from dpo_pipeline import terminal
from dpo_pipeline.commands import app, command, data_folder, panel_of
from dpo_pipeline.settings import Role, Settings

if TYPE_CHECKING:
    from dpo_pipeline.stores.audit import AuditLog

keys = typer.Typer(help="Keys of people and programs.", no_args_is_help=True)
audit = typer.Typer(help="Who did what that needs a key, and who was refused.", no_args_is_help=True)
app.add_typer(keys, name="keys", rich_help_panel=panel_of("keys"))
app.add_typer(audit, name="audit", rich_help_panel=panel_of("audit"))
COMMAND_LINE = "command line"


@command("add", of=keys)
def add_key(
    name: Annotated[str, typer.Argument(help="whose key it is, as logs and pages will name them")],
    role: Annotated[Role, typer.Option(help="service: a program that speaks for the people it names")] = "rater",
) -> None:
    """Make a key and show it once. From the first one on, people without a key count as anonymous."""
    from dpo_pipeline.core.identity import ROLES, with_article
    from dpo_pipeline.stores.key_ring import KeyRing
    from dpo_pipeline.stores.logs import logs_of

    settings = data_folder()
    key = KeyRing(settings.keys_log, logs_of(settings)).add(name, role)
    note(settings, f"gave {name} the key of {with_article(role)}")
    terminal.console.print(f"{name} is {with_article(role)}, who {ROLES[role]}. The key, which nobody can show again:")
    typer.echo(key)
    sign_in = f"A person signs in with it at {settings.serving_address}/sign-in; a program sends it as `Authorization: "
    terminal.console.print(f"{sign_in}Bearer …`.", soft_wrap=True)


@command("list", of=keys)
def list_keys() -> None:
    """Whose keys are valid."""
    from dpo_pipeline.stores.key_ring import KeyRing

    ring = KeyRing(data_folder().keys_log)
    found = ring.accounts()
    rows = [{"name": each.name, "role": each.role, "id": each.key_id, "since": each.since} for each in found]
    if rows:
        terminal.print_rows("Keys", rows)
    elif ring.in_use:
        terminal.console.print("Nobody holds a key any more: everybody without one counts as anonymous.")
    else:
        terminal.console.print("Nobody holds a key: whoever is at this machine may use everything but rollout orders.")


@command("revoke", of=keys)
def revoke_key(name: Annotated[str, typer.Argument(help="whose key, or its id")]) -> None:
    """Revoke a key; it and the sessions that began with it end at once."""
    from dpo_pipeline.stores.key_ring import KeyRing
    from dpo_pipeline.stores.logs import logs_of

    settings = data_folder()
    account = KeyRing(settings.keys_log, logs_of(settings)).revoke(name)
    note(settings, f"revoked the key of {account.name}")
    terminal.console.print(f"The key of {account.name} opens nothing any more.")


@command("show", of=audit)
def show_audit(newest: Annotated[int, typer.Option(help="so many entries")] = 30) -> None:
    """The newest entries, oldest of them first."""
    entries = list(_audit_log().entries())[-newest:]
    rows = [
        {"when": e.recorded_at, "who": e.who, "what": e.what, "from": e.address, "outcome": e.outcome, "": e.detail}
        for e in entries
    ]
    if rows:
        terminal.print_rows("Audit log", rows)
    else:
        terminal.console.print("Nothing that needs a key was done here yet.")


@command("verify", of=audit)
def verify_audit() -> None:
    """Check that no entry was changed, left out or put in, and print the last hash: keep it elsewhere."""
    hashes = [entry.hash for entry in _audit_log().entries()]
    terminal.console.print(f"{len(hashes)} entries, each follows from the one before. Last hash:")
    typer.echo(hashes[-1] if hashes else "none")


def note(settings: Settings, what: str, detail: str = "") -> None:
    """Note what a person at the machine does."""
    from dpo_pipeline.loop.redactor import redactor
    from dpo_pipeline.stores.audit import AuditLog

    AuditLog(settings.audit_log, redactor(settings.collection)).record(
        getpass.getuser(), what, COMMAND_LINE, "allowed", detail
    )


def _audit_log() -> "AuditLog":
    from dpo_pipeline.stores.audit import AuditLog

    return AuditLog(data_folder().audit_log)
