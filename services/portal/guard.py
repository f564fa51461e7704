"""What holds for every answer of the portal: its headers, and that the host is known.

Rule 1: every answer has the headers of ``HEADERS``, errors included. Nothing may be stored, framed, indexed or told to
        another site, and no script or style runs that is not a file of ours.
Rule 2: a host that is not ours gets 421. The probes of the operator are asked by address and answer on any host.
Rule 3: a server that is away is a page that says so, with 503.
"""

from collections.abc import Awaitable, Callable
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from libs.common.log_throttle import LogThrottle
from libs.common.logging import get_logger
from libs.common.retryable import is_retryable
from services.portal.html import Html
from services.portal.languages import language_of
from services.portal.requests import path_to_try_again
from services.portal.sites import Site, Sites
from services.portal.static_files import PREFIX
from services.portal.views import Page, TroublePage

log = get_logger()
_throttle = LogThrottle()

PROBES = frozenset({"/livez", "/readyz", "/metrics"})
SITE = "portal.site"
UNSENT = "portal.unsent"
"""Where a request keeps what it was to send, for the page that says that a server is away."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
    " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Robots-Tag": "noindex, nofollow, noarchive",
    "Cache-Control": "no-store",
}
_HSTS = "max-age=31536000"


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
            await self._app(scope, receive, _with_headers(send, None))
            return
        hosts = Headers(scope=scope).getlist("host")
        try:
            site = await self._sites.of(hosts[0]) if len(hosts) == 1 else None
        except Exception as error:
            if not is_retryable(error):
                raise
            _away(error)
            if scope["path"].startswith(PREFIX):  # the style of the page that says so
                await self._app(scope, receive, _with_headers(send, None))
                return
            trouble = TroublePage("away", again=path_to_try_again(scope["path"]))
            answer = page_response(self._html, Request(scope), trouble, HTTPStatus.SERVICE_UNAVAILABLE)
            await answer(scope, receive, _with_headers(send, None))
            return
        send = _with_headers(send, site)
        if site is None:
            answer = page_response(self._html, Request(scope), TroublePage("not_here"), HTTPStatus.MISDIRECTED_REQUEST)
            await answer(scope, receive, send)
            return
        await self._app({**scope, SITE: site}, receive, send)


def _with_headers(send: Send, site: Site | None) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            if site is not None and site.origin.scheme == "https":
                headers.setdefault("Strict-Transport-Security", _HSTS)
        await send(message)

    return send_with_headers
