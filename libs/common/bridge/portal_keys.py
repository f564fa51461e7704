"""The keys of the portal: one for each purpose, all derived from PORTAL_LINK_KEYS. Pure.

What is learned of one purpose says nothing about another: the hash of a code is never the fingerprint of a text, the
token of a form is never the hash of a session. A master key has at least ``KEY_BYTES`` bytes, so that it cannot be
guessed from a copy of the tables.
"""

import hashlib
import hmac
from collections.abc import Sequence
from typing import Literal

KEY_BYTES = 32
_SALT = b"transom portal v1"

Purpose = Literal["codes", "texts", "sessions", "csrf", "addresses", "cursors", "sign-ins"]


def derive(master: bytes, purpose: Purpose) -> bytes:
    """HKDF-SHA256 (RFC 5869): 32 bytes for this purpose."""
    extracted = hmac.digest(_SALT, master, hashlib.sha256)
    return hmac.digest(extracted, purpose.encode() + b"\x01", hashlib.sha256)


class PurposeKeys:
    """The keys of one purpose, from the master keys, newest first. The newest hashes, and all of them recognise."""

    def __init__(self, masters: Sequence[bytes], purpose: Purpose) -> None:
        self._keys = tuple(derive(master, purpose) for master in masters)

    def hash(self, message: bytes) -> bytes:
        """HMAC-SHA256 under the newest key."""
        return hmac.digest(self._keys[0], message, hashlib.sha256)

    def hashes(self, message: bytes) -> tuple[bytes, ...]:
        """HMAC-SHA256 under every key: the message may have been hashed before the newest came."""
        return tuple(hmac.digest(key, message, hashlib.sha256) for key in self._keys)

    def made(self, message: bytes, digest: bytes) -> bool:
        """Whether ``digest`` is the hash of ``message`` under any of the keys. Takes the same time for any digest."""
        return any([hmac.compare_digest(one, digest) for one in self.hashes(message)])  # noqa: C419 -- all are compared
