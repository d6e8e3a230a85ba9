"""Who vouches for somebody, and so what their votes, ratings and requests may decide.

A name costs nothing: whoever invents ten of them has ten votes. What people give counts as evidence on versions where
a key, a login or the machine itself vouches for them; what others give is kept, shown and, up to a share, trained on.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dpo_pipeline.core.winrate import SHARES, Outcome
from dpo_pipeline.request_errors import InvalidRequest
from dpo_pipeline.settings import Role

Identity = Literal["named", "local", "new", "anonymous"]
"""Of somebody with a key or a login, or of whom a program with one speaks; at this machine, while nobody has a key; the
same, but met for the first time within `access.settle_h`; all others."""
ROLES: dict[Role, str] = {
    "viewer": "looks at everything",
    "rater": "chats, compares, votes and rates",
    "reviewer": "takes preferences out of training, too",
    "operator": "promotes, pauses and rolls back, too",
    "service": "is a program that does what a rater does for the people it names, and vouches for them",
}
"""What a key allows. Each of the first four may do what those before it may."""
_RANKS: dict[Role, int] = {"viewer": 0, "rater": 1, "service": 1, "reviewer": 2, "operator": 3}
UNPROVEN: tuple[Identity, ...] = ("new", "anonymous")
LONGEST_NAME = 100
BURST_PEOPLE, BURST_SHARE, BURST_WITHIN_H = 8, 0.9, 24
"""So many people whom nobody vouches for, voting within so many hours and so much of one mind, are a burst."""


def identity_of(vouched: bool, at_this_machine: bool, known_h: float, settle_h: float, crowded: bool) -> Identity:
    """
    Args:
        vouched: by a key or a login.
        known_h: hours since this person was first met.
        crowded: more people than may came from the same address today.
    """
    if vouched:
        return "named"
    if not at_this_machine or crowded:
        return "anonymous"
    return "local" if known_h >= settle_h else "new"


def with_article(role: Role) -> str:
    return f"an {role}" if role == "operator" else f"a {role}"


def may(role: Role, needed: Role) -> bool:
    """Whether somebody in this role may do what needs that one."""
    return _RANKS[role] >= _RANKS[needed]


def checked_name(given: str) -> str:
    """Of whoever gets a key, as it will be shown.

    Raises:
        InvalidRequest: blank, too long, or with characters that cannot be seen.
    """
    name = " ".join(unicodedata.normalize("NFKC", given).split())
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise InvalidRequest(f"A name has 1 to {LONGEST_NAME} printable characters; {len(name)} were found.")
    return name


def is_proven(identity: object) -> bool:
    """Whether this counts as evidence; what was recorded before identities were, and so holds none, does."""
    return identity not in UNPROVEN


@dataclass(frozen=True)
class Uncounted:
    """Votes between two versions that are no evidence: of people whom nobody vouches for, of those who knew or chose
    more than a voter should, and those taken back as slips, so many of which were `for_new`, the new version.
    """

    of_strangers: int = 0
    steered: int = 0
    withdrawn: int = 0
    for_new: int = 0

    def __str__(self) -> str:
        """In words; empty: all votes are evidence."""
        parts = []
        if self.of_strangers:
            parts.append(f"{self.of_strangers} of people whom nobody vouches for, or who are new here")
        if self.steered:
            parts.append(f"{self.steered} of people who chose the versions or how they answer")
        if self.withdrawn:
            parts.append(f"{self.withdrawn} taken back as slips ({self.for_new} of them for the new version)")
        total = self.of_strangers + self.steered + self.withdrawn
        return f"{total} votes do not count: {' and '.join(parts)}" if parts else ""


def burst(votes: Sequence[tuple[str, Outcome]]) -> str:
    """What is wrong with the votes of people whom nobody vouches for, in words; empty where nothing is.

    Args:
        votes: (annotator, outcome for the new version), theirs alone, of the last `BURST_WITHIN_H` hours.
    """
    by_person: dict[str, float] = {}
    for person, outcome in votes:
        by_person[person] = by_person.get(person, 0.0) + SHARES[outcome] - 0.5
    for_new = sum(lean > 0 for lean in by_person.values())
    against = sum(lean < 0 for lean in by_person.values())
    most, people = max(for_new, against), len(by_person)
    if people < BURST_PEOPLE or most < BURST_SHARE * people:
        return ""
    side = "for" if for_new > against else "against"
    return (
        f"{most} of {people} people whom nobody vouches for voted {side} the new version within {BURST_WITHIN_H} h: "
        "their votes do not count, and until a day without such a burst only a person promotes or aborts it, "
        "unless staging ends before"
    )
