"""How a command of `dpo …` is made: its own errors end with one clear message and status 1."""

import os
from collections.abc import Callable
from functools import wraps
from typing import Any

import typer
from rich.text import Text

from dpo_pipeline import terminal
from dpo_pipeline.errors import DpoError

app = typer.Typer(help="An online feedback loop for chat models.", no_args_is_help=True, pretty_exceptions_enable=False)


def command(name: str, of: typer.Typer = app) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Put a function behind `dpo NAME`."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        @of.command(name)
        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> None:
            # What people said is for the user of this account alone; the programs started here inherit it.
            os.umask(0o077)
            try:
                function(*args, **kwargs)
            except DpoError as error:
                message = Text.assemble((type(error).__name__, "red"), f": {terminal.printable(str(error))}")
                terminal.PlainConsole(stderr=True).print(message, soft_wrap=True)
                raise typer.Exit(1) from error

        return run

    return register
