"""The code of a magic link: made here, stored nowhere.

8 characters of base62 are 47 bits: short enough for an SMS, and out of reach for guessing within a link's life at any rate a portal
would answer. The database holds its HMAC under a key that the database does not have, so a copy of the tables opens no conversation.
The same goes for the digest of the text around the code: the thread keeps that text with the code masked, so whoever could make the digest
of a guess would need 62^8 of them, an afternoon's work.
"""

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from libs.common.bridge.codes import ALPHABET, CODE_LENGTH


@dataclass(frozen=True, slots=True)
class Link:
    """A fresh code and what is stored of it."""

    code: str
    code_hash: bytes


class LinkMint:
    """Makes codes under the newest of the keys in PORTAL_LINK_KEYS (the first); the portal knows the older ones as well.

    There is always one: the service does not start without.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._key = keys[0]
        self._keys = tuple(keys)

    def fresh(self) -> Link:
        """A code from the system's CSPRNG, every one of 62^8 equally likely."""
        code = "".join(secrets.choice(ALPHABET) for _ in range(CODE_LENGTH))
        return Link(code=code, code_hash=code_hash(code, self._key))

    def text_hash(self, text: str) -> bytes:
        """The digest that is stored of a sent text, by which it is found again in the provider's list."""
        return text_hash(text, self._key)

    def text_hashes(self, text: str) -> frozenset[bytes]:
        """What may be stored of this text: a send may have been claimed under a key that is not the newest any more."""
        return frozenset(text_hash(text, key) for key in self._keys)


def code_hash(code: str, key: bytes) -> bytes:
    """HMAC-SHA256 of the code under one of the link keys: the primary key of ``portal_links``."""
    return hmac.digest(key, code.encode(), hashlib.sha256)


def text_hash(text: str, key: bytes) -> bytes:
    """HMAC-SHA256 of a text under one of the link keys; never that of a code, even where a text is one."""
    return hmac.digest(key, b"text\0" + text.encode(), hashlib.sha256)
