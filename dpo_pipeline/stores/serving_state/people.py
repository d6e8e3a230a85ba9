"""What is done for one person while the servers are stopped: to find, to forget and to join what is theirs."""

from collections.abc import Collection, Iterator
from contextlib import suppress

import msgspec
import sqlalchemy as sa

from dpo_pipeline.stores.serving_state.records import StoredRequest
from dpo_pipeline.stores.serving_state.tables import (
    CONTRIBUTORS,
    OF_PEOPLE,
    PEOPLE,
    REQUESTS,
    WITH_CONTENT,
    Place,
    opened,
)


class _Whose(msgspec.Struct):
    """A row of any age: nothing else of it has to be as it is now."""

    annotator: str = ""
    asked_by: str = ""
    user: str = ""


_whose = msgspec.json.Decoder(_Whose)


def kept_requests(place: Place) -> Iterator[StoredRequest]:
    """All that can be read; of another row `forget_person` finds by the name in it whose it is."""
    with opened(place) as engine:
        if engine is None:
            return
        with engine.connect() as connection:
            for (content,) in connection.execute(sa.select(REQUESTS.c.content)):
                with suppress(msgspec.MsgspecError):
                    yield msgspec.json.decode(content, type=StoredRequest)


def people_of(place: Place) -> list[str]:
    """Pseudonyms of everybody of whom something is kept here."""
    found: set[str] = set()
    with opened(place) as engine:
        if engine is None:
            return []
        with engine.connect() as connection:
            for table in WITH_CONTENT:
                for (content,) in connection.execute(sa.select(table.c.content)):
                    with suppress(msgspec.MsgspecError):
                        row = _whose.decode(content)
                        found |= {row.annotator, row.asked_by, row.user}
    return sorted(found - {""})


def nicknames_of(place: Place, people: Collection[str]) -> list[str]:
    """Those under which these pseudonyms are shown."""
    with opened(place) as engine:
        if engine is None:
            return []
        with engine.connect() as connection:
            theirs = sa.select(CONTRIBUTORS.c.nickname).where(CONTRIBUTORS.c.person.in_(people))
            return list(connection.scalars(theirs))


def forget_person(place: Place, person: str) -> None:
    """Remove a person's comparisons, requests and nickname, and what SQLite keeps of deleted rows.

    Args:
        person: a pseudonym.
    """
    with opened(place) as engine:
        if engine is None:
            return
        is_file = engine.dialect.name == "sqlite"
        with engine.begin() as connection:
            if is_file:
                connection.exec_driver_sql("pragma secure_delete = on")
            for table in OF_PEOPLE:
                connection.execute(sa.delete(table).where(table.c.person == person))
            # Somebody without a name is known by their address.
            connection.execute(sa.update(PEOPLE).where(PEOPLE.c.address == person).values(address=""))
            for table in WITH_CONTENT:
                rows = connection.execute(sa.select(table.c.id, table.c.content)).all()
                for key, content in rows:
                    if _is_of(content, person):
                        connection.execute(sa.delete(table).where(table.c.id == key))
        if is_file:
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.exec_driver_sql("vacuum")
                connection.exec_driver_sql("pragma wal_checkpoint(truncate)")


def join_people(place: Place, earlier: Collection[str], person: str) -> int:
    """Make rows of these pseudonyms this person's; returns how many. Of two nicknames the person's own stays."""
    with opened(place) as engine:
        if engine is None:
            return 0
        with engine.begin() as connection:
            return sum(_join(connection, old, person) for old in earlier)


def _join(connection: sa.Connection, old: str, person: str) -> int:
    joined = 0
    for table in WITH_CONTENT:
        for key, content in connection.execute(sa.select(table.c.id, table.c.content)).all():
            if _is_of(content, old):
                theirs = content.replace(f'"{old}"'.encode(), f'"{person}"'.encode())
                connection.execute(sa.update(table).where(table.c.id == key).values(content=theirs))
                joined += 1
    for table in OF_PEOPLE:
        there = {name for (name,) in connection.execute(sa.select(table.c.person))} & {old, person}
        if old not in there:
            continue
        joined += 1
        if table is PEOPLE:
            first = connection.scalar(sa.select(sa.func.min(PEOPLE.c.first_met)).where(PEOPLE.c.person.in_(there)))
            connection.execute(sa.update(PEOPLE).where(PEOPLE.c.person.in_(there)).values(first_met=first))
        if person in there:
            connection.execute(sa.delete(table).where(table.c.person == old))
        else:
            connection.execute(sa.update(table).where(table.c.person == old).values(person=person))
    return joined


def _is_of(content: bytes, person: str) -> bool:
    """A row that cannot be read is a person's where their name stands in it."""
    try:
        row = _whose.decode(content)
        return person in (row.annotator, row.asked_by, row.user)
    except msgspec.MsgspecError:
        return person.encode() in content
