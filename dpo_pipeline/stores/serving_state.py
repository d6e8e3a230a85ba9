"""What serving must remember over a restart: open comparisons, and who was answered what.

SQLite beside the serving log. Texts and model names stay here, on the server; a vote brings only a
token. Whether a comparison was voted on is not kept here but in the preference log.
"""

import sqlite3
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from dpo_pipeline.core.identity import Identity
from dpo_pipeline.core.serving_records import RequestSource
from dpo_pipeline.core.votes import prompt_key
from dpo_pipeline.errors import LogWriteError, NicknameTaken
from dpo_pipeline.stores.write_behind import WriteBehind

SCHEMA = """
create table if not exists comparisons (id text primary key, created real, log_offset integer, content blob);
create table if not exists requests (id text primary key, created real, content blob);
create table if not exists ballots (id text primary key, created real, content blob);
create table if not exists contributors (person text primary key, nickname text, spelling text unique);
create table if not exists people (person text primary key, first_met real, address text, crowded integer);
create index if not exists comparisons_created on comparisons (created);
create index if not exists requests_created on requests (created);
create index if not exists people_met on people (address, first_met);
"""
DAY_S = 86_400
CROWDED_S = 7 * DAY_S
"""So long somebody who came as one too many counts as such."""


# What is asked again: the newest prompts of people, neither a slip of the keyboard nor an essay.
NEWEST_PROMPTS, SHORTEST_PROMPT, LONGEST_PROMPT = 500, 3, 500
REQUESTS_LOOKED_AT = 2000
KEPT_FRESH = 10_000
LOCKED_S = 0.2
"""How long another program may hold the database: everybody waits meanwhile, so the call is refused then."""
PATIENT_S = 8.0
NEWEST_BALLOTS = 200
WITH_CONTENT = ("comparisons", "requests", "ballots")
"""Tables whose rows say in their content whose they are."""
NEWEST_REQUESTS = "select content from requests order by created desc, rowid desc limit ?"


class StoredComparison(msgspec.Struct, frozen=True, kw_only=True):
    """A comparison as it was shown; `event_id` is that of the vote to come."""

    comparison_id: str
    event_id: str
    session_id: str
    prompt: str | list[dict[str, str]]
    category: str
    model_a: str
    model_b: str
    response_a: str
    response_b: str
    left: str
    annotator: str
    source: str
    temperature: float | None
    top_p: float | None
    max_tokens: int | None
    seed: int | None
    propensity: float
    identity: Identity | msgspec.UnsetType = msgspec.UNSET
    steered: bool = False
    asked_by: str = ""


class Met(NamedTuple):
    """When somebody without a key was first met, and whether as one of too many from an address that day."""

    first_met: float
    crowded: bool


class StoredRequest(msgspec.Struct, frozen=True, kw_only=True):
    """An answered chat request, so that people can say something of it later.

    `prompt` is a text, or the list of messages where there was more than one question. `answer` is empty where texts
    are not kept.
    """

    request_id: str
    user: str
    version: str
    prompt: str | list[dict[str, str]]
    answer: str = ""
    source: RequestSource = "api"
    identity: Identity | msgspec.UnsetType = msgspec.UNSET


