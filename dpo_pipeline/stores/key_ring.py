"""Keys of people and programs: `keys.jsonl`, one event a line, with a hash where the key would be.

A key is drawn from 256 bits and shown once. Its hash needs no salt and no slowness: there is nothing to guess.
"""

import hashlib
import hmac
import secrets
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from dpo_pipeline.core.identity import checked_name
from dpo_pipeline.errors import ArtifactCorrupt
from dpo_pipeline.nearest import did_you_mean
from dpo_pipeline.request_errors import InvalidRequest
from dpo_pipeline.settings import Role, Settings
from dpo_pipeline.stores.ledger import utc_now
from dpo_pipeline.stores.log import FILES, Logs
from dpo_pipeline.stores.pseudonyms import signing_key

PREFIX = "dpo"
"""So that whoever finds a key, and whatever looks for lost ones, knows what it is."""


class KeyEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A key was given to somebody, or revoked."""

    recorded_at: str
    action: Literal["add", "revoke"]
    key_id: str
    name: str = ""
    role: Role = "rater"
    sha256: str = ""


@dataclass(frozen=True)
class Account:
    """Whom a key belongs to. `key_id` is empty for those who are known in another way: a setting, a proxy's login."""

    name: str
    role: Role
    key_id: str = ""
    since: str = ""


class KeyRing:
    """The keys that are valid now; looks at the file again where it has changed."""

    def __init__(self, path: Path, logs: Logs = FILES):
        self._path, self._logs = path, logs
        self._seen: tuple[int, int] | None = None
        self._valid: dict[str, tuple[Account, str]] = {}

    @property
    def in_use(self) -> bool:
        """Somebody holds a key, or held one: revoking the last one opens nothing."""
        self._look()
        return self._seen is not None and self._seen[1] > 0

    def add(self, name: str, role: Role) -> str:
        """Make a key for somebody and return it; nobody can read it again.

        Raises:
            InvalidRequest: the name is none, or somebody holds a key by it.
        """
        name = checked_name(name)
        if any(each.name.casefold() == name.casefold() for each in self.accounts()):
            raise InvalidRequest(f"{name!r} holds a key already. Revoke it first: `dpo keys revoke {name!r}`.")
        key_id, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
        self._append(KeyEvent(
            recorded_at=utc_now(), action="add", key_id=key_id, name=name, role=role, sha256=_sha256(secret)
        ))  # fmt: skip
        return f"{PREFIX}-{key_id}-{secret}"

    def revoke(self, name: str) -> Account:
        """From now on the key of this name, or of this id, opens nothing; nor do sessions that began with it.

        Raises:
            InvalidRequest: nobody holds such a key.
        """
        accounts = self.accounts()
        for account in accounts:
            if name.casefold() in (account.name.casefold(), account.key_id):
                self._append(KeyEvent(recorded_at=utc_now(), action="revoke", key_id=account.key_id))
                return account
        near = did_you_mean(name, [account.name for account in accounts], 1)
        raise InvalidRequest(f"Nobody holds a key by the name or id {name!r}.{near} `dpo keys list` shows who does.")

    def forget(self, name: str) -> None:
        """Revoke every key of this name, and take the name out of the file."""
        if not self._path.exists():
            return
        lines = [line for line in self._path.read_bytes().splitlines() if line.strip()]
        events = [msgspec.json.decode(line, type=KeyEvent) for line in lines]
        wanted = " ".join(unicodedata.normalize("NFKC", name).split()).casefold()
        theirs = {event.key_id for event in events if event.name.casefold() == wanted}

        def without_name_and_hash(line: bytes) -> bytes | None:
            event = msgspec.json.decode(line, type=KeyEvent) if line.strip() else None
            if event is None or event.key_id not in theirs:
                return line
            if event.action != "add":
                return None
            # There were keys here, and there are none by it.
            gone = KeyEvent(recorded_at=event.recorded_at, action="revoke", key_id=event.key_id)
            return msgspec.json.encode(gone)

        if theirs:
            self._logs.rewrite(self._path, without_name_and_hash)

    def accounts(self) -> list[Account]:
        """Of all keys that are valid, oldest first."""
        self._look()
        return [account for account, _ in self._valid.values()]

    def find(self, key: str) -> Account | None:
        """Whose key this is; null: nobody's."""
        prefix, _, rest = key.partition("-")
        key_id, _, secret = rest.partition("-")
        self._look()
        found = self._valid.get(key_id)
        if prefix != PREFIX or found is None or not hmac.compare_digest(_sha256(secret), found[1]):
            return None
        return found[0]

    def by_id(self, key_id: str) -> Account | None:
        """Who holds the key of this id; null: nobody any more."""
        self._look()
        found = self._valid.get(key_id)
        return found[0] if found else None

    def _append(self, event: KeyEvent) -> None:
        self._logs.open(self._path).append(msgspec.json.encode(event))

    def _look(self) -> None:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            self._seen, self._valid = None, {}
            return
        if self._seen != (found.st_mtime_ns, found.st_size):
            self._valid = _valid_keys(self._path)
            self._seen = found.st_mtime_ns, found.st_size


def _valid_keys(path: Path) -> dict[str, tuple[Account, str]]:
    """By id: whose it is, and its hash.

    Raises:
        ArtifactCorrupt: a line is no event. Passed over, it might be one that revoked a key.
    """
    valid: dict[str, tuple[Account, str]] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            event = msgspec.json.decode(line, type=KeyEvent)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ArtifactCorrupt(
                f"{path}, line {number} is no event of a key ({error}): nobody is let in before it is fixed. Bring "
                "the file back from a backup, or delete the line and look at `dpo keys list`."
            ) from error
        if event.action == "add":
            account = Account(event.name, event.role, event.key_id, event.recorded_at)
            valid[event.key_id] = account, event.sha256
        else:
            valid.pop(event.key_id, None)
    return valid


def _sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def local_key(settings: Settings) -> str:
    """What programs that may read this data folder show instead of a key, such as simulated people."""
    return f"{PREFIX}-local-{hmac.new(signing_key(settings), b'a program of this folder', hashlib.sha256).hexdigest()}"
