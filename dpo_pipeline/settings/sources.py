"""Where values come from beside keyword arguments: variables `DPO_…`, and the profile file."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource

from dpo_pipeline.errors import SettingsError
from dpo_pipeline.in_words import kind_of
from dpo_pipeline.nearest import did_you_mean
from dpo_pipeline.settings.shown import shown

PROFILES_DIR = Path(__file__).resolve().parents[1] / "profiles"
ENV_PREFIX = "DPO_"
LARGEST_PROFILE = 1 << 20


class VariableSource(EnvSettingsSource):
    """Environment variables; a list may be written as JSON or with commas: `DPO_RECIPE__LOSS_TYPE=sigmoid,sft`."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """
        Raises:
            SettingsError: naming the variable, where it is neither.
        """
        is_list = field is not None and _is_list(field.annotation)
        try:
            decoded = super().decode_complex_value(field_name, field, value)
        except ValueError as error:
            if is_list and not value.lstrip().startswith(("[", "{")):
                return [part.strip() for part in value.split(",") if part.strip()]
            raise SettingsError(
                f"{self._variable(field_name, value)} is not JSON ({error}); found {shown(value)}. Set it to "
                + ("a JSON list, or to values with commas between them." if is_list else "a JSON mapping.")
            ) from error
        return [decoded] if is_list and not isinstance(decoded, list) else decoded

    def _variable(self, field_name: str, value: str) -> str:
        found = (name for name, text in self.env_vars.items() if text == value and name.endswith(field_name.lower()))
        return next(found, f"{ENV_PREFIX}…{field_name}").upper()


def _is_list(annotation: Any) -> bool:
    """Whether a setting is a tuple, or a tuple or null."""
    return get_origin(annotation) is tuple or any(get_origin(each) is tuple for each in get_args(annotation))


class ProfileSource(PydanticBaseSettingsSource):
    """The profile file, chosen by the `profile` setting itself."""

    def __init__(self, settings_cls: type[BaseSettings], init: dict[str, Any]):
        super().__init__(settings_cls)
        self.profile = str(init.get("profile") or os.environ.get(f"{ENV_PREFIX}PROFILE") or "tiny")

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        return _read_profile(profile_path(self.profile))


def profile_path(profile: str) -> Path:
    """The file of a named profile, or the path given.

    Raises:
        SettingsError: there is no such profile or file.
    """
    named = PROFILES_DIR / f"{profile}.yaml"
    # A text that is no name of a file at all, too long for one say, is an error of the system.
    with suppress(OSError, RuntimeError, ValueError):
        if named.is_file():
            return named
        given = Path(profile).expanduser()
        if given.is_file():
            return given.absolute()
    known = sorted(path.stem for path in PROFILES_DIR.glob("*.yaml"))
    raise SettingsError(
        f"Profile {profile!r} was not found.{did_you_mean(str(profile), known, 1)} Set DPO_PROFILE to one of "
        f"{', '.join(known)}, or to the path of a YAML file."
    )


class _PlainLoader(yaml.SafeLoader):
    """Without aliases: a few lines of them unfold to gigabytes."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("an alias (*name) stands in it; write the value out where it is meant")
        return super().compose_node(parent, index)


def _read_profile(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST_PROFILE + 1)
        if len(text) > LARGEST_PROFILE:
            raise SettingsError(f"Profile {path} has more than {LARGEST_PROFILE} bytes. Name a file of settings.")
        content = yaml.load(text, _PlainLoader)  # noqa: S506  (a SafeLoader)
    except (OSError, RecursionError, yaml.YAMLError) as error:
        raise SettingsError(f"Profile {path} cannot be read: {error}. Fix the file or choose another.") from error
    if not isinstance(content, dict):
        raise SettingsError(f"Profile {path} holds {kind_of(content)}; a mapping of settings was required.")
    return content
