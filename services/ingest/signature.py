"""Verification of Meta's, Twilio's and Vonage's signatures. Pure.

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
_VONAGE_DIGESTS = {64: "sha256", 128: "sha512"}
"""By the length of the hex digest. Vonage's older ones, MD5 and SHA-1, are no signatures here."""
_REPLACED = str.maketrans("&=", "__")
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
    urls: Sequence[str], form: Mapping[str, Sequence[str]], header: bytes | None, tokens: Sequence[bytes]
) -> bool:
    """Whether ``X-Twilio-Signature`` is the base64 HMAC-SHA1 of a URL and the form under one of the auth tokens.

    ``urls`` are spellings of the one that Twilio was given (``twilio_urls``). ``form`` holds every value of every
    field, blank ones too. Fields are signed sorted by name, the values of one field without duplicates and sorted.
    """
    if header is None:
        return False
    fields = "".join(name + value for name in sorted(form) for value in sorted(set(form[name])))
    good = False
    for url in urls:
        signed = (url + fields).encode(errors="surrogatepass")
        for token in tokens:
            good |= hmac.compare_digest(base64.b64encode(hmac.digest(token, signed, "sha1")), header)
    return good


def twilio_urls(public_url: str, path: str, query: str) -> Sequence[str]:
    """The spellings of the address that Twilio called: at most four, whatever the request holds.

    Host and scheme are those of the configuration, never of the request. Twilio signs with or without the default port.
    A proxy may pass on the query as it was written or with its colons escaped.
    """
    queries = dict.fromkeys((query, query.replace("%3A", ":").replace("%3a", ":")))
    return [
        base + path + (f"?{spelled}" if spelled else "")
        for base in _with_and_without_port(public_url)
        for spelled in queries
    ]


def signed_by_vonage(form: Mapping[str, str], secrets: Sequence[bytes]) -> bool:
    """Whether ``sig`` is the HMAC-SHA-256 or HMAC-SHA-512 of the other fields under one of the signature secrets.

    Signed is ``&name=value`` of each field sorted by name, ``&`` and ``=`` in values replaced by ``_``. A name with one
    of these would let fields be divided anew under the same signature, so it is refused.

    Source: https://developer.vonage.com/en/getting-started/concepts/signing-messages.
    """
    given = form.get("sig", "").lower().encode(errors="surrogatepass")
    digest = _VONAGE_DIGESTS.get(len(given))
    if digest is None or any("&" in name or "=" in name for name in form):
        return False
    fields = (f"&{name}={form[name].translate(_REPLACED)}" for name in sorted(form) if name != "sig")
    signed = "".join(fields).encode(errors="surrogatepass")
    good = False
    for secret in secrets:
        good |= hmac.compare_digest(hmac.digest(secret, signed, digest).hex().encode(), given)
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
