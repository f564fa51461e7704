"""What holds for every answer of the inbox.

Rule 1: every answer has the headers of ``libs.common.pages.headers``, errors included.
Rule 2: a host that is not the one of INBOX_URL gets 421; without it this machine's names alone are served. The probes
        of the operator are asked by address and answer on any host.
Rule 3: ``/v1`` and ``/openapi.json`` are the API, everything else is a page. The API takes bearer tokens alone and the
        pages take cookies alone, so that no other site's page can ask the API with a person's session.
Rule 4: HEAD of the API is GET without the body, which the server leaves out. A stream has no end, so HEAD of it is 405.
"""

from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from libs.common.pages.headers import with_headers
from libs.common.pages.origins import is_loopback_host, names_host
from libs.common.portal_host import PortalOrigin
from libs.common.web import PROBES
from services.inbox.problems import Problem

API = "/v1"
DOCUMENT = "/openapi.json"
STREAM = f"{API}/events"
ORIGIN = "inbox.origin"
"""Where a request keeps the address by which it came, a ``PortalOrigin``."""


class Guard:
    """Stands around the pages and the API."""

    def __init__(self, pages: ASGIApp, api: ASGIApp, inbox: PortalOrigin | None) -> None:
        """``inbox``: the origin of INBOX_URL. None: this machine alone."""
        self._pages = pages
        self._api = api
        self._inbox = inbox

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        path: str = scope["path"]
        if path in PROBES:
            await self._pages(scope, receive, with_headers(send, https=False))
            return
        origin = self._origin(Headers(scope=scope).getlist("host"))
        send = with_headers(send, https=origin is not None and origin.scheme == "https")
        if origin is None:
            await Problem(HTTPStatus.MISDIRECTED_REQUEST).response()(scope, receive, send)
            return
        is_api = path in {DOCUMENT, API} or path.startswith(f"{API}/")
        method = "GET" if is_api and scope["method"] == "HEAD" and path != STREAM else scope["method"]
        await (self._api if is_api else self._pages)({**scope, "method": method, ORIGIN: origin}, receive, send)

    def _origin(self, hosts: list[str]) -> PortalOrigin | None:
        if len(hosts) != 1:
            return None
        if self._inbox is None:
            return PortalOrigin("http", hosts[0].lower()) if is_loopback_host(hosts[0].lower()) else None
        return self._inbox if names_host(hosts[0], self._inbox) else None
