"""Gives pages to a browser without a service: its requests are answered here, with the services' own headers."""

from collections.abc import Callable
from http import HTTPStatus

from playwright.async_api import BrowserContext, Route
from starlette.requests import Request

from libs.common.pages.headers import HEADERS
from libs.common.pages.static_files import PREFIX, StaticFiles

ORIGIN = "https://pages.example"
EVENTS = ("/conversation/events", "/inbox/events")


class PageServer:
    """Answers ``GET /{name}`` with the page that ``write`` gives for the name and the browser's languages, if any.

    A POST changes nothing. ``posted`` are the paths of the posts, ``strange`` the addresses of everything else that was
    asked for.
    """

    def __init__(self, write: Callable[[str, str | None], str | None], static: StaticFiles) -> None:
        self._write = write
        self._static = static
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
        elif path.partition("?")[0] in EVENTS:
            await route.fulfill(status=HTTPStatus.OK, headers={"Content-Type": "text/event-stream"}, body=": \n\n")
        elif (page := self._write(path.removeprefix("/"), await asked.header_value("accept-language"))) is not None:
            headers = HEADERS | {"Content-Type": "text/html; charset=utf-8"}
            await route.fulfill(status=HTTPStatus.OK, headers=headers, body=page)
        else:
            self.strange.append(asked.url)
            await route.fulfill(status=HTTPStatus.SERVICE_UNAVAILABLE, body="")
