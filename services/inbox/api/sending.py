"""What a person sends: messages, intents, the wish for a bridge, and who answers in a conversation."""

from http import HTTPStatus
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Header
from pydantic import AwareDatetime, BaseModel, ConfigDict
from starlette.responses import Response

from libs.common.events.content import IntentContent, OutBridge, TemplateFields
from libs.common.events.fields import ConsentPurpose
from libs.common.events.intents import FirstContact
from services.inbox.api.security import DepsOf, Sender
from services.inbox.problems import FieldFault, invalid
from services.inbox.sending import Wish

router = APIRouter(tags=["sending"])

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        pattern=r"^[\x21-\x7e]+$",
        description="The same key of the same person is the same message, for eight days. With another body it is 422.",
        examples=["b0b7d6e2-reply-1"],
    ),
]
_IDS = {"intent_id": "01932f70-11aa-7d2e-8f00-3b7c5d9e1a01", "conversation_id": "01932f6e-3a54-7c11-9d5b-6a1f0c7e2b11"}
_ACCEPTED: dict[int | str, dict[str, Any]] = {202: {"content": {"application/json": {"example": _IDS}}}}


class _Body(BaseModel):
    """Unknown fields are refused: an ``actor`` that is ignored would be a promise."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    content: IntentContent
    channel: Literal["auto", "whatsapp", "sms", "portal"] = "auto"
    fallback_template: TemplateFields | None = None
    reply_to: UUID | None = None
    purpose: ConsentPurpose | None = None
    expires_at: AwareDatetime | None = None


class MessageBody(_Body):
    """A message to the customer of a conversation.

    ``reply_to`` is the ``message_id`` of a message in it, which this one quotes. A reaction names its message in the
    same way.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"content": {"kind": "text", "text": "Your Golf is ready."}},
                {
                    "content": {
                        "kind": "template",
                        "name": "car_ready",
                        "language": "en_GB",
                        "parameters": {"customer_name": "Kim"},
                    },
                    "purpose": "transactional",
                },
            ]
        }
    )


class IntentBody(_Body):
    """An intent without its author and organisation, which are those of the token.

    Exactly one of ``conversation_id`` and ``to`` is needed.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "to": {"phone_number_id": "106400000000001", "phone": "+447700900999"},
                    "content": {
                        "kind": "template",
                        "name": "car_ready",
                        "language": "en_GB",
                        "parameters": {"customer_name": "Kim"},
                    },
                }
            ]
        }
    )

    type: Literal["outbound.intent.v1"] = "outbound.intent.v1"
    intent_id: UUID | None = None
    conversation_id: UUID | None = None
    to: FirstContact | None = None
    created_at: AwareDatetime | None = None


class Accepted(BaseModel):
    """The intent is on its way to the router. ``conversation_id`` is null of a first contact."""

    intent_id: UUID
    conversation_id: UUID | None


@router.post(
    "/conversations/{conversation_id}/messages",
    status_code=HTTPStatus.ACCEPTED,
    summary="Send a message",
    responses=_ACCEPTED,
)
async def send_message(
    conversation_id: UUID, body: MessageBody, person: Sender, deps: DepsOf, key: IdempotencyKey = None
) -> Accepted:
    """Free-form messages hold the AI in the conversation. The router decides how the message may travel."""
    wish = Wish(
        content=body.content,
        conversation_id=conversation_id,
        channel=body.channel,
        fallback_template=body.fallback_template,
        reply_to=body.reply_to,
        purpose=body.purpose,
        expires_at=body.expires_at,
    )
    return Accepted(**(await deps.sending.send(person, wish, key))._asdict())


@router.post("/intents", status_code=HTTPStatus.ACCEPTED, summary="Send an intent", responses=_ACCEPTED)
async def send_intent(body: IntentBody, person: Sender, deps: DepsOf, key: IdempotencyKey = None) -> Accepted:
    """As ``outbound.intents.v1`` takes it, in the name of the token's person. ``intent_id`` is the idempotency key."""
    if (body.conversation_id is None) == (body.to is None):
        raise invalid(FieldFault("conversation_id", "exactly one of conversation_id and to is needed"))
    if body.intent_id is not None and key is not None:
        raise invalid(FieldFault("Idempotency-Key", "intent_id is the key of this message"))
    wish = Wish(
        content=body.content,
        conversation_id=body.conversation_id,
        to=body.to,
        channel=body.channel,
        fallback_template=body.fallback_template,
        reply_to=body.reply_to,
        purpose=body.purpose,
        created_at=body.created_at,
        expires_at=body.expires_at,
    )
    return Accepted(**(await deps.sending.send(person, wish, body.intent_id or key))._asdict())


@router.post(
    "/conversations/{conversation_id}/bridge",
    status_code=HTTPStatus.ACCEPTED,
    summary="Ask the customer by SMS to come back",
    responses=_ACCEPTED,
)
async def ask_by_sms(conversation_id: UUID, person: Sender, deps: DepsOf, key: IdempotencyKey = None) -> Accepted:
    """An intent of kind ``bridge``. It is rejected as ``window_open`` where WhatsApp reaches the customer."""
    wish = Wish(content=OutBridge(), conversation_id=conversation_id)
    return Accepted(**(await deps.sending.send(person, wish, key))._asdict())


@router.post(
    "/conversations/{conversation_id}/hold", status_code=HTTPStatus.NO_CONTENT, summary="Hold the AI in a conversation"
)
async def hold(conversation_id: UUID, person: Sender, deps: DepsOf) -> Response:
    """AI agents are silent in it for ``policy.hold_minutes``, from now on, or until it is released."""
    await deps.sending.hold(person, conversation_id)
    return Response(status_code=HTTPStatus.NO_CONTENT)


@router.post(
    "/conversations/{conversation_id}/release",
    status_code=HTTPStatus.NO_CONTENT,
    summary="Let the AI answer again in a conversation",
)
async def release(conversation_id: UUID, person: Sender, deps: DepsOf) -> Response:
    """It may answer at once."""
    await deps.sending.release(person, conversation_id)
    return Response(status_code=HTTPStatus.NO_CONTENT)
