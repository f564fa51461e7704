"""Meta's Graph API: one POST per message through a pool of connections.

A failure before the request's head was handed to the socket means: never left, later. After that it may have been processed.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import aiohttp
import orjson

from libs.common.addresses import segment
from libs.common.answers import read_answer
from libs.common.clock import Clock
from libs.common.sending.outcomes import RetryLater, SendOutcome, Unknown
from services.whatsapp_sender.backoff_policies import UNREACHABLE, asked_wait
from services.whatsapp_sender.classify import classify

_CONNECT_SHARE = 0.5
_KEEP_ALIVE_SECONDS = 30.0


@dataclass(slots=True)
class _Flight:
    """Whether a request has left."""

    left: bool = False


class Graph:
    """One pool of connections to the Graph API; a token per call, because numbers may carry their own."""

    def __init__(self, http: aiohttp.ClientSession, *, base_url: str, version: str, token: str, now: Clock) -> None:
        self._http = http
        self._base = f"{base_url}/{version}"
        self._token = token
        self._now = now

    async def send(self, number: str, body: dict[str, Any], *, token: str | None) -> SendOutcome:
        """Send one message from ``number`` (a phone_number_id). Ends within the session's timeout; raises nothing."""
        flight = _Flight()
        try:
            async with self._http.post(
                f"{self._base}/{segment(number)}/messages",
                data=orjson.dumps(body),
                headers={"Authorization": f"Bearer {token or self._token}", "Content-Type": "application/json"},
                allow_redirects=False,
                trace_request_ctx=flight,
            ) as response:
                answer = await _json(response)
                wait = asked_wait(response.headers, self._now())
                return classify(number, response.status, answer, wait, template=body.get("type") == "template")
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            return _broken(left=False, error=error)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            return _broken(left=flight.left, error=error)


@asynccontextmanager
async def open_graph(
    *, base_url: str, version: str, token: str, timeout_seconds: float, connections: int, now: Clock
) -> AsyncIterator[Graph]:
    """A ``Graph`` with its pool, closed on leaving. ``timeout_seconds`` bounds a whole call."""
    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(_on_headers_sent)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections, keepalive_timeout=_KEEP_ALIVE_SECONDS),
        timeout=aiohttp.ClientTimeout(total=timeout_seconds, connect=timeout_seconds * _CONNECT_SHARE),
        cookie_jar=aiohttp.DummyCookieJar(),
        trace_configs=[trace],
    ) as http:
        yield Graph(http, base_url=base_url, version=version, token=token, now=now)


async def _on_headers_sent(
    _session: aiohttp.ClientSession, context: SimpleNamespace, _params: aiohttp.TraceRequestHeadersSentParams
) -> None:
    context.trace_request_ctx.left = True


async def _json(response: aiohttp.ClientResponse) -> object:
    """The JSON value of the body, or None: when it is none, is larger than any answer of Meta, or breaks off."""
    try:
        raw = await read_answer(response)
        value: object = None if raw is None else orjson.loads(raw)
    except (aiohttp.ClientError, OSError, orjson.JSONDecodeError):
        return None
    return value


def _broken(*, left: bool, error: BaseException) -> SendOutcome:
    """No answer. Never left: the provider is away for the whole account, later. Else nobody knows."""
    if not left:
        return RetryLater("account", UNREACHABLE, "never_left")
    return Unknown("timeout" if isinstance(error, TimeoutError) else "connection_lost")
