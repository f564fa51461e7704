"""Requests of browsers: whose session it is, and whether a form came from a page of ours.

Rule 1: a page is shown to a session that lives. Without one a GET leads to the sign-in and back; any other request and
        a stream get 401, and nothing is done.
Rule 2: a form counts with the token of its page and from our own origin alone.
Rule 3: while a server is away a page says so, with 503. A page that refuses a form has the text of it, so that nothing
        is lost: neither by an outage nor by a session that has ended.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from libs.common.pages.cookies import Kind, as_bytes, cookie_in, cookie_name
from libs.common.pages.forms import FEW_BYTES, FEW_FIELDS, form_of
from libs.common.pages.languages import Language
from libs.common.pages.origins import client_address, from_our_page
from libs.common.portal_host import PortalOrigin
from libs.common.retryable import is_retryable
from services.inbox.deps import Deps
from services.inbox.guard import ORIGIN
from services.inbox.html import LANGUAGES
from services.inbox.people import Capability, Person
from services.inbox.problems import Problem, not_found, report_away

_PARTS_BY_ITSELF = frozenset({"list", "bell", "thread"})
UNSENT = "inbox.unsent"
"""Where a request keeps the text that it was to send, for the page that says why it was not."""
Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Visit:
    """A request of somebody who is signed in. ``form``: the fields of a POST, whose token was good; else empty."""

    request: Request
    deps: Deps
    person: Person
    session: bytes
    form: Mapping[str, str]

    @property
    def token(self) -> str:
        """The token of the forms of this visit's page."""
        return self.deps.keys.forms.token("inbox", self.session, origin_of(self.request).host)

    def page(self, template: str, status: int = HTTPStatus.OK, **values: Any) -> Response:
        """The page. Its template has ``person`` and ``token`` beside the values."""
        return page(self.deps, self.request, template, status, person=self.person, token=self.token, **values)


Handler = Callable[[Visit], Awaitable[Response]]


def origin_of(request: Request) -> PortalOrigin:
    """The address by which the request came."""
    origin: PortalOrigin = request.scope[ORIGIN]
    return origin


def language_of(request: Request) -> Language:
    """The language of the browser."""
    return LANGUAGES.of(request.headers.get("accept-language"))


def page(deps: Deps, request: Request, template: str, status: int = HTTPStatus.OK, **values: Any) -> Response:
    """The page in the language of the browser."""
    html = deps.html.page(template, language_of(request), **values)
    return HTMLResponse(html, status, {"Vary": "Accept-Language, Cookie"})


def is_on_our_page(request: Request) -> bool:
    """Whether what the browser says of the request's origin fits a page of ours. For forms and streams."""
    return from_our_page(request.headers.get("origin"), request.headers.get("sec-fetch-site"), origin_of(request))


def cookie(request: Request, kind: Kind) -> bytes | None:
    """The id in this cookie, where it has the right form."""
    return as_bytes(cookie_in(request.headers.getlist("cookie"), cookie_name(kind, origin_of(request))))


def available(deps: Deps, endpoint: Endpoint) -> Endpoint:
    """The endpoint, with a page that says so while a server of ours is away."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except Problem as problem:
            return trouble(deps, request, problem)
        except Exception as error:
            if not is_retryable(error):
                raise
            report_away(error)
            return trouble(deps, request, Problem(HTTPStatus.SERVICE_UNAVAILABLE))

    return answer


async def nothing(_request: Request) -> Response:
    """The answer of an address at which nothing is."""
    raise not_found()


def trouble(deps: Deps, request: Request, problem: Problem) -> Response:
    """The page that says what is wrong, in its language. A script gets the problem as JSON, with the detail."""
    if "text/html" not in request.headers.get("accept", "text/html"):
        return problem.response()
    said = {"code": int(problem.status), "text": request.scope.get(UNSENT, "")}
    said["is_tried_again"] = problem.status == HTTPStatus.SERVICE_UNAVAILABLE and request.method == "GET"
    answer = page(deps, request, "trouble.html", problem.status, **said)
    answer.headers.update(problem.headers or {})
    return answer


def signed_in(
    deps: Deps,
    handler: Handler,
    *,
    needs: Capability | None = "messages.view",
    most_bytes: int = FEW_BYTES,
    most_fields: int = FEW_FIELDS,
) -> Endpoint:
    """The endpoint of a page for people who may do this; None: for everybody.

    ``most_bytes`` and ``most_fields``: of the form of a POST.
    """

    async def answer(request: Request) -> Response:
        form: Mapping[str, str] | None = None
        if request.method == "POST" and is_on_our_page(request):
            form = await form_of(request, most_bytes, most_fields)
            request.scope[UNSENT] = "" if form is None else form.get("text") or form.get("body", "")
        session = cookie(request, "inbox")
        is_used, address = not _is_by_itself(request), _address(deps, request)
        person = None if session is None else await deps.sessions.of(session, address, is_used=is_used)
        if session is None or person is None:
            return _to_sign_in(deps, request)
        deps.access.let_through(person)
        if needs is not None and not person.may(needs):
            raise Problem(HTTPStatus.FORBIDDEN, f"{needs} is needed")
        good = _good_form(deps, request, session, form) if request.method == "POST" else {}
        return await handler(Visit(request, deps, person, session, good))

    return available(deps, answer)


def _address(deps: Deps, request: Request) -> str:
    peer = request.client.host if request.client else ""
    return client_address(peer, request.headers.getlist("x-forwarded-for"), deps.trusted_proxies)


def _is_by_itself(request: Request) -> bool:
    """Whether an open page asks without its person: for its stream, and for what the stream has told."""
    part, accept = request.headers.get("x-part"), request.headers.get("accept", "")
    is_refresh = part == "composer" and request.url.path.endswith("/compose")
    return part in _PARTS_BY_ITSELF or is_refresh or accept == "text/event-stream"


def _good_form(deps: Deps, request: Request, session: bytes, form: Mapping[str, str] | None) -> Mapping[str, str]:
    if not is_on_our_page(request):
        raise Problem(HTTPStatus.FORBIDDEN, "the form did not come from a page of this inbox")
    if form is None:
        raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    if not deps.keys.forms.is_good(form.get("token"), "inbox", session, origin_of(request).host):
        raise Problem(HTTPStatus.FORBIDDEN, "the form did not come from a page of this session")
    return form


def _to_sign_in(deps: Deps, request: Request) -> Response:
    if request.method not in ("GET", "HEAD") or "text/html" not in request.headers.get("accept", "text/html"):
        return trouble(deps, request, Problem(HTTPStatus.UNAUTHORIZED, "sign in again"))
    query = f"?{request.url.query}" if request.url.query else ""
    return RedirectResponse(f"/login?next={quote(request.url.path + query, safe='')}", HTTPStatus.SEE_OTHER)
