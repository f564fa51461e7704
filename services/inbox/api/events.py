"""``GET /v1/events``: what is new in the organisation's conversations, as server-sent events."""

from typing import Annotated

from fastapi import APIRouter, Header
from starlette.responses import Response

from services.inbox.api.security import DepsOf, Viewer
from services.inbox.html import LANGUAGES

router = APIRouter(tags=["live"])

EXAMPLE = """\
retry: 2000
id: 5b1c3f0e9a7d4c2f8e6a1b3c5d7e9f01-41

id: 5b1c3f0e9a7d4c2f8e6a1b3c5d7e9f01-41
event: update
data: {"message_id": "0193a5b0-7c1e-7000-8000-000000000003", "status": "delivered", "reason": null}

"""


@router.get(
    "/events",
    summary="What is new, as it happens",
    response_class=Response,
    responses={
        200: {
            "description": "Events `conversation`, `message` and `update`, each with an `id` before its `data`.",
            "content": {"text/event-stream": {"schema": {"type": "string"}, "example": EXAMPLE}},
        }
    },
)
async def stream_events(
    person: Viewer,
    deps: DepsOf,
    last_event_id: Annotated[str | None, Header(description="The id of the last event that was seen.")] = None,
    accept_language: Annotated[str | None, Header(description="The language of `reason_text`.")] = None,
) -> Response:
    """Open a stream. It ends with the token.

    The first lines have an id and no event: whoever lists conversations after them misses nothing. A stream that
    begins with `Last-Event-ID` tells everything behind that event. Where the id is unknown or older than an hour, the
    event `reset` comes first: list everything anew. A message may be told twice, as it is now. Also told is what time
    changes: a window that becomes "closing soon" or closes. A person has at most five streams.
    """
    stream = await deps.live.open(person, LANGUAGES.of(accept_language), last_event_id, None)
    return deps.live.respond(stream)
