"""What somebody meant who wrote an unknown name: how an error ends, at the bottom of the package like `errors`."""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(asked: str, known: Iterable[str], most: int = 3) -> str:
    """A question to put behind an error, with a space before it; empty where nothing is near."""
    by_folded = {name.casefold(): name for name in known}
    near = [by_folded[each] for each in get_close_matches(asked.casefold(), by_folded, n=most)]
    return f" Did you mean {' or '.join(near)}?" if near else ""
