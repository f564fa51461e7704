"""Limits on what an unauthenticated client may cost the server, for what uvicorn does not bound: one protocol class.

Rule 1: URL and headers of a request are at most ``head_bytes``, its headers and trailers at most ``fields``, the whole
        request at most ``request_bytes``. Beyond that the answer is 431 or 413, and the connection is closed.
Rule 2: a request must arrive within ``request_seconds`` of its first byte. On a fresh connection the time counts from
        the connection. Beyond that the answer is 408, and the connection is closed. A client that does not read its
        answer has as long.
Rule 3: at most ``connections`` are open. For one more the oldest stalled or idle one is closed, so stalled clients lock
        out no others.
Rule 4: all unanswered requests hold at most ``bytes_in_flight``. Beyond that the unfinished request that holds most
        gets 503. Pipelined requests of a connection count as one. Each request counts at least its cost here.
Rule 5: every refusal is counted, and logged at most once a second for each reason.

A request that arrives in one piece costs this class a few comparisons: no timer, no task.
"""

import asyncio
import functools
import resource
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, NoReturn

import httptools
import orjson
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from libs.common import metrics
from libs.common.log_throttle import LogThrottle
from libs.common.logging import get_logger

log = get_logger()

_CHECK_SECONDS = 0.25  # how late a deadline may be noticed, at most
_GRACE_SECONDS = 1.0  # a connection younger than this has not stalled
_LINGER_SECONDS = 1.0
_REQUEST_COST = 4096  # bytes of memory for any parsed request: the smallest has eighteen bytes on the wire
_FILES_OF_OURS = 128  # sockets and files of the process beside its clients' connections
_BODIES = {
    status.value: orjson.dumps(
        {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail}
    )
    for status, detail in (
        (HTTPStatus.BAD_REQUEST, "this is no HTTP request"),
        (HTTPStatus.REQUEST_TIMEOUT, "the request did not arrive in time"),
        (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the request is too large"),
        (HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the request has too many headers, or too large ones"),
        (HTTPStatus.SERVICE_UNAVAILABLE, "too much is under way: try again"),
    )
}
"""The answers of the connection itself, which knows no route: problems of RFC 9457."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """See the rules."""

    head_bytes: int = 64 * 1024
    fields: int = 128
    request_bytes: int = 8 * 1024 * 1024
    request_seconds: float = 10.0
    connections: int = 2000
    bytes_in_flight: int = 256 * 1024 * 1024


@dataclass
class ConnectionLimiter:
    """All connections of one server. Both dictionaries are ordered by waiting time, the longest first."""

    bounds: Bounds = field(default_factory=Bounds)
    held: int = 0
    arriving: dict["BoundedProtocol", float] = field(default_factory=dict)
    """Connections without a complete request, fresh ones included, and since when by the event loop's clock."""
    idle: dict["BoundedProtocol", None] = field(default_factory=dict)
    """Connections kept alive between two requests."""
    on_overload: Callable[[str], object] = lambda _reason: None
    """Called when a request within all limits gets 503."""
    _log_throttle: LogThrottle = field(default_factory=LogThrottle)
    _timer_runs: bool = False

    def protocol(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any], **more: Any
    ) -> "BoundedProtocol":
        """The factory that uvicorn calls for each connection."""
        return BoundedProtocol(self, config, server_state, app_state, **more)

    @functools.cached_property
    def max_connections(self) -> int:
        """Connections at once: no more than this process may have open files."""
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return max(1, min(self.bounds.connections, files - _FILES_OF_OURS))

    def request_began(self, one: "BoundedProtocol", now: float) -> None:
        """A request has begun, or a connection is fresh."""
        self.idle.pop(one, None)
        if one not in self.arriving:
            self.arriving[one] = now
            if not self._timer_runs:
                self._timer_runs = True
                one.loop.call_later(_CHECK_SECONDS, self._check_deadlines, one.loop)

    def close_stalled(self, now: float) -> bool:
        """Close the connection that has stalled longest. False when none is stalled or idle."""
        stalled = next(iter(self.arriving.items()), None)
        if stalled is not None and now - stalled[1] > _GRACE_SECONDS:
            stalled[0].refuse(408, "connections")
        elif self.idle:
            next(iter(self.idle)).refuse(None, "connections")
        elif stalled is not None:
            stalled[0].refuse(408, "connections")
        else:
            return False
        return True

    def refuse_largest(self, one: "BoundedProtocol") -> None:
        """Refuse the unfinished request that holds most, ``one`` among them."""
        max((*self.arriving, one), key=lambda each: each.held).refuse(503, "bytes_in_flight")

    def refused(self, reason: str) -> None:
        """Count the refusal, and log it."""
        metrics.HTTP_REFUSED.labels(reason=reason).inc()
        self._log_throttle.report(reason, lambda times: log.warning("http.refused", reason=reason, times=times))

    def _check_deadlines(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer_runs = False
        before = loop.time() - self.bounds.request_seconds
        for late in [one for one, since in self.arriving.items() if since <= before]:
            late.refuse(408, "deadline")
        if self.arriving:
            self._timer_runs = True
            loop.call_later(_CHECK_SECONDS, self._check_deadlines, loop)


class _RefusedError(Exception):
    """Ends the parsing of a refused request."""


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol within bounds. ``held``: bytes of the requests under way."""

    def __init__(
        self,
        limiter: ConnectionLimiter,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        **more: Any,
    ) -> None:
        super().__init__(config, server_state, app_state, **more)
        self._limiter, self._bounds = limiter, limiter.bounds
        self._in_head, self._complete = True, False
        self._head = self._heads = 0
        self.held = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        super().connection_made(transport)
        now = self.loop.time()
        if len(self.connections) > self._limiter.max_connections and not self._limiter.close_stalled(now):
            self.refuse(503, "connections")
            return
        self._limiter.request_began(self, now)

    def connection_lost(self, exc: Exception | None) -> None:
        self._release()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self.held += len(data)
        self._limiter.held += len(data)
        self._limiter.idle.pop(self, None)
        self._complete = False
        while self._in_head and self._head + len(data) > self._bounds.head_bytes:
            data = self._feed_head(data)
            if self.transport.is_closing():
                return
        if self._in_head:
            self._head += len(data)
        self._feed(data)
        if self.transport.is_closing():
            return
        if not self._complete:
            self._is_unfinished()
        elif self.pipeline and self._limiter.held > self._bounds.bytes_in_flight:
            self._limiter.refuse_largest(self)

    def _is_unfinished(self) -> None:
        if self.held > self._bounds.request_bytes:
            self.refuse(413, "request")
            return
        self._limiter.request_began(self, self.loop.time())
        if self._limiter.held > self._bounds.bytes_in_flight:
            self._limiter.refuse_largest(self)

    def _feed_head(self, data: bytes) -> bytes:
        """Parse at most ``head_bytes`` of a head. The rest of ``data`` belongs to the body, or is too much."""
        room, heads = self._bounds.head_bytes - self._head, self._heads
        if room:
            self._feed(data[:room])
        if self._heads == heads and not self.transport.is_closing():
            self.refuse(431, "head")
        return data[room:]

    def _feed(self, data: bytes) -> None:
        """Parse as uvicorn does, but without a log line for each malformed request."""
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # the request is answered without an upgrade
        except httptools.HttpParserError:
            if not self.transport.is_closing():
                self.refuse(400, "not_http")

    def on_message_begin(self) -> None:
        self._in_head, self._complete = True, False
        if self.held > self._bounds.request_bytes:
            self._break_off(413, "request")
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self.headers) >= self._bounds.fields:
            self._break_off(431, "head")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head, self._head = False, 0
        self._heads += 1
        self.held += _REQUEST_COST
        self._limiter.held += _REQUEST_COST
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head, self._complete = True, True
        if not self.flow.write_paused:
            self._limiter.arriving.pop(self, None)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        answered = self.held // (1 + len(self.pipeline))
        self._limiter.held -= answered
        self.held -= answered
        if self._complete and not self.pipeline and not self.transport.is_closing():
            self._limiter.idle[self] = None
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._limiter.request_began(self, self.loop.time())

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._complete:
            self._limiter.arriving.pop(self, None)

    def refuse(self, status: int | None, reason: str) -> None:
        """Answer with ``status`` unless an answer has begun, and close the connection."""
        self._limiter.refused(reason)
        if status == 503:  # noqa: PLR2004 -- Service Unavailable
            self._limiter.on_overload(reason)
        self._release()
        cycle = self.cycle
        answering = cycle is not None and cycle.response_started and not cycle.response_complete
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True  # the application sees a disconnect, and nothing more of its answer is sent
            cycle.message_event.set()
        if status is not None and not answering:
            body = _BODIES[status]
            head = (STATUS_LINE[status], b"content-type: application/problem+json\r\nconnection: close\r\n")
            self.transport.write(b"".join((*head, b"content-length: %d\r\n\r\n" % len(body), body)))
        self.transport.close()
        self.loop.call_later(_LINGER_SECONDS, self.transport.abort)  # a client that does not read keeps close() waiting

    def _break_off(self, status: int, reason: str) -> NoReturn:
        """Refuse in the middle of parsing: the rest of the data is not parsed."""
        self.refuse(status, reason)
        raise _RefusedError

    def _release(self) -> None:
        self._limiter.arriving.pop(self, None)
        self._limiter.idle.pop(self, None)
        self._limiter.held -= self.held
        self.held = 0
