"""``/inbox/{conversation}/media/{message}``: the file of a customer's message, as a download."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from libs.common.logging import get_logger
from services.inbox.deps import Deps
from services.inbox.media import headers_of
from services.inbox.media_queries import file_of
from services.inbox.problems import Problem, not_found
from services.inbox.visits import Visit, language_of, signed_in

log = get_logger()


def routes(deps: Deps) -> list[BaseRoute]:
    """The routes of this module."""
    return [Route("/inbox/{conversation_id:uuid}/media/{message_id:uuid}", signed_in(deps, _file))]


async def _file(visit: Visit) -> Response:
    place, message_id = (visit.request.path_params[name] for name in ("conversation_id", "message_id"))
    person = visit.person
    shown = await visit.deps.messages.these(person, place, [message_id], language_of(visit.request))
    if not shown:
        raise not_found()
    async with visit.deps.reads.of(person.org_id) as db:
        stored = await file_of(db, person.org_id, message_id)
    if stored is None:
        raise not_found()
    stored = stored._replace(filename=shown[0].content.get("filename"))  # as the person may see it
    async with AsyncExitStack() as opened:
        file = await opened.enter_async_context(visit.deps.media.open(stored))
        kept = opened.pop_all()

    async def pieces() -> AsyncIterator[bytes]:
        async with kept:
            async for piece in file.pieces:
                yield piece

    return _Download(pieces(), headers=headers_of(stored, file), media_type=file.media_type)


class _Download(StreamingResponse):
    """A file on its way. Where it breaks off, the connection is closed: the browser says so, and fetches it anew."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except Problem as cut:  # of ``Media.open``: the head of the answer is sent already
            log.warning("dependency.away", dependency="meta", reason=type(cut.__cause__).__name__)
