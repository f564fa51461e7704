"""Gives pages to a browser without a service: a context's requests are answered here, with the portal's own headers."""

from collections.abc import Mapping
from http import HTTPStatus

from playwright.async_api import BrowserContext, Route
from starlette.requests import Request

from services.portal.guard import HEADERS
from services.portal.html import Html
from services.portal.languages import language_of
from services.portal.static_files import PREFIX, StaticFiles
from services.portal.views import Page

ORIGIN = "https://portal.example"


class PageServer:
    """Answers ``GET /{name}`` with the page of that name. A POST changes nothing.

    ``posted`` are the paths of the posts, ``strange`` the addresses of everything else that was asked for.
    """

    def __init__(self, pages: Mapping[str, Page]) -> None:
        self._static = StaticFiles()
        self._html = Html(self._static)
        self._pages = pages
        self.posted: list[str] = []
        self.strange: list[str] = []

    async def serve(self, context: BrowserContext) -> None:
        """Answer the requests of this visitor from now on."""
        await context.route("**/*", self._answer)

    async def _answer(self, route: Route) -> None:
        asked = route.request
        path = asked.url.removeprefix(ORIGIN)
        if path.startswith(PREFIX):
            request = Request({"type": "http", "headers": [], "path_params": {"name": path.removeprefix(PREFIX)}})
            answer = await self._static.serve(request)
            await route.fulfill(status=answer.status_code, headers=dict(answer.headers), body=bytes(answer.body))
        elif asked.method == "POST":
            self.posted.append(path)
            await route.fulfill(status=HTTPStatus.NO_CONTENT)
        elif (page := self._pages.get(path.removeprefix("/"))) is not None:
            language = language_of(await asked.header_value("accept-language"))
            headers = HEADERS | {"Content-Type": "text/html; charset=utf-8"}
            await route.fulfill(status=HTTPStatus.OK, headers=headers, body=self._html.page(page, language))
        elif path == "/conversation/events":
            await route.fulfill(status=HTTPStatus.OK, headers={"Content-Type": "text/event-stream"}, body=": \n\n")
        else:
            self.strange.append(asked.url)
            await route.fulfill(status=HTTPStatus.SERVICE_UNAVAILABLE, body="")
