"""Votes of people beside votes of simulated people: wherever votes are counted, both are, and apart."""

from typing import NamedTuple


class VoteCount(NamedTuple):
    people: int = 0
    simulated: int = 0

    @property
    def total(self) -> int:
        return self.people + self.simulated

    def __str__(self) -> str:
        return f"{self.people:,} by people" + (f", {self.simulated:,} simulated" if self.simulated else "")
