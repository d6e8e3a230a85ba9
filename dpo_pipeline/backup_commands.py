"""`dpo backup`, `restore`, `migrate` and `export`: the data folder, or its votes, kept elsewhere and put back."""

from pathlib import Path
from typing import Annotated

import typer

from dpo_pipeline import terminal
from dpo_pipeline.commands import command, data_folder
from dpo_pipeline.people_commands import check_stopped
from dpo_pipeline.request_errors import InvalidRequest
from dpo_pipeline.settings import load_settings
from dpo_pipeline.settings.shown import without_passwords

MB = 1_000_000


@command("backup")
def back_up(directory: Annotated[Path, typer.Argument(help="a new folder, outside the data folder")]) -> None:
    """Copy all that must not be lost, while the programs run. The copy holds what people said, and the keys."""
    from dpo_pipeline.loop.backup import back_up

    made = back_up(data_folder(), directory)
    terminal.console.print(f"{directory}: {made.files} files, {made.size_bytes / MB:,.1f} MB.", soft_wrap=True)
    for name in made.elsewhere:
        terminal.console.print(f"What {name} names is not in it: back it up by its own means.", soft_wrap=True)


@command("migrate")
def migrate(
    to: Annotated[str, typer.Option(help="postgresql://user@host/name; or `files`, back from DPO_DATABASE_URL")],
) -> None:
    """Move votes, feedback, ledger, keys and what serving remembers into a Postgres that machines share, or back.

    Stop the programs first. Both sides are compared at the end; interrupted, run it again.
    """
    from dpo_pipeline.loop.migrate import into_database, into_files

    settings = load_settings()
    check_stopped(settings)
    if to == "files":
        moved, then = into_files(settings), "Leave DPO_DATABASE_URL out from now on."
    elif settings.database_url:
        raise InvalidRequest("DPO_DATABASE_URL is set: this folder works on a database already. Leave it out here.")
    else:
        url = load_settings(database_url=to).database_url or to
        moved, then = into_database(settings, url), f"Set DPO_DATABASE_URL={without_passwords(url)} from now on."
    for name, count in {**moved.lines, **moved.rows}.items():
        terminal.console.print(f"{count:>9,} {name}", soft_wrap=True)
    terminal.console.print(f"All of it is there, and equal. {then}", soft_wrap=True)


@command("export")
def export(file: Annotated[Path, typer.Argument(help="is replaced where it is there")]) -> None:
    """Write the votes to a file, byte for byte as the log has them; with DPO_DATABASE_URL those of all machines."""
    from dpo_pipeline.loop.export_votes import export_votes

    lines = export_votes(load_settings(), file)
    said = f"{file}: {lines:,} votes. `dpo import` reads it, and so does any reader of JSON lines."
    terminal.console.print(said, soft_wrap=True)


@command("restore")
def restore(backup: Annotated[Path, typer.Argument(help="a folder that `dpo backup` made")]) -> None:
    """Put a backup into an empty data folder (DPO_DATA_DIR), wherever it lies; then `make up`."""
    from dpo_pipeline.loop.backup import restore

    settings = load_settings()
    found = restore(settings, backup)
    terminal.console.print(
        f"{settings.data_dir}: {found.files} files, {found.size_bytes / MB:,.1f} MB. The next curation run builds the "
        "warehouse again.",
        soft_wrap=True,
    )
