"""Loading: the settings as of now, with an error that names every wrong one."""

import os
from collections.abc import Sequence
from functools import cache
from typing import Any

from pydantic import BaseModel, ValidationError

from dpo_pipeline.errors import SettingsError
from dpo_pipeline.in_words import requirement
from dpo_pipeline.nearest import did_you_mean
from dpo_pipeline.settings.shown import shown
from dpo_pipeline.settings.sources import ENV_PREFIX
from dpo_pipeline.settings.tree import Settings

NO_SETTINGS = ("GEMMA_TERMS",)
"""Variables with our prefix that are answers, not settings."""
OF_PROGRAMS = "DPO_RUN_"
"""How variables begin that `dpo up` sets for the lines of the Procfile."""
SECRET = ("keys", "notifications")
"""Sections whose values are told to nobody."""


def load_settings(**overrides: Any) -> Settings:
    """The settings as of now.

    Raises:
        SettingsError: naming every wrong setting, what was found, and what was required.
    """
    _refuse_unknown_variables()
    try:
        return Settings(**overrides)
    except ValidationError as error:
        lines = [
            f"  {'.'.join(parts)} ({_variable(parts)}): {requirement(item['msg'])}{_found(parts, item.get('input'))}"
            for item in error.errors()
            for parts in [[str(part) for part in item["loc"]]]
        ]
        raise SettingsError("These settings are wrong; fix them and start again:\n" + "\n".join(lines)) from error


def _found(parts: Sequence[str], value: object) -> str:
    """What was found; of a secret, nothing: errors end in logs. A whole section is no finding: the message names it."""
    return "" if parts[0] in SECRET or isinstance(value, dict) else f" (found {shown(value)})"


def _variable(parts: Sequence[str]) -> str:
    """The variable of a setting; of a part of a list, that of the list."""
    return ENV_PREFIX + "__".join(part for part in parts if not part.isdigit()).upper()


def _refuse_unknown_variables() -> None:
    """A misspelt variable would be ignored in silence otherwise, and a blank key would leave a door open."""
    known = {*NO_SETTINGS, *(name.upper() for name in setting_names())}
    for variable, value in os.environ.items():
        if variable.upper().startswith(f"{ENV_PREFIX}KEYS__") and not value.strip():
            raise SettingsError(
                f"{variable} is set and blank, so nothing would be locked. Give it a key of at least 16 characters, or "
                "unset it to have none."
            )
        if variable.startswith(OF_PROGRAMS):
            continue
        if variable.startswith(ENV_PREFIX) and variable.removeprefix(ENV_PREFIX).upper() not in known:
            near = did_you_mean(variable, [ENV_PREFIX + name for name in known], 1)
            raise SettingsError(
                f"{variable} names no setting.{near} `dpo settings` lists all of them with their variables."
            )


@cache
def setting_names() -> tuple[str, ...]:
    """Every setting in the form of its variable without the prefix: `profile`, `recipe__beta` …"""
    return tuple(_names(Settings, ""))


def _names(model: type[BaseModel], prefix: str) -> list[str]:
    names = []
    for name, field in model.model_fields.items():
        names.append(prefix + name)
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            names.extend(_names(annotation, f"{prefix}{name}__"))
    return names
