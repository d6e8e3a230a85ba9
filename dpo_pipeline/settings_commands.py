"""`dpo settings`: every setting, or one, with its variable and what it does."""

import json
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from dpo_pipeline import terminal
from dpo_pipeline.commands import command
from dpo_pipeline.errors import SettingsError
from dpo_pipeline.nearest import did_you_mean
from dpo_pipeline.settings import Section, Settings, load_settings, setting_names
from dpo_pipeline.settings.shown import without_passwords


@command("settings")
def show_settings(
    name: Annotated[str, typer.Argument(help="one setting, such as recipe.beta or DPO_RECIPE__BETA; none: all")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="as JSON")] = False,
) -> None:
    """Every setting, its value, its variable and what it does."""
    settings = load_settings()
    if as_json and not name:
        terminal.console.print_json(data=without_passwords(settings.model_dump(mode="json")))
        return
    rows = [_row(settings, each) for each in ([_known(name)] if name else setting_names())]
    told = [(variable, _told(value), what) for variable, value, what, section in rows if not section]
    if not told:
        raise SettingsError(f"{name} is a section. Name one of its settings, or leave the name out to see all.")
    if as_json:
        typer.echo(json.dumps({variable: value for variable, value, _ in told}))
        return
    if name or not terminal.console.is_terminal:  # one a line, whole, for people and for grep
        for variable, value, what in told:
            typer.echo(f"{variable}={value}" + (f"  # {what}" if what else ""))
        return
    table = Table(title=f"profile {settings.profile}", box=None)
    table.add_column("variable", no_wrap=True)
    table.add_column("value", overflow="fold")
    table.add_column("what it does", overflow="fold")
    for row in told:
        table.add_row(*map(Text, row))
    terminal.console.print(table)


def _known(name: str) -> str:
    """A setting's name in the form `recipe__beta`.

    Raises:
        SettingsError: there is none; names the nearest.
    """
    asked = name.lower().removeprefix("dpo_").replace(".", "__")
    names = setting_names()
    if asked in names:
        return asked
    known = [each.replace("__", ".") for each in names]
    raise SettingsError(f"There is no setting {name!r}.{did_you_mean(asked.replace('__', '.'), known)}")


def _told(value: Any) -> str:
    """As descriptions and profiles write it."""
    return "null" if value is None else str(without_passwords(str(value)))


def _row(settings: Settings, name: str) -> tuple[str, Any, str, bool]:
    """(variable, value, description, whether it is a section) of a setting in the form `recipe__beta`."""
    value: Any = settings
    description = ""
    for part in name.split("__"):
        description = type(value).model_fields[part].description or ""
        value = getattr(value, part)
    return f"DPO_{name.upper()}", value, description, isinstance(value, Section)
