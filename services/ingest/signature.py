"""Verification of Meta's and Twilio's signatures. Pure.

Rule 1: signatures are computed over the raw bytes; a body that was parsed and written again has another digest.
Rule 2: whatever the header holds, the answer is yes or no, never an exception.
Rule 3: comparison takes constant time, and every secret is tried, so that the time reveals nothing.
"""

import base64
import hmac
import re
from collections.abc import Mapping, Sequence
from urllib.parse import SplitResult, urlsplit

_META_SCHEME = b"sha256="
_META_FORM = re.compile(rb"sha256=[0-9A-Fa-f]{64}")
_TWILIO_FORM = re.compile(rb"[A-Za-z0-9+/]{27}=")
_DEFAULT_PORTS = {"https": 443, "http": 80}


def is_meta_signature(header: bytes | None) -> bool:
    """Whether the header has the form of a signature.

    This is known before the body is read and before anything is computed.
    """
    return header is not None and _META_FORM.fullmatch(header) is not None


def is_twilio_signature(header: bytes | None) -> bool:
    """Whether the header has the form of a signature: the base64 of 20 bytes."""
    return header is not None and _TWILIO_FORM.fullmatch(header) is not None


def signed_by_meta(body: bytes | bytearray, header: bytes | None, secrets: Sequence[bytes]) -> bool:
    """Whether ``X-Hub-Signature-256`` (``sha256=<hex>``) is the raw body's HMAC-SHA256 under one of the app secrets."""
    if header is None or not header.startswith(_META_SCHEME):
        return False
    given = header[len(_META_SCHEME) :].lower()
    good = False
    for secret in secrets:
        good |= hmac.compare_digest(hmac.digest(secret, body, "sha256").hex().encode(), given)
    return good


def signed_by_twilio(
    url: str, form: Mapping[str, Sequence[str]], header: bytes | None, tokens: Sequence[bytes]
) -> bool:
    """Whether ``X-Twilio-Signature`` is the base64 HMAC-SHA1 of the URL and the form under one of the auth tokens.

    ``url`` is the one that Twilio was given, with its query. ``form`` holds every value of every field, blank ones too.
    Fields are signed sorted by name, the values of one field without duplicates and sorted. Twilio signs with or
    without the port, so both are tried.
    """
    if header is None:
        return False
    fields = "".join(name + value for name in sorted(form) for value in sorted(set(form[name])))
    good = False
    for spelling in _with_and_without_port(url):
        signed = (spelling + fields).encode(errors="surrogatepass")
        for token in tokens:
            good |= hmac.compare_digest(base64.b64encode(hmac.digest(token, signed, "sha1")), header)
    return good


def same_token(given: str | None, expected: bytes) -> bool:
    """Whether the token of a verification request is ours."""
    return given is not None and hmac.compare_digest(given.encode(errors="surrogatepass"), expected)


def _with_and_without_port(url: str) -> Sequence[str]:
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    default = _DEFAULT_PORTS.get(parts.scheme)
    if parts.port is None and default is not None:
        return url, _at(parts, f"{host}:{default}")
    if parts.port == default:
        return url, _at(parts, host.rpartition(":")[0])
    return (url,)


def _at(parts: SplitResult, host: str) -> str:
    return parts._replace(netloc=host).geturl()
