"""What of all that is kept is one person's: the names they go by, and what tells that a line or text is theirs."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from dpo_pipeline.core.feedback import WORDS
from dpo_pipeline.core.votes import Preference, prompt_key, prompt_text
from dpo_pipeline.loop.personal_traces import SHORTEST, forms_of
from dpo_pipeline.loop.trace import all_votes
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.bank import read_bank, read_edge_cases
from dpo_pipeline.stores.log_reading import days_of
from dpo_pipeline.stores.pseudonyms import theirs
from dpo_pipeline.stores.served_texts import ServedText, read_texts
from dpo_pipeline.stores.serving_log import all_feedback, read_day
from dpo_pipeline.stores.serving_state import StoredRequest, kept_requests, nicknames_of, own_turns, people_of, place_of

HEAD_BYTES, ENOUGH_BYTES = 24, 60
"""So much of a text is looked for; so much, or all that is left of a line that was cut, tells that it is the same."""


@dataclass(frozen=True)
class Belongings:
    """What is somebody's: votes and feedback by their ids, and texts that nothing may hold any more; `names` are those
    under which they review.
    """

    person: "KnownPerson"
    events: frozenset[str]
    texts: tuple[str, ...]
    names: frozenset[str]


def belongings(settings: Settings, people: Sequence[str], name: str = "") -> Belongings:
    """Look through all that is kept.

    Args:
        people: pseudonyms, as they stand in the logs.
        name: as it stands beside a key, where they hold one.
    """
    known = KnownTexts(settings)
    texts = texts_of(settings, people, known)
    person = KnownPerson(people, frozenset(prompt_key(text) for text in texts if len(text) >= SHORTEST), tuple(texts))
    given = [each for each in all_votes(settings) if person.is_behind(each)]
    said = {each.event_id for each in all_feedback(settings.serving_log_dir) if each.user in people}
    texts += [text for each in given for text in said_in(each, people) if text not in known]
    names = frozenset(plain(each) for each in (*people, name) if each)
    texts += reasons(settings.reviews_log, lambda row: plain(str(row.get("actor"))) in names)
    texts += _noted(settings.audit_log, names)
    texts += [form for each in nicknames_of(place_of(settings), people) for form in _forms_of_nickname(each)]
    return Belongings(person, frozenset({each.event_id for each in given} | said), tuple(texts), names)


@dataclass(frozen=True)
class KnownPerson:
    """By what somebody is known: pseudonyms, questions of theirs (`prompt_key`), and the texts of these."""

    people: Sequence[str]
    asked: frozenset[str]
    texts: Sequence[str]

    def is_behind(self, vote: Preference) -> bool:
        """They voted, or somebody voted on a question of theirs; of old votes their words have to tell."""
        if vote.annotator in self.people or vote.asked_by in self.people:
            return True
        return vote.from_people and vote.asked_by is msgspec.UNSET and prompt_key(vote.prompt) in self.asked

    def wrote(self, line: bytes) -> bool:
        """A line of theirs; one that cannot be read is theirs where something of them stands in it."""
        row = row_of(line)
        return self.stands_in(line) if row is None else self._names_them(row)

    def stands_in(self, line: bytes) -> bool:
        """A pseudonym of theirs, or the beginning of what they asked."""
        return any(mark.encode() in line for mark in self.people) or any(
            _begins_in(line, form) for text in self.texts if len(text) >= SHORTEST for form in forms_of(text)
        )

    def _names_them(self, row: dict[str, Any]) -> bool:
        return any(row.get(whose) in self.people for whose in ("annotator", "asked_by", "user"))


class KnownTexts:
    """Texts of the question bank and what stands within them: nobody's, whoever typed them."""

    def __init__(self, settings: Settings):
        bank, edge = read_bank(settings.bank_dir), read_edge_cases(settings.bank_dir)
        texts = [each.question for each in bank] + [each.question for each in edge]
        texts += [text for each in bank for text in (*each.terse, *each.detailed, *each.wrong, each.reference)]
        self._all = "\n".join(plain(text) for text in texts)

    def __contains__(self, text: str) -> bool:
        return plain(text) in self._all


