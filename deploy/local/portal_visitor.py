"""A customer in the portal, over HTTP and without a browser: cookies, the page's token, its form."""

import html
import re
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import aiohttp

_FIELD = re.compile(r'<input[^>]*\bname="(\w+)"[^>]*\bvalue="([^"]*)"')
_OK, _SEE_OTHER = 200, 303


class PortalError(Exception):
    """The portal answered otherwise than a customer may expect. It names no code and no text."""


class PortalVisitor:
    """One customer's browser, without scripts. An async context manager."""

    def __init__(self) -> None:
        self._http: aiohttp.ClientSession | None = None
        self._origin = ""

    async def __aenter__(self) -> Self:
        # the portal of one machine is at an IP address, whose cookies a jar refuses unless it is told otherwise
        self._http = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._http is not None:
            await self._http.close()

    async def opens(self, link: str) -> None:
        """Open a magic link and press its button: from then on the session lives in this browser."""
        parts = urlsplit(link)
        self._origin = f"{parts.scheme}://{parts.netloc}"
        await self._post(parts.path, _fields(await self._get(parts.path)))

    async def asks_for_a_link(self, link: str) -> None:
        """Ask for a fresh link by SMS, on the page of one that opens nothing any more."""
        path = urlsplit(link).path
        async with self._session.get(f"{self._origin}{path}") as answer:
            fields = _fields(await answer.text())
        await self._post(path, fields | {"again": "sms"}, _OK)

    async def page(self) -> str:
        """The text of the conversation's page, without its marks."""
        return html.unescape(re.sub(r"<[^>]+>", " ", await self._get("/conversation")))

    async def writes(self, text: str) -> None:
        """Write into the form of the page and send it."""
        fields = _fields(await self._get("/conversation"))
        await self._post("/conversation/messages", fields | {"text": text})

    async def _get(self, path: str) -> str:
        async with self._session.get(f"{self._origin}{path}") as answer:
            if answer.status != _OK:
                raise PortalError(f"the portal answers {answer.status} where a page is expected")
            return await answer.text()

    async def _post(self, path: str, fields: dict[str, str], expected: int = _SEE_OTHER) -> None:
        headers = {"Origin": self._origin, "Sec-Fetch-Site": "same-origin"}
        async with self._session.post(
            f"{self._origin}{path}", data=fields, headers=headers, allow_redirects=False
        ) as answer:
            if answer.status != expected:
                raise PortalError(f"the portal answers {answer.status} to a form, not {expected}")

    @property
    def _session(self) -> aiohttp.ClientSession:
        if self._http is None:
            raise PortalError("use the visitor as an async context manager")
        return self._http


def _fields(page: str) -> dict[str, str]:
    """The hidden fields of the page's forms."""
    return {name: html.unescape(value) for name, value in _FIELD.findall(page)}
