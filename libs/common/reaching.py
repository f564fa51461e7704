"""What is said of a server that cannot be reached: where it is, and what happened.

Law 1: an address is read from a URL only where nothing of its user or password can be taken for it.
Law 2: a cause is words of our own: a class, an error number or a code says what happened. Texts of errors may quote
       what was sent, an address with its password, or a server's own words. So none is repeated.
"""

import errno
import re
import ssl
from collections.abc import Iterator
from socket import gaierror
from urllib.parse import parse_qs, urlsplit

_HOST = r"(?:[\w.-]+|\[[0-9A-Fa-f:.]+\])(?::\d+)?"
_ADDRESS = re.compile(rf"{_HOST}(?:,{_HOST})*", re.ASCII)
_EXPIRED, _NOT_YET, _OTHER_HOST = {10}, {9}, {62, 64}  # X509_V_ERR_* of OpenSSL
_UNTRUSTED = {2, 18, 19, 20, 21}
_MALFORMED = range(80, 94)  # OpenSSL looks at these where it is strict: in most clients from Python 3.13 on
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNEXPECTED_EOF_WHILE_READING", "PACKET_LENGTH_TOO_LONG")
_ALERTS = {
    "CERTIFICATE_REQUIRED": "it asks for a client certificate",
    "HANDSHAKE_FAILURE": "it asks for a client certificate, or has no cipher in common with this client",
    "CERTIFICATE_EXPIRED": "the client certificate has expired",
    "CERTIFICATE_REVOKED": "the client certificate was revoked",
    "UNKNOWN_CA": "it does not trust the authority of the client certificate",
    "CERTIFICATE_UNKNOWN": "it refuses the client certificate",
    "BAD_CERTIFICATE": "it refuses the client certificate",
    "PROTOCOL_VERSION": "it speaks another version of TLS",
}
_NUMBERS = {
    errno.ECONNREFUSED: "nothing listens there",
    errno.ECONNRESET: "the connection was reset",
    errno.EHOSTUNREACH: "there is no way to the host",
    errno.ENETUNREACH: "there is no way to the network",
    errno.ETIMEDOUT: "the connection timed out",
    errno.ENOENT: "there is no such file or socket",
    errno.EACCES: "this user may not open it",
}


def address_in(url: str) -> str | None:
    """The hosts and ports of a URL, or the folder of its socket; None where they are not told from a password."""
    try:
        parts = urlsplit(url)
        asked = parse_qs(parts.query).get("host", [""])[-1]
    except ValueError:
        return None
    if url.count("@") != parts.netloc.count("@"):
        return None  # a password may have one of /, ? and # in it
    user, _, address = parts.netloc.rpartition("@")
    if not address:
        return asked if asked.startswith("/") and not user else None
    return address if _ADDRESS.fullmatch(address) else None


def at(url: str) -> str:
    """`` at HOST:PORT``, or nothing."""
    return f" at {address}" if (address := address_in(url)) else ""


def tls_cause(error: BaseException) -> str | None:
    """Why TLS failed, in words with "it" for the server; None where TLS was not what failed."""
    for one in _chain(error):
        if isinstance(one, ssl.SSLCertVerificationError):
            return _distrust(getattr(one, "verify_code", 0))  # aiohttp's own error has none
        if isinstance(one, ssl.SSLError):
            reason = getattr(one, "reason", None) or ""
            if any(sign in reason for sign in _NO_TLS):
                return "it does not speak TLS there"
            told = (words for sign, words in _ALERTS.items() if reason.endswith(f"ALERT_{sign}"))
            return next(told, "TLS fails")
    return None


def words_of(error: BaseException) -> str:  # noqa: PLR0911 -- one return per kind
    """What happened, with "it" for the server."""
    cause = _root(error)
    match cause:
        case ssl.SSLError():
            return tls_cause(cause) or "TLS fails"
        case gaierror():
            return "its name does not resolve"
        case TimeoutError():
            return "it does not answer in time"
        case OSError() if cause.errno in _NUMBERS:
            return _NUMBERS[cause.errno]
        case OSError() if cause.errno is not None:
            return f"the system says {errno.errorcode.get(cause.errno, cause.errno)}"
        case ValueError():
            return "the address or the credential holds a character that is not allowed there"
        case ConnectionError():
            return "the connection was lost"
        case _:
            return f"{type(cause).__name__}"


def is_silence(error: BaseException) -> bool:
    """Whether there was no answer in time."""
    return isinstance(_root(error), TimeoutError)


def _distrust(code: int) -> str:
    if code in _EXPIRED:
        return "its certificate has expired"
    if code in _NOT_YET:
        return "its certificate is not valid yet"
    if code in _OTHER_HOST:
        return "its certificate is for another host name"
    if code in _UNTRUSTED:
        return "no authority that is trusted here has signed its certificate"
    if code in _MALFORMED:
        return "its certificate, or that of its authority, lacks what RFC 5280 asks for"
    return "its certificate is refused"


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or one.__context__


def _root(error: BaseException) -> BaseException:
    """What lies beneath: a library's own class wraps the system's error."""
    seen = {id(error)}
    while True:
        inner = getattr(error, "certificate_error", None)  # of aiohttp's own, which looks like the one of ssl
        if inner is None and isinstance(error, ssl.SSLError | gaierror | TimeoutError):
            return error
        inner = inner or error.__cause__ or getattr(error, "os_error", None)
        if inner is None and isinstance(error.__context__, OSError) and getattr(error, "errno", None) is None:
            inner = error.__context__  # redis-py raises its own error while it handles the system's
        if not isinstance(inner, BaseException) or id(inner) in seen:
            return error
        seen.add(id(inner))
        error = inner
