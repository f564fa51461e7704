"""``/inbox/events``: the stream of an open page.

Rule 1: a browser names the last event it has seen when it connects again. Before that the page names it, in ``last``:
        the mark that was read before what the page shows.
Rule 2: the stream of a page ends with its session. It does not keep the session alive.
Rule 3: HEAD is 405: a stream has no end, and nobody reads one behind it.
"""

from http import HTTPStatus

from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from services.inbox.deps import Deps
from services.inbox.problems import Problem
from services.inbox.visits import Visit, is_on_our_page, language_of, signed_in


def routes(deps: Deps) -> list[BaseRoute]:
    """The routes of this module."""
    return [Route("/inbox/events", signed_in(deps, _stream))]


async def _stream(visit: Visit) -> Response:
    request, live = visit.request, visit.deps.live
    if request.method == "HEAD":
        raise Problem(HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": "GET"})
    if not is_on_our_page(request):
        raise Problem(HTTPStatus.FORBIDDEN, "the stream was not asked for by a page of this inbox")
    last = request.headers.get("last-event-id") or request.query_params.get("last")
    return live.respond(await live.open(visit.person, language_of(request), last, visit.session))
