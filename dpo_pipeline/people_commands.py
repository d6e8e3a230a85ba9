"""`dpo forget` and `dpo join-spellings`: what is kept of one person, changed while the programs are stopped."""

from typing import Annotated

import typer

from dpo_pipeline import terminal
from dpo_pipeline.commands import command, data_folder
from dpo_pipeline.errors import ServiceError
from dpo_pipeline.settings import Settings

console = terminal.console


@command("forget")
def forget_person(
    person: Annotated[str, typer.Argument(help="a name as it was given to serving, or a pseudonym from the log")],
    pseudonym: Annotated[bool, typer.Option(help="PERSON is a pseudonym already")] = False,
) -> None:
    """Remove a person from logs, databases and datasets, and list the versions trained on their votes."""
    from dpo_pipeline.loop.forget import forget
    from dpo_pipeline.stores.pseudonyms import pseudonyms_of, signing_key

    settings = data_folder()
    check_stopped(settings)
    whose = [person] if pseudonym else pseudonyms_of(person, signing_key(settings))
    found, who = forget(settings, *whose, name="" if pseudonym else person), whose[0]
    console.print(
        f"{found.votes} votes, {found.requests} requests and ratings, {found.reviews} reviews, {found.quarantined} "
        f"quarantined lines and {len(found.datasets)} datasets of {who} are removed. The next curation run rebuilds "
        "the warehouse."
    )
    if found.versions:
        console.print(
            f"Trained on these votes, and unchanged by this: {', '.join(found.versions)}. Retire them by rolling out a "
            "version trained from now on."
        )
    if found.left:
        for trace in found.left:
            console.print(f"{trace.path} still holds {trace.what!r}", soft_wrap=True)
        raise ServiceError(
            f"{len(found.left)} files still hold something of {who}: look at them, and delete what is not needed."
        )


@command("join-spellings")
def join_people(
    names: Annotated[list[str], typer.Argument(help="names as they were given to serving")],
) -> None:
    """Join what earlier versions of this program kept of one person under several spellings of the name.

    Give each name as it was typed then; the programs must be stopped.
    """
    from dpo_pipeline.loop.join_spellings import Joined, join_spellings

    settings = data_folder()
    check_stopped(settings)
    for name in names:
        found = join_spellings(settings, name)
        if found == Joined():
            console.print(f"{name}: nothing stands under another spelling.")
        else:
            console.print(
                f"{name}: {found.votes} votes, {found.lines} other lines and {found.rows} rows of the serving state "
                "stood under other spellings and are theirs now."
            )


def check_stopped(settings: Settings) -> None:
    """
    Raises:
        ServiceError: programs that write to the data folder still run.
    """
    from dpo_pipeline.answering import answering
    from dpo_pipeline.stores.folder_lock import DAEMON, SERVING, is_held

    up = answering(settings)
    # Servers of one database have folders of their own, and `dagster dev` has no lock: the ports tell of these.
    running = {
        "serving": is_held(settings.data_dir / SERVING) or (settings.database_url and up["serving"]),
        "Dagster's daemon": is_held(settings.dagster_home / DAEMON),
        f"Dagster at {settings.dagster_address}": up["Dagster"],
    }
    if names := [name for name, runs in running.items() if runs]:
        raise ServiceError(
            f"Still running, and would keep writing: {', '.join(names)}. Stop them (Ctrl-C in `make up`) first. "
            "A Dagster of another data folder needs another port: DPO_PORTS__DAGSTER."
        )
