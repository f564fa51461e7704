"""The code of a magic link. It is made here and stored nowhere. Pure; randomness is an argument.

A code has 11 characters of base62, which are 65 bits. An attacker wants any link, not one: with a million live links
a guess hits once in 52,000,000,000,000 tries. The database holds the HMAC of a code, under a key that is not in the
database, so a copy of the tables opens no conversation.

The thread keeps the text around the code with the code masked. The fingerprint of the whole text is an HMAC too, under
a key of its own: it finds the text again in the provider's list, and confirms no guess.
"""

import re
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from libs.common.bridge.portal_keys import PurposeKeys

ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
CODE_LENGTH = 11
MASKED_CODE = "*" * CODE_LENGTH
"""What the thread shows in place of a code."""
_CODE = re.compile(f"[{ALPHABET}]{{{CODE_LENGTH}}}")


def is_code(text: str) -> bool:
    """Whether this may be a code."""
    return _CODE.fullmatch(text) is not None


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
        self._codes = PurposeKeys(keys, "codes")
        self._texts = PurposeKeys(keys, "texts")
        self._choose = choose

    def fresh(self) -> LinkCode:
        """A new code, each of the 62^11 equally likely."""
        code = "".join(self._choose(ALPHABET) for _ in range(CODE_LENGTH))
        return LinkCode(code=code, code_hash=self._codes.hash(code.encode()))

    def hashes(self, code: str) -> tuple[bytes, ...]:
        """What may be stored of this code: one hash for each key."""
        return self._codes.hashes(code.encode())

    def fingerprint(self, text: str) -> bytes:
        """The digest that is stored of a sent text, by which the text is found again in the provider's list."""
        return self._texts.hash(text.encode())

    def fingerprints(self, text: str) -> frozenset[bytes]:
        """Every digest that may be stored of this text: its send may have been claimed under an older key."""
        return frozenset(self._texts.hashes(text.encode()))
