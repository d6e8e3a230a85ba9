"""Votes of people beside votes of simulated people: wherever votes are counted, both are, and apart."""

from typing import Literal, NamedTuple

from dpo_pipeline.core.votes import Source

Whose = Literal["people", "simulated"]


def whose_of(source: Source) -> Whose:
    return "simulated" if source == "simulated" else "people"


class VoteCount(NamedTuple):
    people: int = 0
    simulated: int = 0

    @property
    def total(self) -> int:
        return self.people + self.simulated

    def __str__(self) -> str:
        return f"{self.people:,} by people" + (f", {self.simulated:,} simulated" if self.simulated else "")
