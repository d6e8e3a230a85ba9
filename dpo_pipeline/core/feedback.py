"""What people say of an answer, by a word or by what they do: the signals, and what each says about the answer.

Each is kept as it was given. Only here is it read: as stars for satisfaction, as a label for training.
"""

from typing import Literal, get_args

import msgspec

from dpo_pipeline.core.admission import check_text
from dpo_pipeline.in_words import spoken
from dpo_pipeline.request_errors import InvalidRequest

Action = Literal["regenerate", "copy", "stop", "follow_up"]
"""What somebody did with an answer: nobody was asked, so none is a judgement by itself."""
Signal = Literal["rating", "thumb", "correction", "comment", "regenerate", "copy", "stop", "follow_up"]
ACTIONS: tuple[str, ...] = get_args(Action)
WORDS: tuple[Signal, ...] = ("correction", "comment")
"""Signals whose value somebody wrote."""
SAID_OF_PARTS = ("stop", "copy", "follow_up", "comment")
"""What can be said of an answer that was stopped before it was whole: nobody has seen what it would have been."""
UP, DOWN = "up", "down"
GOOD, BAD = (5,), (1, 2)
"""Ratings that are a label; 3 and 4 say too little."""


class FeedbackMark(msgspec.Struct, frozen=True):
    """How far feedback was read: of the newest days so many records each and all of those before, and so many votes.

    By places and not by moments: what is written a moment later may have been said a moment before.
    """

    days: dict[str, int]
    votes: int

    def covers(self, day: str, place: int) -> bool:
        """Whether the record at this place of a day, counted from 0, had been read."""
        if day in self.days:
            return place < self.days[day]
        return bool(self.days) and day < min(self.days)


def read_feedback(
    rating: int | None = None,
    thumb: str | None = None,
    correction: str | None = None,
    comment: str | None = None,
    action: str | None = None,
) -> tuple[Signal, int | str]:
    """The one signal that was given, and its value: 1 to 5, `up` or `down`, or a text; an action has none.

    Raises:
        InvalidRequest: none or several, or a text that cannot be kept.
    """
    given = {"rating": rating, "thumb": thumb, "correction": correction, "comment": comment, "action": action}
    found = {name: value for name, value in given.items() if value is not None}
    if len(found) != 1:
        raise InvalidRequest(f"Send exactly one of {', '.join(given)}; {len(found)} were found.")
    [(name, value)] = found.items()
    if name in WORDS:
        if not str(value).strip():
            wanted = "what the answer should have been" if name == "correction" else "what you think of it"
            raise InvalidRequest(f"The {name} is blank. Write {wanted}.")
        check_text(f"The {name}", str(value))
    if name == "action":
        return value, ""  # type: ignore[return-value]
    return name, value  # type: ignore[return-value]


def described(signal: Signal, value: int | str) -> str:
    """In words, for people; what somebody wrote is not quoted."""
    if signal == "rating":
        return f"rating {value} of 5"
    return f"thumb {value}" if signal == "thumb" else spoken(signal)


def stars_of(signal: Signal, value: int | str) -> int | None:
    """How satisfied it says somebody is, 1 to 5; a thumb is an end of that scale; null: it says nothing of that."""
    if signal == "rating":
        return int(value)
    return {UP: 5, DOWN: 1}.get(str(value)) if signal == "thumb" else None


def label_of(signal: Signal, value: int | str) -> bool | None:
    """Whether the answer is one to give, for training; null: it does not say."""
    if signal == "thumb":
        return value == UP
    if signal == "rating":
        return True if value in GOOD else False if value in BAD else None
    return None
