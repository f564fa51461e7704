"""One question over HTTP: the answer, or in words why there is none.

No redirect is followed, because our credentials would go along. No address of a failed request is repeated: it may hold
a token.
"""

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson

from deploy.cli.doctor.running import CALL_SECONDS
from libs.common.answers import read_answer
from libs.common.reaching import is_silence, words_of

_LIMIT = 2 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer. ``body``: its JSON object, or empty; ``text``: its first characters; ``headers``: in small letters."""

    status: int
    body: Mapping[str, Any]
    text: str
    headers: Mapping[str, str]

    @property
    def is_object(self) -> bool:
        """Whether it is a JSON object. A page of a proxy is none, whatever its status."""
        return self.text.lstrip().startswith("{")


@dataclass(frozen=True, slots=True)
class NoReply:
    """There was none. ``distrusted``: the certificate is the reason."""

    why: str
    silent: bool = False
    distrusted: bool = False


@asynccontextmanager
async def open_http() -> AsyncIterator[aiohttp.ClientSession]:
    """A session whose every question ends within ``CALL_SECONDS``."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=ssl.create_default_context(), limit=16),
        timeout=aiohttp.ClientTimeout(total=CALL_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
    ) as http:
        yield http


async def ask(
    http: aiohttp.ClientSession,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    query: Mapping[str, str] | None = None,
) -> Reply | NoReply:
    """GET it once. Raises nothing but cancellation."""
    try:
        async with http.get(url, headers=headers, params=query, allow_redirects=False) as response:
            raw = await read_answer(response, _LIMIT) or b""
            return Reply(response.status, _json(raw), raw[:200].decode("utf-8", "replace"), _headers(response))
    except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
        distrusted = isinstance(error, aiohttp.ClientSSLError | ssl.SSLError)
        return NoReply(words_of(error), is_silence(error) or isinstance(error, TimeoutError), distrusted)


def _headers(response: aiohttp.ClientResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


def _json(raw: bytes) -> Mapping[str, Any]:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}


def shown(url: str) -> str:
    """The address without user, password and query."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"
