"""People by pseudonym: a keyed hash of the name or address they came with. The key never leaves the data folder."""

import hashlib
import hmac
import secrets

from dpo_pipeline.errors import ArtifactCorrupt
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.artifacts import write_text

KEY_CHARACTERS = 64


def signing_key(settings: Settings) -> bytes:
    """The key of tokens and pseudonyms: made once, readable by its owner only.

    Raises:
        ArtifactCorrupt: the file was emptied or cut: with such a key anybody could forge tokens.
    """
    path = settings.data_dir / "serving.key"
    if not path.exists():
        write_text(path, secrets.token_hex(KEY_CHARACTERS // 2), mode=0o600)
    key = path.read_text().strip().encode()
    if len(key) < KEY_CHARACTERS:
        raise ArtifactCorrupt(
            f"{path} holds {len(key)} characters of a key, {KEY_CHARACTERS} are required: anybody could forge tokens "
            "with it. Bring it back from a backup, or delete it to have another made; open comparisons and the "
            "pseudonyms of everybody then change."
        )
    return key


def pseudonym_of(person: str, key: bytes) -> str:
    """HMAC of a name or address: the same person is recognised, never named."""
    return hmac.new(key, person.encode(), hashlib.sha256).hexdigest()[:16]
