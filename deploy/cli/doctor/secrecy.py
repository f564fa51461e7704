"""What must not be printed, and how it is kept out of a text. Pure.

Rule 1: a check writes no secret into a finding. This is the second line: every text of a report passes ``Secrets``.
Rule 2: a secret is a value of a secret setting, each part of a joined one, every string in SMS_ACCOUNTS, and a password
        in an address: of any variable, because a wrong one may hold what belongs into another.
Rule 3: a secret is found in plain, percent-encoded and in base64, also in the middle of other text. One that looks like
        a word (``admin``, ``ever``) is found as a whole word alone, or it would strike out parts of others.
Rule 4: a password that is a name of this product or its servers says nothing where it stands in a report: it stays.
        So does a word that our own sentences use: "the password is ***" would tell that it is ``wrong``.
"""

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import quote, quote_plus, unquote

STARS = "***"
_LEAST = 4
"""A shorter secret would strike out parts of words. Nothing but a check of its own could print it."""
_SECRET_NAME = re.compile(r"SECRET|TOKEN|KEY|PASSWORD|DSN|REDIS_URL|SMS_ACCOUNTS")
_USER_INFO = re.compile(r"://[^/?#\s]*?:([^/?#\s]+)@")
_PASSWORD_OPTION = re.compile(r"(?i)\b(?:password|sslpassword)\s*=\s*'?([^&\s']+)")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_WORDS = frozenset(
    {"provider", "account", "credentials", "signature_secrets", "messaging_service", "twilio", "vonage", "localhost"}
    | {"transom", "kafka", "postgres", "postgresql", "redis", "valkey", "graph", "portal", "inbox", "ingest", "router"}
    | {"password", "secret", "token", "user"}
    | {"wrong", "missing", "value", "server", "default", "example", "public", "invalid", "unknown"}
)
_LIKE_A_WORD = re.compile(r"[a-z]{4,8}|[A-Z][a-z]{3,7}")
_ALIGNMENTS = 3


class Secrets:
    """The secrets of one run. More may be added as they are read."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._forms: set[str] = set()
        self._words: set[str] = set()
        self.add(*values)

    @classmethod
    def of_variables(cls, values: Mapping[str, str], public: frozenset[str]) -> "Secrets":
        """Of variables by name in capitals without prefix. ``public``: names of settings that hold no secret."""
        return cls(secret for name, value in values.items() for secret in _secrets_of(name, value, public))

    def add(self, *values: str) -> None:
        for value in values:
            if len(value) < _LEAST or value in _WORDS:
                continue
            if _LIKE_A_WORD.fullmatch(value):
                self._words.add(value)
                self._forms |= set(_forms(value)) - {value}
            else:
                self._forms |= set(_forms(value))

    def scrub(self, text: str) -> str:
        """The text with stars in place of every secret, the longest first."""
        for form in sorted(self._forms, key=len, reverse=True):
            text = text.replace(form, STARS)
        for word in self._words:
            text = re.sub(rf"(?<![A-Za-z]){word}(?![A-Za-z])", STARS, text)
        return text


def _secrets_of(name: str, value: str, public: frozenset[str]) -> Iterator[str]:
    for pattern in (_USER_INFO, _PASSWORD_OPTION):
        for found in pattern.findall(value):
            yield found
            yield unquote(found)
    if name in public or not _SECRET_NAME.search(name) or name.endswith(("_URL", "_FILE")):
        return
    if "SMS_ACCOUNTS" in name:
        yield from (found for found in _QUOTED.findall(value) if found not in _WORDS)
    elif not name.endswith("DSN"):
        yield value.strip()
        yield from (part.strip() for part in value.split(","))


def _forms(secret: str) -> Iterator[str]:
    yield secret
    yield from (quote(secret, safe=""), quote(secret), quote_plus(secret))
    yield quote(secret, safe="").lower()
    raw = secret.encode()
    for before in range(_ALIGNMENTS):  # base64 of a text that the secret stands in depends on how many bytes precede
        encoded = base64.b64encode(b"\0" * before + raw).decode()
        first = (before * 8 + 5) // 6
        last = (before + len(raw)) * 8 // 6
        inner = encoded[first:last]
        if len(inner) >= _LEAST:
            yield inner
            yield inner.replace("+", "-").replace("/", "_")
