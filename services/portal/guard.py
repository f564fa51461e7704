"""What holds for every answer of the portal: its headers, and that the host is known.

Rule 1: every answer has the headers of ``libs.common.pages.headers``, errors included.
Rule 2: a host that is not ours gets 421. The probes of the operator are asked by address and answer on any host.
Rule 3: a server that is away is a page that says so, with 503.
"""

from collections.abc import Awaitable, Callable
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from libs.common.log_throttle import LogThrottle
from libs.common.logging import get_logger
from libs.common.pages.headers import with_headers
from libs.common.pages.static_files import PREFIX
from libs.common.retryable import is_retryable
from libs.common.web import PROBES
from services.portal.html import Html
from services.portal.languages import language_of
from services.portal.requests import path_to_try_again
from services.portal.sites import Site, Sites
from services.portal.views import Page, TroublePage

log = get_logger()
_throttle = LogThrottle()

SITE = "portal.site"
UNSENT = "portal.unsent"
"""Where a request keeps what it was to send, for the page that says that a server is away."""


def page_response(html: Html, request: Request, page: Page, status: int = HTTPStatus.OK) -> Response:
    """The page in the language of the browser."""
    return HTMLResponse(
        html.page(page, language_of(request.headers.get("accept-language"))), status, {"Vary": "Accept-Language"}
    )


Endpoint = Callable[[Request], Awaitable[Response]]


def available(html: Html, endpoint: Endpoint) -> Endpoint:
    """The endpoint, with a page that says so while a server of ours is away."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except Exception as error:
            if not is_retryable(error):
                raise
            _away(error)
            site: Site = request.scope[SITE]
            again = path_to_try_again(request.scope["path"])
            page = TroublePage("away", site.garage, again, request.scope.get(UNSENT))
            return page_response(html, request, page, HTTPStatus.SERVICE_UNAVAILABLE)

    return answer


def _away(error: Exception) -> None:
    """PostgreSQL is away or too slow. That is logged once a second, however many pages say so."""
    reason = type(error).__name__
    _throttle.report(
        reason, lambda times: log.warning("dependency.away", dependency="postgres", reason=reason, times=times)
    )


class Guard:
    """Stands around the application of the portal."""

    def __init__(self, app: ASGIApp, sites: Sites, html: Html) -> None:
        self._app = app
        self._sites = sites
        self._html = html

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        if scope["path"] in PROBES:
            await self._app(scope, receive, with_headers(send, https=False))
            return
        hosts = Headers(scope=scope).getlist("host")
        try:
            site = await self._sites.of(hosts[0]) if len(hosts) == 1 else None
        except Exception as error:
            if not is_retryable(error):
                raise
            _away(error)
            if scope["path"].startswith(PREFIX):  # the style of the page that says so
                await self._app(scope, receive, with_headers(send, https=False))
                return
            trouble = TroublePage("away", again=path_to_try_again(scope["path"]))
            answer = page_response(self._html, Request(scope), trouble, HTTPStatus.SERVICE_UNAVAILABLE)
            await answer(scope, receive, with_headers(send, https=False))
            return
        send = with_headers(send, https=site is not None and site.origin.scheme == "https")
        if site is None:
            answer = page_response(self._html, Request(scope), TroublePage("not_here"), HTTPStatus.MISDIRECTED_REQUEST)
            await answer(scope, receive, send)
            return
        await self._app({**scope, SITE: site}, receive, send)