class ServingState:
    """One connection, one lock: writes are small and need no sync, since the log holds the votes."""

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock, self._path = threading.Lock(), path
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=LOCKED_S)
        self._db.execute("pragma journal_mode=wal")
        self._db.execute("pragma synchronous=normal")
        self._db.executescript(SCHEMA)
        # Requests that are not in the database yet can be rated all the same.
        self._fresh: dict[str, StoredRequest] = {}
        # In a thread of its own, where nobody waits: it has the time that another program may take.
        self._patient = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=PATIENT_S)
        self._patient.execute("pragma synchronous=normal")
        self._behind = WriteBehind(self._insert_requests, "requests")

    def close(self) -> None:
        self._behind.close()
        self._patient.close()
        self._db.close()

    def add_comparison(self, comparison: StoredComparison, created: float, log_offset: int) -> None:
        """`log_offset` is the size of the preference log now: an event for this comparison stands behind it.

        Raises:
            LogWriteError: the disk refused it.
        """
        row = (comparison.comparison_id, created, log_offset, msgspec.json.encode(comparison))
        with self._writing("The comparison"):
            self._db.execute("insert into comparisons values (?, ?, ?, ?)", row)

    @contextmanager
    def _writing(self, what: str) -> Iterator[None]:
        try:
            with self._lock:
                yield
        except sqlite3.OperationalError as error:
            raise LogWriteError(
                f"{self._path}: {error}. {what} was not kept; try again, and free some space where the disk is full."
            ) from error

    def add_ballot(self, ballot: StoredComparison, created: float) -> None:
        """Two answers to what somebody asked, to be compared by others; of these the newest are kept.

        Raises:
            LogWriteError: the disk refused it, or another program works on the database.
        """
        row = (ballot.comparison_id, created, msgspec.json.encode(ballot))
        with self._writing("The copy"):
            self._db.execute("insert into ballots values (?, ?, ?)", row)
            self._db.execute(
                "delete from ballots where rowid <= (select max(rowid) from ballots) - ?", (NEWEST_BALLOTS,)
            )

    def take_ballot(self, fits: Callable[[StoredComparison], bool]) -> StoredComparison | None:
        """The newest that fits, which nobody gets again; raises LogWriteError as `add_ballot`."""
        with self._writing("What is shown"):
            for key, content in self._db.execute("select id, content from ballots order by rowid desc").fetchall():
                ballot = msgspec.json.decode(content, type=StoredComparison)
                if fits(ballot):
                    self._db.execute("delete from ballots where id = ?", (key,))
                    return ballot
        return None

    def comparison(self, comparison_id: str) -> StoredComparison | None:
        with self._lock:
            row = self._db.execute("select content from comparisons where id = ?", (comparison_id,)).fetchone()
        return msgspec.json.decode(row[0], type=StoredComparison) if row else None

    def oldest_open_offset(self, since: float) -> int | None:
        """Where in the log the first event of a comparison made after `since` can stand; null for none."""
        with self._lock:
            row = self._db.execute("select min(log_offset) from comparisons where created >= ?", (since,)).fetchone()
        return None if row is None or row[0] is None else int(row[0])

    def add_request(self, request: StoredRequest, created: float) -> None:
        self._fresh[request.request_id] = request
        self._behind.put((request, created))

    def _insert_requests(self, requests: list[tuple[StoredRequest, float]]) -> None:
        rows = [(request.request_id, created, msgspec.json.encode(request)) for request, created in requests]
        try:
            self._patient.execute("begin")
            self._patient.executemany("insert into requests values (?, ?, ?)", rows)
            self._patient.execute("commit")
        except sqlite3.Error:
            # The disk is full, say: the newest can be rated as long as this program lives.
            if self._patient.in_transaction:
                self._patient.execute("rollback")
            for request_id in list(self._fresh)[:-KEPT_FRESH]:
                del self._fresh[request_id]
            raise
        for request, _ in requests:
            self._fresh.pop(request.request_id, None)

    def request(self, request_id: str) -> StoredRequest | None:
        if fresh := self._fresh.get(request_id):
            return fresh
        with self._lock:
            row = self._db.execute("select content from requests where id = ?", (request_id,)).fetchone()
        return msgspec.json.decode(row[0], type=StoredRequest) if row else None

    def newest_prompts(self) -> dict[str, str]:
        """As the function of that name, of this database."""
        with self._lock:
            rows = self._db.execute(NEWEST_REQUESTS, (REQUESTS_LOOKED_AT,)).fetchall()
        return _prompts(rows)

    def meet(self, person: str, address: str, now: float, most: int, welcome: bool) -> Met | None:
        """When this person was first met, which is now for somebody new; null: one too many of this address today.

        Args:
            address: a pseudonym of it.
            most: new people of one address in a day.
            welcome: one too many is kept all the same, as crowded.

        Raises:
            LogWriteError: the disk refused it, or another program works on the database.
        """
        with self._writing("Who asked"):
            query = "select first_met, crowded, address from people where person = ?"
            row = self._db.execute(query, (person,)).fetchone()
            if row and row[2]:
                return Met(row[0], bool(row[1]) and now - row[0] < CROWDED_S)
            first_met = row[0] if row else now
            (today,) = self._db.execute(
                "select count(*) from people where address = ? and first_met > ?", (address, now - DAY_S)
            ).fetchone()
            crowded = today >= most
            if crowded and not welcome:
                return None
            self._db.execute("insert or replace into people values (?, ?, ?, ?)", (person, first_met, address, crowded))
            return Met(first_met, crowded)

    def note(self, person: str, now: float) -> None:
        """Somebody was met who compares, votes and rates nothing yet: they are known from now on, and count later.

        Raises:
            LogWriteError: as `meet`.
        """
        with self._writing("Who asked"):
            self._db.execute("insert or ignore into people values (?, ?, '', 0)", (person, now))

    def join(self, person: str, nickname: str) -> None:
        """Show this person's votes under the nickname from now on.

        Raises:
            NicknameTaken: somebody else goes by it, in whatever case.
            LogWriteError: the disk refused it, or another program works on the database.
        """
        try:
            with self._writing("The nickname"):
                self._db.execute(
                    "insert into contributors values (?, ?, ?) "
                    "on conflict (person) do update set nickname = excluded.nickname, spelling = excluded.spelling",
                    (person, nickname, nickname.casefold()),
                )
        except sqlite3.IntegrityError as error:
            raise NicknameTaken(f"Somebody else goes by {nickname!r}. Choose another nickname.") from error

    def leave(self, person: str) -> None:
        """Nothing of the nickname stays; raises LogWriteError as `join`."""
        with self._writing("The nickname"):
            self._db.execute("delete from contributors where person = ?", (person,))

    def nicknames(self) -> dict[str, str]:
        """By pseudonym, of those who joined."""
        with self._lock:
            return dict(self._db.execute("select person, nickname from contributors").fetchall())

    def forget_before(self, moment: float) -> None:
        """Drop what can no longer be voted on or rated."""
        with self._lock:
            for table in WITH_CONTENT:
                self._db.execute(f"delete from {table} where created < ?", (moment,))


