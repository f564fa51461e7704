"""``/login/start``, ``/login/callback`` and ``/login/organisation``: people sign in at an identity provider.

Rule 1: a sign-in may be begun by a link (OpenID Connect, section 4, with ``login_hint``). It ends where it was begun,
        and signs in whom the provider names.
Rule 2: somebody whose tenants are of several organisations chooses one. The session holds that one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from libs.common.pages.cookies import cookie_in, cookie_name, set_cookie
from services.inbox.admission import has_full_access
from services.inbox.deps import Deps
from services.inbox.oidc import CALLBACK, Attempt, Provider, SignInRefused
from services.inbox.org_queries import names_of
from services.inbox.pages.sign_in import Trouble, begin, good_form, safe_path, sign_in_page
from services.inbox.people import CAPABILITIES, EVERYTHING, Person
from services.inbox.problems import Problem, report_refused
from services.inbox.sealed import LIFE
from services.inbox.sessions import LONGEST
from services.inbox.tokens import TokenRefused, capabilities_of, name_of, user_of
from services.inbox.visits import available, origin_of

_MOST_HINT = 500


def routes(deps: Deps) -> list[BaseRoute]:
    """The routes of this module: none where no provider is configured."""
    if deps.access.provider is None:
        return []
    door = _Door(deps, deps.access.provider)
    return [
        Route("/login/start", available(deps, door.start)),
        Route(CALLBACK, available(deps, door.back)),
        Route("/login/organisation", available(deps, door.choose), methods=["POST"]),
    ]


class _Door:
    def __init__(self, deps: Deps, provider: Provider) -> None:
        self._deps = deps
        self._provider = provider

    async def start(self, request: Request) -> Response:
        """``GET /login/start``: to the provider."""
        asked = request.query_params
        named, hint = asked.get("iss"), asked.get("login_hint")
        if named is not None and named.rstrip("/") != self._provider.issuer:
            raise Problem(HTTPStatus.BAD_REQUEST, "people do not sign in there")
        attempt = Attempt.fresh(safe_path(asked.get("next")))
        address = await self._provider.address(attempt, None if hint is None else hint[:_MOST_HINT])
        answer = RedirectResponse(address, HTTPStatus.SEE_OTHER)
        self._keep(request, answer, self._deps.keys.seal.close("attempt", attempt._asdict(), self._now()))
        return answer

    async def back(self, request: Request) -> Response:
        """``GET /login/callback``: what the provider says."""
        kept = self._deps.keys.seal.open("attempt", self._kept(request), self._now())
        if kept is None:
            return self._refused(request, "over", "attempt")
        attempt = Attempt(**kept)
        try:
            claims = await self._provider.claims(attempt, request.query_params)
            person = self._person(claims)
        except (SignInRefused, TokenRefused) as refused:
            return self._refused(request, "provider", refused.why, attempt.leads_to)
        if not any(person.may(capability) for capability in CAPABILITIES):
            return self._refused(request, "nothing_allowed", "claims", attempt.leads_to)
        org_ids = await self._deps.access.organisations.of_people(claims)
        if len(org_ids) > 1:
            return await self._ask(request, person, org_ids, attempt.leads_to)
        if not org_ids:
            return self._refused(request, "organisation", "organisation", attempt.leads_to)
        return await self._begin(request, org_ids[0], person, attempt.leads_to)

    async def choose(self, request: Request) -> Response:
        """``POST /login/organisation``: one of several."""
        form = await good_form(self._deps, request)
        kept = self._deps.keys.seal.open("choice", self._kept(request), self._now())
        if kept is None:
            return self._refused(request, "over", "choice")
        org_id = form.get("org_id", "")
        if org_id not in kept["org_ids"]:
            raise Problem(HTTPStatus.FORBIDDEN, "this organisation is none of yours")
        ends_at = datetime.fromtimestamp(kept["ends_at"], UTC)
        person = Person("", kept["user_id"], frozenset(kept["capabilities"]), ends_at, kept["name"])
        return await self._begin(request, org_id, person, kept["leads_to"])

    def _person(self, claims: Mapping[str, Any]) -> Person:
        """Who it is, in no organisation yet. Raises TokenRefused."""
        allowed = capabilities_of(claims, full=has_full_access(claims, self._deps.access.full_access))
        return Person("", user_of(claims), allowed, self._now() + LONGEST, name_of(claims))

    async def _begin(self, request: Request, org_id: str, person: Person, leads_to: str) -> Response:
        one = replace(person, org_id=org_id)
        await self._deps.access.admission.note(one)
        return await begin(self._deps, request, one, leads_to)

    async def _ask(self, request: Request, person: Person, org_ids: Sequence[str], leads_to: str) -> Response:
        async with self._deps.pool.acquire() as db:
            choices = await names_of(db, org_ids)
        answer = sign_in_page(self._deps, request, leads_to, choices=choices)
        choice = {
            "user_id": person.user_id,
            "name": person.name,
            "capabilities": sorted(person.capabilities.intersection((EVERYTHING, *CAPABILITIES))),  # a cookie is small
            "ends_at": person.ends_at.timestamp(),
            "org_ids": list(org_ids),
            "leads_to": leads_to,
        }
        self._keep(request, answer, self._deps.keys.seal.close("choice", choice, self._now()))
        return answer

    def _refused(self, request: Request, trouble: Trouble, why: str, leads_to: str = "/inbox") -> Response:
        report_refused(why)
        answer = sign_in_page(self._deps, request, leads_to, HTTPStatus.UNAUTHORIZED, trouble)
        if why != "state":  # else the browser keeps the sign-in of another tab, which is still good
            answer.headers.append("set-cookie", set_cookie("attempt", "", origin_of(request), max_age=0))
        return answer

    def _keep(self, request: Request, answer: Response, sealed: str) -> None:
        life = int(LIFE.total_seconds())
        answer.headers.append("set-cookie", set_cookie("attempt", sealed, origin_of(request), max_age=life))

    def _kept(self, request: Request) -> str | None:
        return cookie_in(request.headers.getlist("cookie"), cookie_name("attempt", origin_of(request)))

    def _now(self) -> datetime:
        return self._deps.pool.now()
