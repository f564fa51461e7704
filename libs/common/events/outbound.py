"""The events of the outbound path: decisions, commands, refusals and delivery updates."""

from datetime import date, datetime
from typing import Annotated, Any, ClassVar, Literal, NamedTuple
from uuid import UUID

from pydantic import Field

from libs.common.events.base import Event, Part, encode_object
from libs.common.events.fields import Attempt, ConsentPurpose, Instant, MetaId, OrgId, Sequence
from libs.common.ids import AttemptKey

Route = Literal["session", "template", "bridge", "silent", "rejected"]
Channel = Literal["whatsapp", "sms", "portal"]


class WindowState(Part):
    """A customer service window at the time of the event."""

    opened_at: Instant | None
    closes_at: Instant | None
    open: bool


class OutboundDecision(Event):
    """``outbound.decisions.v1``: the route of an intent, and its reason.

    ``detail``: which fields of a rejected intent are wrong, and how (``content.link: format``), or why a fallback
    template could not be sent (``fallback_template.parameters.time: missing``); never their values.
    """

    TYPE: ClassVar[str] = "outbound.decision.v1"

    type: Literal["outbound.decision.v1"] = "outbound.decision.v1"
    intent_id: UUID
    attempt: Attempt
    org_id: OrgId
    conversation_id: UUID | None
    route: Route
    channel: Channel | None
    reason: str
    window: WindowState | None
    decided_at: Instant
    detail: str | None = None


class WhatsappCommand(Event):
    """``outbound.whatsapp.v1``: a command to send, unless the gate refuses.

    ``content`` is an OutContent. A fallback template has replaced the intent's content already.
    """

    TYPE: ClassVar[str] = "outbound.whatsapp.v1"

    type: Literal["outbound.whatsapp.v1"] = "outbound.whatsapp.v1"
    message_id: UUID
    attempt: Attempt
    org_id: OrgId
    conversation_id: UUID
    sequence: Sequence
    route: Literal["session", "template"]
    phone_number_id: MetaId
    to: str | None = None  # E.164 with the plus; wins over the BSUID at Meta
    recipient: str | None = None  # BSUID
    named: bool = False  # the intent itself named ``to``
    content: dict[str, Any]
    quotes: str | None = None  # Meta's id of the message that this one answers
    purpose: ConsentPurpose | None = None  # route template: its consent is asked for again before the call
    created_at: Instant
    expires_at: Instant | None = None
    not_before: Instant | None = None  # a retry that has to wait


BridgeReason = Literal["window_expired", "whatsapp_unreachable"]


class SmsCommand(Event):
    """``outbound.sms.v1``: a bridge SMS (its text is composed by the sender) or plain text on the SMS channel."""

    TYPE: ClassVar[str] = "outbound.sms.v1"

    type: Literal["outbound.sms.v1"] = "outbound.sms.v1"
    message_id: UUID  # the original message; a bridge derives its own id from it
    attempt: Attempt
    org_id: OrgId
    conversation_id: UUID
    sequence: Sequence
    route: Literal["bridge", "session"]
    from_number: Annotated[str, Field(max_length=100)]  # the org's own number, E.164; rows are found by it
    to: str  # E.164
    named: bool = False  # the intent itself named it
    text: str | None = None  # route session
    reason: BridgeReason | None = None  # route bridge; null: window_expired; the original's reason begins with it
    org_name: str | None = None  # route bridge
    whatsapp_number: str | None = None  # route bridge: the business number for wa.me, E.164
    portal_host: str | None = None  # route bridge: the org's own host, if it has one
    segments: Annotated[int, Field(ge=0, le=1_000)] = (
        1  # what it counts for in the organisation's day; of a bridge always one
    )
    day: date | None = None  # the day (UTC) on which it is counted; null: a release before the cap decided it
    created_at: Instant
    expires_at: Instant | None = None