def kept_requests(path: Path) -> Iterator[StoredRequest]:
    """All that can be read; of another row `forget_person` finds by the name in it whose it is."""
    if not path.exists():
        return
    with closing(sqlite3.connect(path, timeout=30)) as database:
        for (content,) in database.execute("select content from requests"):
            with suppress(msgspec.MsgspecError):
                yield msgspec.json.decode(content, type=StoredRequest)


def people_of(path: Path) -> list[str]:
    """Pseudonyms of everybody of whom something is kept here."""
    if not path.exists():
        return []
    found: set[str] = set()
    with closing(sqlite3.connect(path, timeout=30)) as database:
        for table in _there(database):
            for (content,) in database.execute(f"select content from {table}"):
                with suppress(msgspec.MsgspecError):
                    row = _whose.decode(content)
                    found |= {row.annotator, row.asked_by, row.user}
    return sorted(found - {""})


def _there(database: sqlite3.Connection) -> list[str]:
    """Those of `WITH_CONTENT` that the database has: an earlier program may have had fewer."""
    found = {name for (name,) in database.execute("select name from sqlite_master where type = 'table'")}
    return [table for table in WITH_CONTENT if table in found]


def own_turns(prompt: str | list[dict[str, str]]) -> list[str]:
    """What a person wrote of a prompt."""
    return [prompt] if isinstance(prompt, str) else [turn["content"] for turn in prompt if turn["role"] == "user"]


