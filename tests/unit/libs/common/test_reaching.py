"""What is said of a server that cannot be reached: always something, and never a word of the library's."""

import errno
import ssl
from socket import gaierror

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.reaching import address_in, at, is_silence, tls_cause, words_of

SECRET = st.text(alphabet="s3cr:/?#@%&=,. ", min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("postgresql://u:p@db.example:5432/transom", "db.example:5432"),
        ("postgresql://db/transom", "db"),
        ("postgresql://u:p@a:5432,b:5433/transom?sslmode=verify-full", "a:5432,b:5433"),
        ("rediss://u:p@[::1]:6379/0", "[::1]:6379"),
        ("postgresql://u:@/transom?host=/run/postgresql", None),
        ("postgresql:///transom?host=/run/postgresql", "/run/postgresql"),
        ("postgresql://u:p@db:port/transom", None),
        ("no address", None),
        ("http://[::1", None),
    ],
)
def test_the_address_of_a_server(url: str, address: str | None) -> None:
    assert address_in(url) == address


@given(SECRET)
def test_no_part_of_a_password_is_taken_for_an_address(secret: str) -> None:
    """Also where it should have been escaped."""
    assert address_in(f"postgresql://transom:zz{secret}zz@db:5432/transom") in (None, "db:5432")


def test_what_is_said_of_an_address_that_is_not_told() -> None:
    assert (at("redis://:p@cache:6379/0"), at("redis://:p#ss@cache:6379/0")) == (" at cache:6379", "")


def verification(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError("certificate verify failed")
    error.verify_code = code
    return error


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        (10, "its certificate has expired"),
        (9, "its certificate is not valid yet"),
        (62, "its certificate is for another host name"),
        (64, "its certificate is for another host name"),
        (19, "no authority that is trusted here has signed its certificate"),
        (85, "its certificate, or that of its authority, lacks what RFC 5280 asks for"),
        (92, "its certificate, or that of its authority, lacks what RFC 5280 asks for"),
        (23, "its certificate is refused"),
    ],
)
def test_why_a_certificate_is_not_taken(code: int, cause: str) -> None:
    assert tls_cause(verification(code)) == cause


def test_a_certificate_that_is_not_taken_without_a_code() -> None:
    assert tls_cause(ssl.SSLCertVerificationError()) == "its certificate is refused"


def test_the_cause_is_found_below_what_a_client_made_of_it() -> None:
    below = ConnectionError("lost")
    below.__cause__ = verification(10)
    assert tls_cause(below) == "its certificate has expired"
    below.__cause__.__context__ = below  # a circle ends
    assert tls_cause(ConnectionError("lost")) is None


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        ("WRONG_VERSION_NUMBER", "it does not speak TLS there"),
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "it asks for a client certificate"),
        ("SSLV3_ALERT_CERTIFICATE_EXPIRED", "the client certificate has expired"),
        ("TLSV1_ALERT_UNKNOWN_CA", "it does not trust the authority of the client certificate"),
        ("SOMETHING_NEW", "TLS fails"),
    ],
)
def test_what_the_other_side_says(reason: str, cause: str) -> None:
    error = ssl.SSLError(1, "text")
    error.reason = reason
    assert tls_cause(error) == cause


QUOTED = "s3cret"
KEY = aiohttp.client_reqrep.ConnectionKey(
    QUOTED, 443, is_ssl=True, ssl=True, proxy=None, proxy_auth=None, proxy_headers_hash=None
)


def wrapped(inner: BaseException, outer: BaseException) -> BaseException:
    outer.__cause__ = inner
    return outer


ERRORS = st.recursive(
    st.sampled_from(
        [
            lambda: OSError(QUOTED),
            lambda: OSError(errno.ECONNREFUSED, QUOTED),
            lambda: OSError(4711, QUOTED),
            lambda: gaierror(-2, QUOTED),
            lambda: TimeoutError(QUOTED),
            lambda: ValueError(QUOTED),
            lambda: ConnectionResetError(QUOTED),
            lambda: RuntimeError(QUOTED),
            lambda: ssl.SSLError(1, QUOTED),
            lambda: ssl.SSLCertVerificationError(1, QUOTED),
            lambda: aiohttp.ClientConnectorError(KEY, OSError(errno.EHOSTUNREACH, QUOTED)),
            lambda: aiohttp.ClientConnectorCertificateError(KEY, ssl.SSLCertVerificationError(1, QUOTED)),
        ]
    ),
    lambda inner: st.tuples(inner, inner).map(lambda two: lambda: wrapped(two[0](), two[1]())),
    max_leaves=4,
)


@given(ERRORS.map(lambda make: make()))
def test_something_is_said_of_every_error_and_none_is_quoted(error: BaseException) -> None:
    assert words_of(error)
    assert QUOTED not in words_of(error)


@pytest.mark.parametrize(
    ("error", "words", "silent"),
    [
        (wrapped(TimeoutError(), OSError()), "it does not answer in time", True),
        (aiohttp.ClientConnectorError(KEY, OSError(errno.ECONNREFUSED, "")), "nothing listens there", False),
        (aiohttp.ClientConnectorDNSError(KEY, gaierror(-2, "")), "its name does not resolve", False),
    ],
)
def test_the_error_of_the_system_counts_and_not_the_one_around_it(
    error: BaseException, words: str, *, silent: bool
) -> None:
    assert (words_of(error), is_silence(error)) == (words, silent)
