"""People by pseudonym: a keyed hash of the name or address they came with. The key never leaves the data folder."""

import hashlib
import hmac
import secrets
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path

from dpo_pipeline.errors import ArtifactCorrupt
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.artifacts import write_text
from dpo_pipeline.stores.database import engine_of, shared_secret

KEY_CHARACTERS = 64
CLAIM = 8
"""So many digits of a claimed pseudonym are those of the name."""


def key_file(data_dir: Path) -> Path:
    """Where the key is, where no database is shared."""
    return data_dir / "serving.key"


def signing_key(settings: Settings) -> bytes:
    """The key of tokens and pseudonyms: made once, readable by its owner only; of all who share a database the same.

    Raises:
        ArtifactCorrupt: the file was emptied or cut: with such a key anybody could forge tokens.
        DatabaseUnavailable: it is to come from there.
    """
    path = key_file(settings.data_dir)
    if settings.database_url:
        return shared_secret(engine_of(settings.database_url), path.name, _new_key)
    if not path.exists():
        write_text(path, _new_key(), mode=0o600)
    key = path.read_text().strip().encode()
    if len(key) < KEY_CHARACTERS:
        raise ArtifactCorrupt(
            f"{path} holds {len(key)} characters of a key, {KEY_CHARACTERS} are required: anybody could forge tokens "
            "with it. Bring it back from a backup, or delete it to have another made; open comparisons and the "
            "pseudonyms of everybody then change."
        )
    return key


def _new_key() -> str:
    return secrets.token_hex(KEY_CHARACTERS // 2)


def pseudonym_of(person: str, key: bytes) -> str:
    """HMAC of a name or address: the same person is recognised, never named.

    However the name was typed: in composed or decomposed letters, wide or narrow, with more or fewer spaces, and with
    characters that nobody sees.
    """
    return _hashed(_normal(person), key)


def claimed_pseudonym(person: str, address: str, key: bytes) -> str:
    """Of somebody who gives a name and shows no key: another one at each address.

    The first half is that of the name's own pseudonym, so that `dpo forget` finds whoever came under it.
    """
    return pseudonym_of(person, key)[:CLAIM] + _hashed(f"{_normal(person)}\x00{address}", key)[:-CLAIM]


def pseudonyms_of(person: str, key: bytes) -> list[str]:
    """The pseudonym of a name, and those that earlier versions of this program, which took names as they came, may have
    made of it."""
    forms = [person, person.strip(), *(unicodedata.normalize(form, person.strip()) for form in ("NFC", "NFD", "NFKC"))]
    return list(dict.fromkeys([pseudonym_of(person, key), *(_hashed(form, key) for form in forms)]))


def theirs(pseudonyms: Iterable[str]) -> Callable[[str], bool]:
    """Whether a pseudonym is one of these, or of somebody without a key who gave such a name, at whatever address."""
    halves = frozenset(each[:CLAIM] for each in pseudonyms)
    return lambda pseudonym: pseudonym[:CLAIM] in halves


def known_pseudonyms(person: str, settings: Settings) -> list[str]:
    """As `pseudonyms_of`; none where nobody was given a pseudonym yet."""
    there = settings.database_url is not None or key_file(settings.data_dir).exists()
    return pseudonyms_of(person, signing_key(settings)) if there else []


def _normal(name: str) -> str:
    composed = unicodedata.normalize("NFKC", name)
    return " ".join("".join(each for each in composed if unicodedata.category(each) != "Cf").split())


def _hashed(name: str, key: bytes) -> str:
    return hmac.new(key, name.encode(), hashlib.sha256).hexdigest()[:16]