def forget_person(path: Path, person: str) -> None:
    """Remove a person's comparisons, requests and nickname, and what SQLite keeps of deleted rows.

    Args:
        person: a pseudonym.
    """
    if not path.exists():
        return
    with closing(sqlite3.connect(path, timeout=30)) as database:
        database.execute("pragma secure_delete = on")
        for table in ("contributors", "people"):
            if database.execute("select 1 from sqlite_master where name = ?", (table,)).fetchone():
                database.execute(f"delete from {table} where person = ?", (person,))
                if table == "people":  # somebody without a name is known by their address
                    database.execute("update people set address = '' where address = ?", (person,))
        for table in _there(database):
            rows = database.execute(f"select id, content from {table}").fetchall()
            theirs = [(key,) for key, content in rows if _is_of(content, person)]
            database.executemany(f"delete from {table} where id = ?", theirs)
        database.commit()
        database.execute("vacuum")
        database.execute("pragma wal_checkpoint(truncate)")


def join_people(path: Path, earlier: Collection[str], person: str) -> int:
    """Make rows of these pseudonyms this person's; returns how many. Of two nicknames the person's own stays."""
    if not path.exists():
        return 0
    joined = 0
    with closing(sqlite3.connect(path, timeout=30)) as database:
        database.executescript(SCHEMA)  # an earlier program may have had fewer tables
        for old in earlier:
            for table in _there(database):
                rows = database.execute(f"select id, content from {table}").fetchall()
                theirs = [
                    (content.replace(f'"{old}"'.encode(), f'"{person}"'.encode()), key)
                    for key, content in rows
                    if _is_of(content, old)
                ]
                database.executemany(f"update {table} set content = ? where id = ?", theirs)
                joined += len(theirs)
            for table in ("contributors", "people"):
                joined += database.execute(f"select count(*) from {table} where person = ?", (old,)).fetchone()[0]
                database.execute(f"update or ignore {table} set person = ? where person = ?", (person, old))
            first = "select min(first_met) from people where person in (?, ?)"
            database.execute(f"update people set first_met = ({first}) where person = ?", (old, person, person))
            for table in ("contributors", "people"):
                database.execute(f"delete from {table} where person = ?", (old,))
        database.commit()
    return joined


class _Whose(msgspec.Struct):
    """A row of any age: nothing else of it has to be as it is now."""

    annotator: str = ""
    asked_by: str = ""
    user: str = ""


_whose = msgspec.json.Decoder(_Whose)


def _is_of(content: bytes, person: str) -> bool:
    """A row that cannot be read is a person's where their name stands in it."""
    try:
        row = _whose.decode(content)
        return person in (row.annotator, row.asked_by, row.user)
    except msgspec.MsgspecError:
        return person.encode() in content


def may_be_asked_again(prompt: str | list[dict[str, str]]) -> bool:
    """A single question of 3 to 500 characters: neither a slip of the keyboard nor an essay."""
    return isinstance(prompt, str) and SHORTEST_PROMPT <= len(prompt.strip()) <= LONGEST_PROMPT


def newest_prompts(path: Path) -> dict[str, str]:
    """Distinct single questions of people's newest requests, newest first, and who asked each; none before the first.

    Of 3 to 500 characters, at most 500, from the newest 2000 requests; case and white space make no difference.
    Read without disturbing the server that writes them.
    """
    if not path.exists():
        return {}
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=30)) as database:
        return _prompts(database.execute(NEWEST_REQUESTS, (REQUESTS_LOOKED_AT,)).fetchall())


def _prompts(rows: Iterable[tuple[bytes]]) -> dict[str, str]:
    prompts: dict[str, tuple[str, str]] = {}
    for (content,) in rows:
        request = msgspec.json.decode(content, type=StoredRequest)
        if request.source == "simulated" or not isinstance(request.prompt, str):
            continue
        text = request.prompt.strip()
        if may_be_asked_again(text):
            prompts.setdefault(prompt_key(text), (text, request.user))
        if len(prompts) == NEWEST_PROMPTS:
            break
    return dict(prompts.values())
