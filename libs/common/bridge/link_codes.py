"""The code of a magic link. It is made here and stored nowhere. Pure; randomness is an argument.

A code has 8 characters of base62, which are 47 bits: short enough for an SMS, and too many to guess within a link's
life at any rate that a portal answers. The database holds the HMAC of a code, under a key that is not in the database,
so a copy of the tables opens no conversation.

The thread keeps the text around the code with the code masked. The fingerprint of the whole text is therefore an HMAC
too: with a plain digest, a reader of the tables could try all 62^8 codes in an afternoon.
"""

import hashlib
import hmac
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass

ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
CODE_LENGTH = 8
MASKED_CODE = "*" * CODE_LENGTH
"""What the thread shows in place of a code."""


@dataclass(frozen=True, slots=True)
class LinkCode:
    """A fresh code and the hash of it that is stored."""

    code: str
    code_hash: bytes


class LinkCodes:
    """Makes codes under the first of ``keys`` (PORTAL_LINK_KEYS), which is the newest.

    The portal accepts the older keys as well. ``choose`` draws one character, each equally likely, from the system's
    CSPRNG (``secrets.choice``).
    """

    def __init__(self, keys: Sequence[bytes], choose: Callable[[str], str]) -> None:
        self._keys = tuple(keys)
        self._choose = choose

    def fresh(self) -> LinkCode:
        """A new code, each of the 62^8 equally likely."""
        code = "".join(self._choose(ALPHABET) for _ in range(CODE_LENGTH))
        return LinkCode(code=code, code_hash=code_hash(code, self._keys[0]))

    def fingerprint(self, text: str) -> bytes:
        """The digest that is stored of a sent text, by which the text is found again in the provider's list."""
        return fingerprint(text, self._keys[0])

    def fingerprints(self, text: str) -> frozenset[bytes]:
        """Every digest that may be stored of this text: its send may have been claimed under an older key."""
        return frozenset(fingerprint(text, key) for key in self._keys)


def code_hash(code: str, key: bytes) -> bytes:
    """HMAC-SHA256 of the code under one of the link keys: the primary key of ``portal_links``."""
    return hmac.digest(key, code.encode(), hashlib.sha256)


def fingerprint(text: str, key: bytes) -> bytes:
    """HMAC-SHA256 of a text under one of the link keys.

    It never equals the hash of a code, even for a text that is a code.
    """
    return hmac.digest(key, b"text\0" + text.encode(), hashlib.sha256)
