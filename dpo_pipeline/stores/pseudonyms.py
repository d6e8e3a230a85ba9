"""People by pseudonym: a keyed hash of the name or address they came with. The key never leaves the data folder."""

import hashlib
import hmac
import secrets

from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.artifacts import write_text


def signing_key(settings: Settings) -> bytes:
    """The key of tokens and pseudonyms: made once, readable by its owner only."""
    path = settings.data_dir / "serving.key"
    if not path.exists():
        write_text(path, secrets.token_hex(32), mode=0o600)
    return path.read_text().encode()


def pseudonym_of(person: str, key: bytes) -> str:
    """HMAC of a name or address: the same person is recognised, never named."""
    return hmac.new(key, person.encode(), hashlib.sha256).hexdigest()[:16]
