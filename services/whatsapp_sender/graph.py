"""Meta's Graph API: one POST per message through a pool of connections.

A call whose request never left is made again later. Any other failed call may have been processed.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson

from libs.common.addresses import segment
from libs.common.answers import Departure, JsonBody, Unreached, read_answer
from libs.common.clock import Clock
from libs.common.sending.outcomes import RetryLater, SendOutcome, Unknown
from services.whatsapp_sender.backoff_policies import UNREACHABLE, asked_wait
from services.whatsapp_sender.classify import classify

_CONNECT_SHARE = 0.5
_KEEP_ALIVE_SECONDS = 30.0


class Graph:
    """One pool of connections to the Graph API. Each call has its token, because a number may have its own."""

    def __init__(self, http: aiohttp.ClientSession, *, base_url: str, version: str, token: str, now: Clock) -> None:
        self._http = http
        self._base = f"{base_url}/{version}"
        self._token = token
        self._now = now
        self._unreached = Unreached("meta")

    async def send(self, number: str, body: dict[str, Any], *, token: str | None) -> SendOutcome:
        """Send one message from ``number`` (a phone_number_id). Ends within the session's timeout; raises nothing."""
        sent = JsonBody(orjson.dumps(body))
        try:
            async with self._http.post(
                f"{self._base}/{segment(number)}/messages",
                data=sent,
                headers=self._headers(token),
                allow_redirects=False,
            ) as response:
                answer = await _json(response)
                wait = asked_wait(response.headers, self._now)
                return classify(number, response.status, answer, wait, template=body.get("type") == "template")
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            if not sent.left:
                self._unreached.report(error)
                return RetryLater("account", UNREACHABLE, "never_left")
            return Unknown("timeout" if isinstance(error, TimeoutError) else "connection_lost")

    async def answers(self, number: str, *, token: str | None) -> bool:
        """Whether Meta answers a read of ``number``. Ends within the session's timeout; raises nothing.

        It does where the same answer to a send would not leave the outcome open.
        """
        try:
            async with self._http.get(
                f"{self._base}/{segment(number)}",
                params={"fields": "id"},
                headers=self._headers(token),
                allow_redirects=False,
            ) as response:
                answer = await _json(response)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            if Departure().never_left(error):
                self._unreached.report(error)
            return False
        is_read = response.ok and isinstance(answer, dict)
        return is_read or not isinstance(classify(number, response.status, answer, template=False), Unknown)

    def _headers(self, token: str | None) -> dict[str, str]:
        return {"Authorization": f"Bearer {token or self._token}"}


@asynccontextmanager
async def open_graph(
    *, base_url: str, version: str, token: str, timeout_seconds: float, connections: int, now: Clock
) -> AsyncIterator[Graph]:
    """A ``Graph`` with its pool, closed on leaving. ``timeout_seconds`` bounds a whole call."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections, keepalive_timeout=_KEEP_ALIVE_SECONDS),
        timeout=aiohttp.ClientTimeout(total=timeout_seconds, connect=timeout_seconds * _CONNECT_SHARE),
        cookie_jar=aiohttp.DummyCookieJar(),
    ) as http:
        yield Graph(http, base_url=base_url, version=version, token=token, now=now)


async def _json(response: aiohttp.ClientResponse) -> object:
    """The JSON value of the body. None for one that is no JSON, is too large for an answer of Meta, or breaks off."""
    try:
        raw = await read_answer(response)
        value: object = None if raw is None else orjson.loads(raw)
    except (aiohttp.ClientError, OSError, orjson.JSONDecodeError):
        return None
    return value
