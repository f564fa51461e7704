"""HTTP calls to providers: whether a request was sent, the log of those that were not, reading within a limit."""

from dataclasses import dataclass
from types import SimpleNamespace

import aiohttp
from aiohttp.abc import AbstractStreamWriter

from libs.common.log_throttle import PERIOD_SECONDS, LogThrottle
from libs.common.logging import get_logger
from libs.common.reaching import words_of

log = get_logger()

ANSWER_LIMIT = 256 * 1024
"""The limit for a response about one message. No provider's response comes near it."""


@dataclass(slots=True)
class Departure:
    """Whether the request of one call was sent. Pass it as ``trace_request_ctx`` to a session with ``departures()``."""

    traced: bool = False
    left: bool = False

    def never_left(self, error: BaseException) -> bool:
        """Whether the call failed before the head of its request was handed to the socket.

        Without a trace only a failure to connect shows that.
        """
        if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
            return True
        return self.traced and not self.left


def departures() -> aiohttp.TraceConfig:
    """The trace that sets the fields of a call's ``Departure``."""
    trace = aiohttp.TraceConfig()
    trace.on_request_start.append(_on_start)
    trace.on_request_headers_sent.append(_on_headers_sent)
    return trace


async def _on_start(
    _session: aiohttp.ClientSession, context: SimpleNamespace, _params: aiohttp.TraceRequestStartParams
) -> None:
    if context.trace_request_ctx is not None:
        context.trace_request_ctx.traced = True


async def _on_headers_sent(
    _session: aiohttp.ClientSession, context: SimpleNamespace, _params: aiohttp.TraceRequestHeadersSentParams
) -> None:
    if context.trace_request_ctx is not None:
        context.trace_request_ctx.left = True


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


class JsonBody(aiohttp.BytesPayload):
    """The JSON body of one request. ``left``: whether it was handed to the socket, together with the request's head.

    For hot paths: it says what ``Departure`` says of a request with a body, and a trace costs 20 µs more.
    """

    def __init__(self, body: bytes) -> None:
        super().__init__(body, content_type="application/json")
        self.left = False

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        self.left = True
        await super().write_with_length(writer, content_length)


async def read_answer(response: aiohttp.ClientResponse, limit: int = ANSWER_LIMIT) -> bytes | None:
    """The body, or None when it is larger than ``limit`` bytes.

    Then the rest is not read, and the connection is closed.
    """
    raw = bytearray()
    while not response.content.at_eof():
        raw += await response.content.readany()
        if len(raw) > limit:
            response.close()
            return None
    return bytes(raw)
