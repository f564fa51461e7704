"""``GET /v1/conversations``: lists, one conversation, its window, its messages, and what has been read."""

import hashlib
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Request
from pydantic import BeforeValidator, Field
from starlette.responses import Response

from libs.common.events.outbound import Channel
from libs.common.pages.languages import Language
from services.inbox.api.conversation_models import (
    CONVERSATION,
    CUSTOMER,
    MESSAGE,
    ConversationItem,
    ConversationList,
    CustomerOfConversation,
    MessageList,
    WindowNow,
)
from services.inbox.api.security import DepsOf, Viewer
from services.inbox.conversation_queries import View
from services.inbox.conversations import CONTACT, MOST_ITEMS, Wanted
from services.inbox.html import LANGUAGES
from services.inbox.people import Person
from services.inbox.shapes import conversation_json, customer_json, encoded, message_json, page_json, window_json

router = APIRouter(tags=["conversations"])

_VARY = {"Vary": "Authorization, Accept-Language"}
Limit = Annotated[int, Query(ge=1, le=MOST_ITEMS)]
EmptyIsNone = BeforeValidator(lambda given: given or None)
"""A filter that is there and empty, as in ``?channel=&q=golf``, is none."""
Cursor = Annotated[
    Annotated[str, Field(max_length=500)] | None,
    EmptyIsNone,
    Query(description="`next` of the page before. It holds for the same filters alone."),
]


async def _language(request: Request) -> Language:
    return LANGUAGES.of(request.headers.get("accept-language"))


Reader = Annotated[Language, Depends(_language)]


def _example(value: Any) -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {"application/json": {"example": value}}}}


@router.get(
    "/conversations",
    summary="Conversations",
    response_model=ConversationList,
    responses=_example({"items": [CONVERSATION], "next": None}),
)
async def list_conversations(
    person: Viewer,
    deps: DepsOf,
    language: Reader,
    *,
    view: Annotated[
        View,
        BeforeValidator(lambda given: given or "all"),
        Query(description="`all` newest first; `closing`: unanswered, the window closes soon, most urgent first."),
    ] = "all",
    channel: Annotated[Channel | None, EmptyIsNone, Query(description="Where the customer wrote last.")] = None,
    number: Annotated[
        Annotated[str, Field(max_length=64)] | None, EmptyIsNone, Query(description="A phone_number_id.")
    ] = None,
    q: Annotated[
        str | None,
        EmptyIsNone,
        Query(description="Words of names and texts, or digits of a number (needs `customers.contact.view`)."),
    ] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """A page of conversations. Those that were unread for too long stand on top, but in `closing`."""
    wanted = Wanted(view=view, channel=channel, number=number, q=q, limit=limit, cursor=cursor)
    page = await deps.conversations.page(person, wanted)
    return _json(page_json([conversation_json(one, language) for one in page.items], page.next))


@router.get(
    "/conversations/{conversation_id}",
    summary="One conversation",
    response_model=ConversationItem,
    responses=_example(CONVERSATION) | {304: {"description": "It is as the client has it (`If-None-Match`)."}},
)
async def read_conversation(
    conversation_id: UUID,
    person: Viewer,
    deps: DepsOf,
    language: Reader,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """One item of a list, with an ETag of what this person sees of it."""
    one = await deps.conversations.one(person, conversation_id)
    body = encoded(conversation_json(one, language))
    tag = etag_of(body, person)
    headers = {"ETag": tag, **_VARY}
    if _matches(if_none_match, tag):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(body, media_type="application/json", headers=headers)


@router.get(
    "/conversations/{conversation_id}/window",
    summary="The window of a conversation",
    response_model=WindowNow,
    responses=_example(CONVERSATION["window"] | {"now": "2026-11-26T12:00:00Z"}),
)
async def read_window(conversation_id: UUID, person: Viewer, deps: DepsOf) -> Response:
    """Whether free text goes by WhatsApp now, by the rule that the router asks."""
    one = await deps.conversations.one(person, conversation_id)
    return _json(window_json(one.window) | {"now": deps.pool.now()})


@router.get(
    "/conversations/{conversation_id}/customer",
    summary="The customer beside the thread",
    response_model=CustomerOfConversation,
    responses=_example(CUSTOMER),
)
async def read_customer(conversation_id: UUID, person: Viewer, deps: DepsOf, language: Reader) -> Response:
    """Contact, consents with their trail, portal activity, bridges of late, and why an SMS would not go."""
    return _json(customer_json(await deps.customers.panel(person, conversation_id, language)))


@router.get(
    "/conversations/{conversation_id}/messages",
    summary="The messages of a conversation",
    response_model=MessageList,
    responses=_example({"items": [MESSAGE], "next": None}),
)
async def list_messages(
    conversation_id: UUID, person: Viewer, deps: DepsOf, language: Reader, *, limit: Limit = 50, cursor: Cursor = None
) -> Response:
    """Over all channels, newest first."""
    page = await deps.messages.page(person, conversation_id, language, limit=limit, cursor=cursor)
    return _json(page_json([message_json(one) for one in page.items], page.next))


@router.post(
    "/conversations/{conversation_id}/read",
    summary="Everything up to now is read",
    status_code=HTTPStatus.NO_CONTENT,
    response_class=Response,
)
async def mark_read(conversation_id: UUID, person: Viewer, deps: DepsOf) -> Response:
    """The conversation is not unread for this person any more."""
    await deps.conversations.mark_read(person, conversation_id)
    return Response(status_code=HTTPStatus.NO_CONTENT)


def etag_of(body: bytes, person: Person) -> str:
    """The tag of an answer. Persons with other capabilities have another one, also of the same body."""
    seen = b"contact" if person.may(CONTACT) else b"masked"
    digest = hashlib.sha256(b"\n".join((person.org_id.encode(), person.user_id.encode(), seen, body))).hexdigest()
    return f'"{digest[:32]}"'


def _matches(if_none_match: str | None, tag: str) -> bool:
    if if_none_match is None:
        return False
    named = [one.strip().removeprefix("W/") for one in if_none_match.split(",")]
    return "*" in named or tag in named


def _json(value: Mapping[str, Any]) -> Response:
    return Response(encoded(value), media_type="application/json", headers=_VARY)
