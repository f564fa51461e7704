"""Who asks the API: the bearer token of a request, what its person may do, and whether the route knows the question.

Rule 1: the token stands in the header ``Authorization`` and nowhere else: no query, no cookie.
Rule 2: 401 says why only to the holder of a well signed token (``tokens``); the log says it always.
Rule 3: a parameter that the route does not know, or that stands twice, is 422, as an unknown field of a body is. A
        misspelt filter would answer with what it should leave out.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from http import HTTPStatus
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from libs.common.printable import printable
from services.inbox.deps import Deps
from services.inbox.people import Capability, Person
from services.inbox.problems import FieldFault, Problem, invalid, report_refused
from services.inbox.tokens import TokenRefused

_BEARER = HTTPBearer(
    auto_error=False,
    bearerFormat="JWT",
    scheme_name="token",
    description="A JWT with the claims `org_id`, `sub`, `capabilities` and `exp`; `transom token` makes one.",
)
_MOST_SHOWN = 40
NEEDS = "capability"
"""The attribute of a dependency that names the capability it asks for."""


async def _deps(request: Request) -> Deps:  # not plain: FastAPI would run it in a thread, for every request
    deps: Deps = request.app.state.deps
    return deps


DepsOf = Annotated[Deps, Depends(_deps)]


async def _person(deps: DepsOf, given: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)]) -> Person:
    try:
        person = await deps.access.admission.person(None if given is None else given.credentials)
    except TokenRefused as refused:
        raise unauthorized(refused) from None
    deps.access.let_through(person)
    return person


async def person_of(request: Request) -> Person:
    """Who sends the request. Raises Problem, and what the admission raises while a server is away."""
    return await _person(await _deps(request), await _BEARER(request))


def unauthorized(refused: TokenRefused) -> Problem:
    """The answer to a token that does not count, which is logged."""
    report_refused(refused.why)
    challenge = "Bearer" if refused.why == "missing" else 'Bearer error="invalid_token"'
    if refused.said is not None and refused.why != "missing":
        challenge += f', error_description="{refused.said}"'
    return Problem(
        HTTPStatus.UNAUTHORIZED,
        refused.said or "the token does not count",
        headers={"WWW-Authenticate": challenge},
    )


def _needing(capability: Capability) -> Callable[..., Awaitable[Person]]:
    async def able(request: Request, person: Annotated[Person, Depends(_person)]) -> Person:
        if not person.may(capability):
            raise Problem(HTTPStatus.FORBIDDEN, f"the capability {capability} is needed")
        _refuse_parameters(request)
        return person

    setattr(able, NEEDS, capability)
    return able


def _refuse_parameters(request: Request) -> None:
    given = Counter(name for name, _ in request.query_params.multi_items())
    route: APIRoute = request.scope["route"]
    known = frozenset(_parameters_of(route.dependant)) if given else frozenset()
    faults = [
        FieldFault(_shown(name), f"it stands {times} times" if name in known else "no such parameter is known here")
        for name, times in given.items()
        if name not in known or times > 1
    ]
    if faults:
        raise invalid(*faults)


def _shown(name: str) -> str:
    return printable(name[:_MOST_SHOWN])


def _parameters_of(dependant: Dependant) -> Iterator[str]:
    """The parameters of the query that a route knows."""
    yield from (one.alias for one in dependant.query_params)
    for inner in dependant.dependencies:
        yield from _parameters_of(inner)


Viewer = Annotated[Person, Depends(_needing("messages.view"))]
Sender = Annotated[Person, Depends(_needing("messages.send"))]
TemplateManager = Annotated[Person, Depends(_needing("messages.tier.manage"))]
