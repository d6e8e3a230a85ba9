"""Whose feedback a version learned from: what was said, by how many people, and how much of it is one person's."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from dpo_pipeline.core.votes import NOT_PEOPLES

SIMULATED = "simulated"


@dataclass(frozen=True)
class Teachers:
    """`by_person`: how much of it is whose, by pseudonym; what was imported or made by the loop is nobody's here."""

    by_person: Mapping[str, int]
    simulated: int

    @property
    def people(self) -> int:
        return len(self.by_person)

    def of(self, pseudonym: str | None) -> int:
        return self.by_person.get(pseudonym, 0) if pseudonym else 0


def teachers(given: Mapping[tuple[str, str], int]) -> Teachers:
    """
    Args:
        given: how often, by (pseudonym, source).
    """
    people: Counter[str] = Counter()
    simulated = set()
    for (person, source), count in given.items():
        if source == SIMULATED:
            simulated.add(person)
        elif source not in NOT_PEOPLES:
            people[person] += count
    return Teachers(dict(people), len(simulated))
