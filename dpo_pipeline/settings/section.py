"""What every section of the settings is, and values that several have."""

from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict

Written = TypeVar("Written", str, Path)


class Section(BaseModel):
    """A frozen part of the settings; an unknown key is an error, never ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _has_a_home(path: Written) -> Written:
    """As it is written: who uses it puts the home directory in the place of `~`, which must be there, then.

    Raises:
        ValueError: there is no such home directory.
    """
    try:
        Path(path).expanduser()
    except RuntimeError as error:
        raise ValueError("nobody here has the home directory that it begins with; write the whole path") from error
    return path


HomePath = Annotated[Path, AfterValidator(_has_a_home)]
"""A path that may begin with `~`."""
HomeText = Annotated[str, AfterValidator(_has_a_home)]
"""A name of something else, or such a path."""
