"""``/inbox/bell``: what is told to a member, and their switch.

Rule 1: to look at the page is to have seen what stands on it. A page that the browser loads ahead is not looked at.
"""

from http import HTTPStatus

from starlette.background import BackgroundTask
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from libs.common.pages.languages import zone_of
from services.inbox.clocks import Clock
from services.inbox.deps import Deps
from services.inbox.notices import NEWEST, ON_A_PAGE
from services.inbox.pages.frame import framed
from services.inbox.reasons import Failure, explain
from services.inbox.visits import Visit, language_of, signed_in

_PATH = "/inbox/bell"
_MOST_DIGITS = 18


def routes(deps: Deps) -> list[BaseRoute]:
    """The routes of this module."""
    return [
        Route(_PATH, signed_in(deps, _show)),
        Route(_PATH, signed_in(deps, _switch), methods=["POST"]),
    ]


async def _show(visit: Visit) -> Response:
    deps, person, request = visit.deps, visit.person, visit.request
    if request.headers.get("x-part") == "bell":
        bell = await deps.notices.bell(person.org_id, person.user_id, limit=1)
        return visit.page("bell_part.html", count=bell.new)
    before = request.query_params.get("before", "")
    place = int(before) if before.isascii() and before.isdigit() and len(before) <= _MOST_DIGITS else NEWEST
    bell = await deps.notices.bell(person.org_id, person.user_id, before=place)
    words = language_of(request)
    said = {
        one.notice_id: explain(Failure(one.reason, one.provider_code, name=one.customer_name)).text(words.words)
        for one in bell.notices
        if one.type == "delivery.failed.v1"
    }
    numbers = await deps.conversations.numbers(person)
    clock = Clock(deps.pool.now(), zone_of(numbers[0].display_number if numbers else None), words)
    is_full = len(bell.notices) == ON_A_PAGE
    answer = await framed(
        visit, "bell.html", "bell", bell=bell, said=said, clock=clock, rule=deps.rule, is_full=is_full
    )
    if bell.notices and not _is_ahead(visit):
        seen = bell.notices[0].notice_id
        answer.background = BackgroundTask(deps.notices.seen, person.org_id, person.user_id, seen)
    return answer


async def _switch(visit: Visit) -> Response:
    """Whether the member is told of failed messages."""
    wanted = visit.form.get("failures") == "on"
    await visit.deps.notices.switch(visit.person.org_id, visit.person.user_id, failures=wanted)
    return RedirectResponse(_PATH, HTTPStatus.SEE_OTHER)


def _is_ahead(visit: Visit) -> bool:
    """Whether the browser loads the page before anybody asks for it."""
    headers = visit.request.headers
    return "prefetch" in headers.get("sec-purpose", "") or headers.get("purpose") == "prefetch"
