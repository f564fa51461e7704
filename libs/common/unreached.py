"""What happened where a server was not reached, in words of our own, and the log line of a provider's calls.

A library's text may quote an address with its password, or a server's own words. So none is repeated: the class, an
error number or a code says what happened.
"""

import errno
import ssl
from socket import gaierror

from libs.common.log_throttle import PERIOD_SECONDS, LogThrottle
from libs.common.logging import get_logger
from libs.common.reaching import tls_cause

log = get_logger()

_NUMBERS = {
    errno.ECONNREFUSED: "nothing listens there",
    errno.ECONNRESET: "the connection was reset",
    errno.EHOSTUNREACH: "there is no way to the host",
    errno.ENETUNREACH: "there is no way to the network",
    errno.ETIMEDOUT: "the connection timed out",
    errno.ENOENT: "there is no such file or socket",
    errno.EACCES: "this user may not open it",
}


class Unreached:
    """Logs ``dependency.away`` for a provider's calls that never left: each cause at once, then once a minute.

    What becomes of a message says ``never_left``. A thousand messages that wait say that without the cause.
    """

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._throttle = LogThrottle(PERIOD_SECONDS)

    def report(self, error: BaseException) -> None:
        """One more call ended so before anything of it was sent."""
        cause = words_of(error)
        self._throttle.report(
            cause, lambda times: log.warning("dependency.away", dependency=self._provider, detail=cause, times=times)
        )


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


def is_silence(error: BaseException) -> bool:
    """Whether there was no answer in time."""
    return isinstance(_root(error), TimeoutError)
