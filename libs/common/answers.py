"""HTTP calls to providers: whether a request was sent, and reading its response within a limit."""

from dataclasses import dataclass
from types import SimpleNamespace

import aiohttp

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


async def read_answer(response: aiohttp.ClientResponse, limit: int = ANSWER_LIMIT) -> bytes | None:
    """The body, or None when it is larger than ``limit`` bytes.

    Then the rest is not read, and the connection is closed.
    """
    raw = bytearray()
    async for piece in response.content.iter_any():
        raw += piece
        if len(raw) > limit:
            response.close()
            return None
    return bytes(raw)
