"""``/inbox/{conversation}/media/{message}``: the file of a customer's message, as a download."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from services.inbox.deps import Deps
from services.inbox.media import headers_of
from services.inbox.media_queries import file_of
from services.inbox.problems import not_found
from services.inbox.visits import Visit, language_of, signed_in


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

    return StreamingResponse(pieces(), headers=headers_of(stored, file), media_type=file.media_type)
