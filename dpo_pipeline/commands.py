"""How a command of `dpo …` is made: its own errors end with one clear message and status 1."""

import os
import re
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Annotated, Any

import typer
from rich.text import Text
from typer.core import TyperGroup

from dpo_pipeline import __version__, terminal
from dpo_pipeline.errors import DpoError
from dpo_pipeline.in_words import requirement
from dpo_pipeline.nearest import did_you_mean
from dpo_pipeline.settings import Settings, load_settings

PANELS: Mapping[str, tuple[str, ...]] = {
    "Run the loop": ("up", "demo", "up-scaled", "serve", "run", "daemon", "people", "loadtest"),
    "See how it is": ("status", "trace", "forecast", "settings"),
    "Decide about a rollout": ("rollout", "rollback"),
    "Votes and the data folder": ("import", "export", "verify-log", "rebuild", "backup", "restore", "migrate"),
    "People and keys": ("keys", "audit", "forget", "join-spellings"),
    "Base models": ("install-gemma", "build-base"),
}
"""The commands as `dpo --help` shows them."""
_ORDER = [name for names in PANELS.values() for name in names]


def panel_of(name: str) -> str:
    return next(title for title, names in PANELS.items() if name in names)


class _Commands(TyperGroup):
    """What typer says of a wrong option, in words, and with the choice that was meant."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=_ORDER.index)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            error.message = _in_words(error.message)
            raise


def _in_words(message: str) -> str:
    """`'operater' is not one of 'rater', 'operator'.` gets a question behind it."""
    told = requirement(message)
    asked, *choices = re.findall(r"'([^']*)'", told) if " is not one of " in told else [""]
    return told + did_you_mean(asked, choices, 1)


app = typer.Typer(
    cls=_Commands, help="An online feedback loop for chat models.", no_args_is_help=True, pretty_exceptions_enable=False
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"dpo-pipeline {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="which version this is")
    ] = False,
) -> None:
    """An online feedback loop for chat models."""


def data_folder() -> Settings:
    """The settings of a command that looks into the data folder, whose logs are as far as those of other machines."""
    settings = load_settings()
    if settings.database_url:
        from dpo_pipeline.stores.logs import follow_logs  # a tenth of a second that only who shares one shall wait

        follow_logs(settings)
    return settings


def command(name: str, of: typer.Typer = app) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Put a function behind `dpo NAME`."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        @of.command(name, rich_help_panel=panel_of(name) if of is app else None)
        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> None:
            # What people said is for the user of this account alone; the programs started here inherit it.
            os.umask(0o077)
            try:
                function(*args, **kwargs)
            except DpoError as error:
                message = Text.assemble(("error", "red"), f": {terminal.printable(str(error))}")
                terminal.PlainConsole(stderr=True).print(message, soft_wrap=True)
                raise typer.Exit(1) from error

        return run

    return register
