"""What is said of a server that was not reached: always something, and never a word of the library's."""

import errno
import ssl
from socket import gaierror

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.unreached import is_silence, words_of

SECRET = "s3cret"
KEY = aiohttp.client_reqrep.ConnectionKey(
    SECRET, 443, is_ssl=True, ssl=True, proxy=None, proxy_auth=None, proxy_headers_hash=None
)


def wrapped(inner: BaseException, outer: BaseException) -> BaseException:
    outer.__cause__ = inner
    return outer


ERRORS = st.recursive(
    st.sampled_from(
        [
            lambda: OSError(SECRET),
            lambda: OSError(errno.ECONNREFUSED, SECRET),
            lambda: OSError(4711, SECRET),
            lambda: gaierror(-2, SECRET),
            lambda: TimeoutError(SECRET),
            lambda: ValueError(SECRET),
            lambda: ConnectionResetError(SECRET),
            lambda: RuntimeError(SECRET),
            lambda: ssl.SSLError(1, SECRET),
            lambda: ssl.SSLCertVerificationError(1, SECRET),
            lambda: aiohttp.ClientConnectorError(KEY, OSError(errno.EHOSTUNREACH, SECRET)),
            lambda: aiohttp.ClientConnectorCertificateError(KEY, ssl.SSLCertVerificationError(1, SECRET)),
        ]
    ),
    lambda inner: st.tuples(inner, inner).map(lambda two: lambda: wrapped(two[0](), two[1]())),
    max_leaves=4,
)


@given(ERRORS.map(lambda make: make()))
def test_something_is_said_of_every_error_and_none_is_quoted(error: BaseException) -> None:
    assert words_of(error)
    assert SECRET not in words_of(error)


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
