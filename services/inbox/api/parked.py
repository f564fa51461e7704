"""``/v1/conversations/{id}/parked``: texts that wait for the window to open."""

from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

from fastapi import APIRouter, Header
from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict
from starlette.responses import Response

from libs.common.events.content import Contacts, OutInteractive, OutLocation, OutMedia, OutText
from libs.common.ids import kept_message_id
from services.inbox.api.security import DepsOf, Sender, Viewer
from services.inbox.parked import NotPublished, Refusal
from services.inbox.parking import MOST_KEPT, ParkedText
from services.inbox.problems import FieldFault, Problem, away, invalid, not_found, refuse_beyond_limits

router = APIRouter(tags=["conversations"])

MOST_KEY = 200
Waitable = Annotated[
    OutText | OutMedia | OutLocation | Contacts | OutInteractive,
    Field(discriminator="kind", description="What WhatsApp takes while its window is open."),
]
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=MOST_KEY,
        description="The same key of the same person keeps the text once.",
    ),
]

_CONFLICTS: dict[Refusal, str] = {
    "dropped": "the text was dropped",
    "expired": "the time of the text is over",
    "arrived": "the customer has the text already",
    "too_many": f"{MOST_KEPT} texts wait in the conversation already",
    "erased": "the customer was erased, and nothing can be sent to them",
}
_TEXT: JsonDict = {"kind": "text", "text": "The part came in. See you on Monday?"}
_ID = "0193a5b0-7c1e-7000-8000-000000000005"
_PARKED: JsonDict = {
    "message_id": _ID,
    "kind": "failed",
    "author": {"kind": "ai", "user_id": None},
    "content": _TEXT,
    "reason": "window_expired_bridge_sent",
    "written_at": "2026-11-25T18:00:00Z",
    "parked_at": "2026-11-25T18:00:02Z",
    "expires_at": "2026-12-02T18:00:02Z",
}


class ParkedAuthor(BaseModel):
    """Who wrote the text."""

    kind: Literal["ai", "staff"]
    user_id: str | None


class Parked(BaseModel):
    """A text that waits. ``kept``: staff kept it, and nothing was attempted. ``failed``: it found the window closed.

    ``message_id`` is the failed message's own; of a kept text it names no message of the thread.
    """

    message_id: UUID
    kind: Literal["kept", "failed"]
    author: ParkedAuthor
    content: dict[str, Any]
    reason: str | None = Field(description="Of a failed text, as its message says.")
    written_at: datetime
    parked_at: datetime
    expires_at: datetime = Field(description="From then on it is neither offered nor sent.")

    @classmethod
    def of(cls, text: ParkedText) -> "Parked":
        return cls(
            message_id=text.message_id,
            kind=text.kind,
            author=ParkedAuthor(kind=text.actor, user_id=text.user_id),
            content=text.content,
            reason=text.reason,
            written_at=text.written_at,
            parked_at=text.parked_at,
            expires_at=text.expires_at,
        )


class ParkedList(BaseModel):
    """What waits, the oldest first: the order in which it goes."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"items": [_PARKED], "next": None}]})

    items: list[Parked]
    next: None = None


class ToKeep(BaseModel):
    """A text that is kept for the next time the window opens."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"content": _TEXT}]})

    content: Waitable


class Kept(BaseModel):
    """The id under which the text waits."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"message_id": _ID}]})

    message_id: UUID


class Choice(BaseModel):
    """What becomes of a text that waits. ``content`` replaces the text that is sent."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"action": "send"}, {"action": "send", "content": _TEXT}, {"action": "drop"}],
        },
    )

    action: Literal["send", "drop"]
    content: Waitable | None = None


class Sent(BaseModel):
    """The intent that carries the text: a new message, while the failed one keeps its end."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"intent_id": _ID}]})

    intent_id: UUID


@router.get("/conversations/{conversation_id}/parked", summary="What waits for the window")
async def list_parked(conversation_id: UUID, person: Viewer, deps: DepsOf) -> ParkedList:
    """Texts that could not go and texts that staff keep. There are at most a hundred, so this is all of them."""
    found = await deps.parked.shown_to(person, conversation_id)
    return ParkedList(items=[Parked.of(text) for text in found])


@router.post(
    "/conversations/{conversation_id}/parked",
    status_code=HTTPStatus.CREATED,
    summary="Keep a text for the window's next opening",
    responses={
        409: {"description": f"{MOST_KEPT} texts wait in the conversation already, or the customer was erased."}
    },
)
async def keep(conversation_id: UUID, body: ToKeep, person: Sender, deps: DepsOf, key: Key = None) -> Kept:
    """Nothing is attempted now. The text is offered when the window opens, or sent then, as the policy says."""
    refuse_beyond_limits(body.content)
    message_id = uuid4() if key is None else kept_message_id(person.org_id, person.user_id, conversation_id, key)
    content = body.content.model_dump(mode="json", exclude_none=True)
    refusal = await deps.parked.keep(person.org_id, person.user_id, conversation_id, message_id, content)
    if refusal is not None:
        raise _problem(refusal)
    return Kept(message_id=message_id)


@router.post(
    "/conversations/{conversation_id}/parked/{message_id}",
    status_code=HTTPStatus.ACCEPTED,
    summary="Send a text that waits, or drop it",
    response_model=Sent,
    responses={
        204: {"description": "It is dropped."},
        409: {"description": "It does not wait any more: it was sent, dropped, read or is over."},
    },
)
async def settle(
    conversation_id: UUID, message_id: UUID, body: Choice, person: Sender, deps: DepsOf
) -> Response | Sent:
    """A release is a new intent. Who repeats it gets the same intent, and what was sent cannot be dropped."""
    if body.action == "drop":
        if body.content is not None:
            raise invalid(FieldFault("content", "only a text that is sent has one"))
        sent = await deps.parked.drop(person.org_id, conversation_id, [message_id])
        if isinstance(sent, UUID):
            raise Problem(HTTPStatus.CONFLICT, "the text was sent")
        if sent is not None:
            raise _problem(sent)
        return Response(status_code=HTTPStatus.NO_CONTENT)
    if body.content is not None:
        refuse_beyond_limits(body.content)
    content = None if body.content is None else body.content.model_dump(mode="json", exclude_none=True)
    try:
        released = await deps.parked.send(person, conversation_id, [message_id], content)
    except NotPublished:
        raise away("Kafka") from None
    if not isinstance(released, list):
        raise _problem(released)
    return Sent(intent_id=released[0])


def _problem(refusal: Refusal) -> Problem:
    if refusal == "unknown":
        return not_found()
    if refusal == "differs":
        return invalid(FieldFault("Idempotency-Key", "another text was kept under this key"))
    return Problem(HTTPStatus.CONFLICT, _CONFLICTS[refusal])