RefusalReason = Literal[
    "window_closed",  # Meta's 131047, or a gate that found the window closed: WhatsApp session refused
    "window_open",  # the bridge's gate found the window open again
    "consent_off",  # WhatsApp or marketing consent was withdrawn meanwhile
    "template_not_approved",  # paused, disabled or gone since the decision
    "template_refused",  # Meta refused it as this template: for its parameters, or for this customer
    "unreachable",  # WhatsApp does not reach this customer: the address is marked
    "account",  # the account was not in order (payment, lock, token): decided again, and no attempt is used up
    "throttled",  # rate limited, in a status: the same again later, and no attempt is used up
    "transient",  # certainly not delivered, through a fault of the provider: once more
    "address_changed",  # the number or BSUID is no longer the customer's: decided again with the new address
    "intent_expired",  # expires_at passed in the queue
    "portal_unread",  # an answer in the portal was not read in time: decided again as if the portal were not live
    "slot_freed",  # a bridge failed: the newest intent that its slot silenced may go
]


class OutboundRefused(Event):
    """``outbound.refused.v1``: an attempt of an intent was refused on its route.

    The router decides the intent again, once.
    """

    TYPE: ClassVar[str] = "outbound.refused.v1"

    type: Literal["outbound.refused.v1"] = "outbound.refused.v1"
    intent_id: UUID
    attempt: Attempt
    org_id: OrgId
    conversation_id: UUID
    reason: RefusalReason
    provider_code: str | None = None
    at: Instant

    @property
    def key(self) -> bytes:
        """The record's key."""
        return str(self.conversation_id).encode()

    @property
    def attempt_key(self) -> AttemptKey:
        return self.org_id, self.intent_id, self.attempt

    @classmethod
    def of(
        cls,
        attempt: AttemptKey,
        conversation_id: UUID,
        reason: RefusalReason,
        at: datetime,
        code: str | None = None,
    ) -> "OutboundRefused":
        """The refusal of this attempt; ``code`` is the provider's."""
        org_id, intent_id, number = attempt
        return cls(
            intent_id=intent_id,
            attempt=number,
            org_id=org_id,
            conversation_id=conversation_id,
            reason=reason,
            provider_code=code,
            at=at,
        )


class DeliveryUpdate(Event):
    """``delivery.updates.v1``: a message's newest status.

    A repeat carries the newest status again, with the same ``seq``.
    """

    TYPE: ClassVar[str] = "delivery.update.v1"

    type: Literal["delivery.update.v1"] = "delivery.update.v1"
    message_id: UUID
    org_id: OrgId
    conversation_id: UUID | None
    channel: Channel | None
    seq: Annotated[int, Field(ge=1, le=2**31 - 1)]
    status: Literal["sent", "delivered", "read", "failed"]
    reason: str | None = None
    provider_code: str | None = None
    author: Literal["phone_app"] | None = None  # staff wrote it in the WhatsApp Business app: it is no intent of ours
    at: Instant


class NewStatus(NamedTuple):
    """What is written as a ``DeliveryUpdate``. It comes from rows of ours, so it is not validated again."""

    message_id: UUID
    org_id: str
    conversation_id: UUID | None
    channel: Channel | None
    seq: int
    status: Literal["sent", "delivered", "read", "failed"]
    reason: str | None
    provider_code: str | None
    at: datetime
    author: Literal["phone_app"] | None = None

    @property
    def key(self) -> bytes:
        """The record's key: the conversation, or the message of an intent that has none."""
        return str(self.conversation_id or self.message_id).encode()

    def encode(self) -> bytes:
        """The record's value."""
        message_id, org_id, conversation_id, channel, seq, status, reason, provider_code, at, author = self
        return encode_object(
            {
                "type": DeliveryUpdate.TYPE,
                "message_id": str(message_id),
                "org_id": org_id,
                "conversation_id": None if conversation_id is None else str(conversation_id),
                "channel": channel,
                "seq": seq,
                "status": status,
                "reason": reason,
                "provider_code": provider_code,
                "author": author,
                "at": at,
            }
        )