def plain(text: str) -> str:
    return " ".join(text.casefold().split())


def texts_of(settings: Settings, people: Sequence[str], known: KnownTexts) -> list[str]:
    """What they asked in chats and said of answers in their own words."""
    kept: Iterator[StoredRequest | ServedText] = chain(
        kept_requests(place_of(settings)), read_texts(settings.served_texts_dir)
    )
    texts = [text for each in kept if each.user in people for text in own_turns(each.prompt)]
    for record in all_feedback(settings.serving_log_dir):
        if record.user in people:
            texts += [*own_turns(record.prompt), *([str(record.value)] if record.signal in WORDS else [])]
    return [text for text in dict.fromkeys(texts) if text not in known]


def said_in(vote: Preference, people: Sequence[str]) -> list[str]:
    """Of a vote that goes, the texts that nothing else may hold: question and reason, where these were theirs."""
    asked = [prompt_text(vote.prompt)] if vote.asked_by in people else []
    return [*asked, vote.reason] if vote.annotator in people and vote.reason else asked


def reasons(reviews: Path, of: Callable[[dict[str, Any]], bool]) -> list[str]:
    """Why some took others' votes out or put them back, in their words."""
    lines = reviews.read_bytes().splitlines() if reviews.exists() else []
    return [str(row["reason"]) for row in map(row_of, lines) if row and "reason" in row and of(row)]


def _noted(audit: Path, names: Collection[str]) -> list[str]:
    """What they gave as a reason with orders that were noted, refused ones too: as it stands there, and without that to
    which it belongs.
    """
    rows = map(row_of, audit.read_bytes().splitlines() if audit.exists() else [])
    details = [str(row.get("detail", "")) for row in rows if row and plain(str(row.get("who"))) in names]
    return [text for detail in details for text in (detail, detail.partition(": ")[2]) if text]


def _forms_of_nickname(nickname: str) -> tuple[str, ...]:
    """A short one is anybody's word, but not where it is called a nickname."""
    return (nickname, f'"nickname":"{nickname}"', f'"nickname": "{nickname}"')


def _begins_in(line: bytes, form: bytes) -> bool:
    """Whether a text stands in a line, or its beginning where the line ends within it."""
    found = line.find(form[:HEAD_BYTES])
    if found < 0:
        return False
    there = line[found : found + len(form)]
    same = next((at for at, (a, b) in enumerate(zip(there, form, strict=False)) if a != b), len(there))
    return same >= min(len(form), ENOUGH_BYTES) or found + same >= len(line.rstrip(b'\n"}'))


def claims(settings: Settings, people: Sequence[str]) -> set[str]:
    """Pseudonyms of whoever came under one of these names without showing a key, from whatever address."""
    met = {each.annotator for each in all_votes(settings)} | set(people_of(place_of(settings)))
    for path in days_of(settings.serving_log_dir):
        met |= {record.user for record in read_day(path)}
    met |= {text.user for text in read_texts(settings.served_texts_dir)}
    return set(filter(theirs(people), met))


def said_by_others(settings: Settings) -> set[str]:
    """`prompt_key`s of what others who are still here asked or gave as a reason: the same words, not this person's."""
    said = [text for each in kept_requests(place_of(settings)) for text in own_turns(each.prompt)]
    said += reasons(settings.reviews_log, lambda row: True)
    votes = list(all_votes(settings))
    said += [each.reason for each in votes if each.reason]
    return {*map(prompt_key, said), *(prompt_key(each.prompt) for each in votes if each.asked_by is not msgspec.UNSET)}


def row_of(line: bytes) -> dict[str, Any] | None:
    try:
        row = msgspec.json.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return row if isinstance(row, dict) else None
