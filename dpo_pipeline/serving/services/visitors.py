"""Who asks: names become pseudonyms before anything is kept."""

from dataclasses import dataclass
from typing import Literal

from dpo_pipeline.stores.pseudonyms import pseudonym_of


@dataclass(frozen=True)
class Visitor:
    """Who asks: a pseudonym, the visit it belongs to, the way in, and the address it came from."""

    person: str
    session_id: str
    source: Literal["ui", "api", "simulated"]
    address: str


class Visitors:
    """
    Args:
        key: of this server; the same name gives the same pseudonym as long as it is the same.
    """

    def __init__(self, key: bytes):
        self._key = key

    def pseudonym(self, name: str) -> str:
        return pseudonym_of(name, self._key)
