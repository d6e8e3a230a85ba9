"""Values of settings as people may see them: of bounded length, and without the passwords that addresses hold."""

import re
from typing import Any

LONGEST = 200
_WORD, _USER = re.compile(r"\S+"), re.compile(r"(?<=://)[^\s:/@]*+:")


def without_passwords(value: Any) -> Any:
    """The same with `***` for the password of every address, in texts and whatever holds them."""
    if isinstance(value, str):
        return _WORD.sub(_hidden, value) if "@" in value else value
    if isinstance(value, dict):
        return {name: without_passwords(each) for name, each in value.items()}
    return [without_passwords(each) for each in value] if isinstance(value, list | tuple) else value


def _hidden(word: re.Match[str]) -> str:
    """One word, without what stands from the first user's colon to the last @: a password may have an @ itself."""
    text = word[0]
    last = text.rfind("@")
    user = next((each for each in _USER.finditer(text) if each.end() <= last), None)
    return f"{text[: user.end()]}***{text[last:]}" if user else text


def shown(value: Any) -> str:
    """A value as an error repeats it."""
    text = repr(without_passwords(value))
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
