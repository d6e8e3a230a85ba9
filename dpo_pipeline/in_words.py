"""What programs call by the name of a class, as people read it in a message."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_BY_PYDANTIC = "Value error, "


def fault(error: BaseException) -> str:
    """An error of a library, such as "connect error: nobody listens there"; for one of ours its message will do."""
    said = str(error).strip()
    return f"{kind_of_fault(error)}: {said}" if said else kind_of_fault(error)


def kind_of_fault(error: BaseException) -> str:
    """ "read timeout", "connect error"."""
    return " ".join(word if word.isupper() else word.lower() for word in _HUMP.split(type(error).__name__))


def spoken(name: str) -> str:
    """A status, criterion or other name of the log, without its underscores."""
    return name.replace("_", " ")


def cell(value: object) -> str:
    """A figure or word in a table: three digits are enough, and nothing is a dash."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def kind_of(value: Any) -> str:
    """What a value read from JSON, YAML or a table is."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a text"
    if isinstance(value, Mapping):
        return "an object"
    return "a list" if isinstance(value, Sequence) else "something else"


def duration(seconds: float, down: bool = False) -> str:
    """ "40 s", "3 min", "2.5 h", "3.2 days".

    Args:
        down: rounded down, where nothing may be said to have lasted longer than it has.
    """
    whole = math.floor if down else round
    if seconds < 90:
        return f"{whole(seconds)} s"
    if seconds < 90 * 60:
        return f"{whole(seconds / 60)} min"
    hours = seconds / 3600
    figure, unit = (hours, "h") if hours < 48 else (hours / 24, "days")
    return f"{whole(figure * 10 + 1e-6) / 10:g} {unit}"


def hours(value: float) -> str:
    """A duration that is known in hours."""
    return duration(value * 3600)


def rough_hours(value: float) -> str:
    """As people say a time to wait that is an estimate: "3 days", "20 h", "5 min"."""
    return f"{value / 24:.0f} days" if value >= 48 else hours(value)


def requirement(message: str) -> str:
    """What pydantic says of a value, without its word for an error that we raised ourselves."""
    return message.removeprefix(_BY_PYDANTIC)
