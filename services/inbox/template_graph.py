"""Meta's endpoints for templates: list, create, edit, delete.

Rule 1: ids stand in addresses through ``segment``; names, cursors and everything else are encoded as parts of a query.
        The address of the next page that Meta names is not followed: it would get our token.
Rule 2: a call ends within its time and raises nothing. What is not known to be undone is ``Unknown``.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson

from libs.common.addresses import segment
from libs.common.answers import Departure, Unreached, departures, read_answer
from services.inbox.template_answers import (
    Done,
    Failure,
    Made,
    Page,
    Throttled,
    Unknown,
    done_of,
    made_of,
    page_of,
)

PAGE = 100
_FIELDS = "name,language,status,category,components,parameter_format,quality_score,rejected_reason"
_ANSWER_LIMIT = 8 * 1024 * 1024  # of a page: 100 templates with ten cards each are far below it
_CONNECT_SHARE = 0.5
NEVER_LEFT = "never_left"


class TemplateGraph:
    """One pool of connections. Each call has its token, because a number may have its own."""

    def __init__(self, http: aiohttp.ClientSession, *, base_url: str, version: str) -> None:
        self._http = http
        self._base = f"{base_url}/{version}"
        self._unreached = Unreached("meta")

    async def page(
        self, waba_id: str, token: str, *, after: str | None = None, name: str | None = None
    ) -> Page | Failure:
        """A page of the account's templates: the first, or the one behind a cursor.

        ``name``: only templates whose name contains it.
        """
        query = {"fields": _FIELDS, "limit": str(PAGE)} | _given(after=after, name=name)
        answered = await self._call("GET", self._of(waba_id), token, query=query)
        return answered if isinstance(answered, Unknown | Throttled) else page_of(*answered)

    async def create(self, waba_id: str, token: str, body: Mapping[str, Any]) -> Made | Failure:
        """Submit a new template. ``body``: name, language, category, parameter_format, components."""
        answered = await self._call("POST", self._of(waba_id), token, body=body)
        return answered if isinstance(answered, Unknown | Throttled) else made_of(*answered)

    async def edit(self, meta_id: str, token: str, body: Mapping[str, Any]) -> Done | Failure:
        """Submit other components, and another category, of a template."""
        answered = await self._call("POST", f"{self._base}/{segment(meta_id)}", token, body=body)
        return answered if isinstance(answered, Unknown | Throttled) else done_of(*answered)

    async def delete(self, waba_id: str, token: str, *, name: str, meta_id: str) -> Done | Failure:
        """Delete this language of a template. Without the id Meta would delete every language of the name."""
        query = {"name": name, "hsm_id": meta_id}
        answered = await self._call("DELETE", self._of(waba_id), token, query=query)
        return answered if isinstance(answered, Unknown | Throttled) else done_of(*answered)

    def _of(self, waba_id: str) -> str:
        return f"{self._base}/{segment(waba_id)}/message_templates"

    async def _call(
        self,
        method: str,
        url: str,
        token: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> tuple[int, object] | Unknown | Throttled:
        """Status and JSON. ``Throttled`` where the request never left: nothing was done."""
        departure = Departure()
        try:
            async with self._http.request(
                method,
                url,
                params=query,
                data=None if body is None else orjson.dumps(body),
                headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
                allow_redirects=False,
                trace_request_ctx=departure,
            ) as response:
                return response.status, await _json(response)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            if departure.never_left(error):
                self._unreached.report(error)
                return Throttled(NEVER_LEFT)
            return Unknown("timeout" if isinstance(error, TimeoutError) else "connection_lost")


@asynccontextmanager
async def open_template_graph(*, base_url: str, version: str, timeout_seconds: float) -> AsyncIterator[TemplateGraph]:
    """A ``TemplateGraph`` with its pool, closed on leaving. ``timeout_seconds`` bounds a whole call."""
    async with aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=timeout_seconds, connect=timeout_seconds * _CONNECT_SHARE),
        cookie_jar=aiohttp.DummyCookieJar(),
        trace_configs=[departures()],
    ) as http:
        yield TemplateGraph(http, base_url=base_url, version=version)


async def _json(response: aiohttp.ClientResponse) -> object:
    raw = await read_answer(response, _ANSWER_LIMIT)
    try:
        value: object = None if raw is None else orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    return value


def _given(**values: str | None) -> dict[str, str]:
    return {name: value for name, value in values.items() if value is not None}
