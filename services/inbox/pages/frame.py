"""The frame of every page of somebody who is signed in: see ``services.inbox.shell``."""

from http import HTTPStatus
from typing import Any

from starlette.responses import Response

from services.inbox.org_queries import org_of
from services.inbox.shell import Section, Shell, View
from services.inbox.visits import Visit


async def framed(
    visit: Visit,
    template: str,
    section: Section,
    *,
    view: View | None = None,
    status: int = HTTPStatus.OK,
    **values: Any,
) -> Response:
    """The page of this template inside the frame. The template has ``shell`` beside the values."""
    async with visit.deps.reads.of(visit.person.org_id) as db:
        org = await org_of(db, visit.person.org_id)
    bell = await visit.deps.notices.bell(visit.person.org_id, visit.person.user_id, limit=1)
    counts = await visit.deps.conversations.counts(visit.person)
    name = visit.person.name or visit.person.user_id
    shell = Shell(org.name, name, section, visit.token, view, counts, bell.new)
    return visit.page(template, status, shell=shell, **values)
