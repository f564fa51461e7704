"""The code of a magic link: made here, stored nowhere.

8 characters of base62 are 47 bits: short enough for an SMS, and out of reach for guessing within a link's life at any rate a portal
would answer. The database holds its HMAC under a key that the database does not have, so a copy of the tables opens no conversation.
"""

import hashlib
import hmac
import secrets
import string
from collections.abc import Sequence
from dataclasses import dataclass

from services.sms_bridge.compose import CODE_LENGTH

ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase


@dataclass(frozen=True, slots=True)
class Link:
    """A fresh code and what is stored of it."""

    code: str
    code_hash: bytes


class LinkMint:
    """Makes codes under the newest of the keys in PORTAL_LINK_KEYS (the first); the portal knows the older ones as well."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._key = keys[0]

    def fresh(self) -> Link:
        """A code from the system's CSPRNG, every one of 62^8 equally likely."""
        code = "".join(secrets.choice(ALPHABET) for _ in range(CODE_LENGTH))
        return Link(code=code, code_hash=code_hash(code, self._key))


def code_hash(code: str, key: bytes) -> bytes:
    """HMAC-SHA256 of the code under one of the link keys: the primary key of ``portal_links``."""
    return hmac.digest(key, code.encode(), hashlib.sha256)
