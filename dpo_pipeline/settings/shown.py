"""Values of settings as people may see them: of bounded length, and without the passwords that addresses hold."""

import re
from typing import Any

LONGEST = 200
_PASSWORD = re.compile(r"(?<=://)([^\s:/@]*):\S*@")


def without_passwords(value: Any) -> Any:
    """The same with `***` for the password of every address, in texts and whatever holds them."""
    if isinstance(value, str):
        return _PASSWORD.sub(r"\1:***@", value)
    if isinstance(value, dict):
        return {name: without_passwords(each) for name, each in value.items()}
    return [without_passwords(each) for each in value] if isinstance(value, list | tuple) else value


def shown(value: Any) -> str:
    """A value as an error repeats it."""
    text = repr(without_passwords(value))
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
