r"""``/login`` and ``/logout``.

Rule 1: a page leads on to a path of the inbox alone: ``//evil.example`` and ``/\evil.example`` are other sites.
Rule 2: a token is taken in a form on this machine alone, and only where no identity provider is configured.
"""

import re
from http import HTTPStatus
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from libs.common.logging import get_logger
from libs.common.pages.cookies import as_text, set_cookie
from libs.common.pages.forms import FEW_BYTES, form_of, fresh_id
from services.inbox.deps import Deps
from services.inbox.people import Person
from services.inbox.problems import Problem, report_refused
from services.inbox.tokens import MAX_TOKEN, TokenRefused
from services.inbox.visits import Visit, available, cookie, is_on_our_page, origin_of, page, signed_in

log = get_logger()

HOME = "/inbox"
_PATH = re.compile(r"/(?![/\\])[^\\\x00-\x20\x7f]{0,500}")
_FORM_BYTES = FEW_BYTES + MAX_TOKEN

Trouble = Literal["token", "provider", "over", "organisation", "nothing_allowed"]
"""Why nobody was signed in."""


def safe_path(asked: str | None) -> str:
    """Where a sign-in leads: the path that was asked for, or the inbox."""
    return asked if asked is not None and _PATH.fullmatch(asked) else HOME


def routes(deps: Deps) -> list[BaseRoute]:
    """The routes of this module."""

    async def by_token(request: Request) -> Response:
        return await _by_token(deps, request)

    async def show(request: Request) -> Response:
        leads_to, more = safe_path(request.query_params.get("next")), dict[str, Any]()
        if "out" in request.query_params and deps.access.provider is not None:
            more["ends_at"] = await deps.access.provider.signed_out_at()
        return sign_in_page(deps, request, leads_to, **more)

    return [
        Route("/login", available(deps, show)),
        Route("/login", available(deps, by_token), methods=["POST"]),
        Route("/logout", signed_in(deps, _end, needs=None), methods=["POST"]),
    ]


async def begin(deps: Deps, request: Request, person: Person, leads_to: str) -> Response:
    """Begin a session, and lead on."""
    origin = origin_of(request)
    fresh = await deps.sessions.begin(person, cookie(request, "inbox"))
    answer = RedirectResponse(leads_to, HTTPStatus.SEE_OTHER)
    answer.headers.append("set-cookie", set_cookie("inbox", as_text(fresh), origin))
    answer.headers.append("set-cookie", set_cookie("sign-in", "", origin, max_age=0))
    answer.headers.append("set-cookie", set_cookie("attempt", "", origin, max_age=0))
    log.info("person.signed_in", org_id=person.org_id)
    return answer


def sign_in_page(  # noqa: PLR0917 -- what a page is made of
    deps: Deps,
    request: Request,
    leads_to: str,
    status: int = HTTPStatus.OK,
    trouble: Trouble | None = None,
    detail: str | None = None,
    **more: Any,
) -> Response:
    """The page that asks to sign in. ``trouble``: why that has just failed; ``detail``: what a developer may learn.

    ``more``: the ``choices`` of somebody of several organisations, each with id and name; where a session at the
    provider ``ends_at``.
    """
    answer = page(
        deps,
        request,
        "sign_in.html",
        status,
        token=form_token(deps, request, visit := cookie(request, "sign-in") or fresh_id()),
        leads_to=leads_to,
        way="provider" if deps.access.provider is not None else "token" if deps.is_local else None,
        is_out="out" in request.query_params,
        trouble=trouble,
        detail=detail,
        **({"choices": [], "ends_at": None} | more),
    )
    answer.headers.append("set-cookie", set_cookie("sign-in", as_text(visit), origin_of(request)))
    return answer


def form_token(deps: Deps, request: Request, visit: bytes) -> str:
    """The token of a form of the sign-in."""
    return deps.keys.forms.token("sign-in", visit, origin_of(request).host)


async def good_form(deps: Deps, request: Request) -> dict[str, str]:
    """The fields of a form of the sign-in. Raises Problem where it is not one of this browser."""
    visit = cookie(request, "sign-in")
    if visit is None or not is_on_our_page(request):
        raise Problem(HTTPStatus.FORBIDDEN, "the form did not come from a page of this inbox")
    form = await form_of(request, _FORM_BYTES)
    if form is None or not deps.keys.forms.is_good(form.get("token"), "sign-in", visit, origin_of(request).host):
        raise Problem(HTTPStatus.FORBIDDEN, "the form did not come from a page of this browser")
    return dict(form)


async def _by_token(deps: Deps, request: Request) -> Response:
    """``POST /login``: a development token, on this machine."""
    if not deps.is_local or deps.access.provider is not None:
        raise Problem(HTTPStatus.NOT_FOUND)
    form = await good_form(deps, request)
    leads_to = safe_path(form.get("next"))
    try:
        person = await deps.access.admission.person(form.get("development_token", "").strip())
    except TokenRefused as refused:
        report_refused(refused.why)
        return sign_in_page(deps, request, leads_to, HTTPStatus.UNAUTHORIZED, "token", refused.said)
    return await begin(deps, request, person, leads_to)


async def _end(visit: Visit) -> Response:
    """``POST /logout``: the session is over, and what the page kept in the browser is forgotten."""
    await visit.deps.sessions.end(visit.session)
    answer = RedirectResponse("/login?out=1", HTTPStatus.SEE_OTHER, {"Clear-Site-Data": '"storage"'})
    answer.headers.append("set-cookie", set_cookie("inbox", "", origin_of(visit.request), max_age=0))
    return answer
