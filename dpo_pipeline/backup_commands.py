"""`dpo backup` and `dpo restore`: the data folder, kept elsewhere and put back."""

from pathlib import Path
from typing import Annotated

import typer

from dpo_pipeline import terminal
from dpo_pipeline.commands import command, data_folder
from dpo_pipeline.settings import load_settings

MB = 1_000_000


@command("backup")
def back_up(directory: Annotated[Path, typer.Argument(help="a new folder, outside the data folder")]) -> None:
    """Copy all that must not be lost, while the programs run. The copy holds what people said, and the keys."""
    from dpo_pipeline.loop.backup import back_up

    made = back_up(data_folder(), directory)
    terminal.console.print(f"{directory}: {made.files} files, {made.size_bytes / MB:,.1f} MB.", soft_wrap=True)
    for name in made.elsewhere:
        terminal.console.print(f"What {name} names is not in it: back it up by its own means.", soft_wrap=True)


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
