"""What programs call by the name of a class, as people read it in a message."""

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


def requirement(message: str) -> str:
    """What pydantic says of a value, without its word for an error that we raised ourselves."""
    return message.removeprefix(_BY_PYDANTIC)
