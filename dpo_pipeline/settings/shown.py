"""Values of settings as people may see them: of bounded length, and without the passwords that addresses hold."""

import re
from typing import Any

LONGEST = 200
_PASSWORD = re.compile(r"(?<=://)([^/@:\s]*):[^/@\s]*@")


def without_passwords(text: str) -> str:
    """The text with `***` for the password of every address in it."""
    return _PASSWORD.sub(r"\1:***@", text)


def shown(value: Any) -> str:
    """A value as an error repeats it."""
    text = without_passwords(repr(value))
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
