"""The cookies of pages, and the tokens of their forms. Pure; the random ids are arguments.

Rule 1: every cookie is HttpOnly and has no Domain. Where the address is https it is Secure and carries the prefix
        ``__Host-``, whatever the connection to this process is. Those of the portal are SameSite=Strict. Those of the
        inbox are SameSite=Lax: an identity provider, or a link in a message, leads to its pages.
Rule 2: a form's token is a keyed hash of its cookie, host and purpose. It is good with that cookie alone.
Rule 3: the id of a session stands in its cookie, and nowhere else. The database has its keyed hash.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Sequence
from typing import Literal

from libs.common.bridge.portal_keys import PurposeKeys
from libs.common.portal_host import PortalOrigin

ID_BYTES = 32
_ID_CHARACTERS = 43
Kind = Literal["visit", "session", "inbox", "sign-in", "attempt"]
"""The portal's ``visit`` and ``session``; the inbox's session, the page of its sign-in, and a sign-in under way."""
_STRICT: frozenset[Kind] = frozenset({"visit", "session"})


def cookie_name(kind: Kind, origin: PortalOrigin) -> str:
    """The name of the cookie on this address."""
    return f"__Host-transom-{kind}" if origin.scheme == "https" else f"transom-{kind}"


def cookie_in(headers: Iterable[str], name: str) -> str | None:
    """The value of a cookie, of several the last. ``headers``: the Cookie headers of a request.

    Some clients put a value between quotes (RFC 6265, 4.1.1). Ours need no escapes, so none is undone: before Python
    3.11.10 and 3.12.6 that takes a time that grows with the square of the length, seconds for a header (CVE-2024-7592).
    """
    found = None
    for header in headers:
        for part in header.split(";"):
            given, is_pair, value = part.partition("=")
            if is_pair and given.strip() == name:
                found = value.strip()
    if found is not None and len(found) > 1 and found[0] == found[-1] == '"':
        return found[1:-1]
    return found


def set_cookie(kind: Kind, value: str, origin: PortalOrigin, *, max_age: int | None = None) -> str:
    """The Set-Cookie header. Without ``max_age`` the cookie ends with the browser; 0 deletes it."""
    parts = [
        f"{cookie_name(kind, origin)}={value}",
        "Path=/",
        "HttpOnly",
        f"SameSite={'Strict' if kind in _STRICT else 'Lax'}",
    ]
    if origin.scheme == "https":
        parts.append("Secure")
    if max_age is not None:
        parts.append(f"Max-Age={max_age}")
    return "; ".join(parts)


def as_text(raw: bytes) -> str:
    """Bytes as a cookie or a form carries them."""
    return urlsafe_b64encode(raw).decode().rstrip("=")


def as_bytes(text: str | None) -> bytes | None:
    """The 32 bytes of an id or a token; None for anything else."""
    if text is None or len(text) != _ID_CHARACTERS or not text.isascii():
        return None
    try:
        raw = urlsafe_b64decode(text + "=")
    except ValueError:
        return None
    return raw if len(raw) == ID_BYTES and as_text(raw) == text else None


class FormTokens:
    """Makes and knows the tokens of forms."""

    def __init__(self, masters: Sequence[bytes]) -> None:
        self._keys = PurposeKeys(masters, "csrf")

    def token(self, kind: Kind, cookie: bytes, host: str) -> str:
        """The token for a form of a page that the browser with this cookie gets."""
        return as_text(self._keys.hash(_bound(kind, cookie, host)))

    def is_good(self, token: str | None, kind: Kind, cookie: bytes, host: str) -> bool:
        """Whether the token was made for this cookie, on this host."""
        return self._keys.made(_bound(kind, cookie, host), as_bytes(token) or b"")


def _bound(kind: Kind, cookie: bytes, host: str) -> bytes:
    return b"\0".join((kind.encode(), host.encode(), cookie))
