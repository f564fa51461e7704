"""The shapes of conversations and messages for the OpenAPI document. ``services.inbox.shapes`` writes them."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from libs.common.events.outbound import Channel

_ID = "0193a5b0-7c1e-7000-8000-000000000001"
_CUSTOMER = "0193a5b0-7c1e-7000-8000-000000000002"
_MESSAGE = "0193a5b0-7c1e-7000-8000-000000000003"


class CustomerOfList(BaseModel):
    """``phone`` is masked without the capability ``customers.contact.view``; null where none is known."""

    customer_id: UUID
    name: str | None
    phone: str | None


class NumberOfList(BaseModel):
    """The organisation's WhatsApp number."""

    phone_number_id: str
    display_number: str | None


class Window(BaseModel):
    """``closing``: open, and about to close. ``closes_at``: when it closes, or when it did."""

    state: Literal["open", "closing", "expired", "never"]
    opened_at: datetime | None
    closes_at: datetime | None
    open: bool


class WindowNow(Window):
    """The window at ``now``, the server's clock."""

    now: datetime


class LastMessageOfList(BaseModel):
    """The newest message. ``preview``: its beginning in words, in the language of ``Accept-Language``."""

    message_id: UUID
    direction: Literal["in", "out"]
    channel: str
    preview: str
    at: datetime
    status: str


class Portal(BaseModel):
    """Whether the customer uses the portal: ``active`` within the last 30 days."""

    state: Literal["active", "inactive", "never"]
    last_seen_at: datetime | None


class ConversationItem(BaseModel):
    """``unread``: for the person who asks. ``held``: staff hold the conversation, so AI agents are silent in it.

    ``unanswered_since``: the customer has been waiting for an answer. ``escalated_at``: it was told as unread for too
    long, and stands on top of lists.
    """

    conversation_id: UUID
    customer: CustomerOfList
    number: NumberOfList | None
    window: Window
    last_message: LastMessageOfList | None
    last_inbound_channel: Channel | None
    unread: bool
    portal: Portal
    held: bool
    held_until: datetime | None
    held_by: str | None = Field(description="The user id of who holds it; null where staff wrote on the phone.")
    unanswered_since: datetime | None
    escalated_at: datetime | None


CONVERSATION: dict[str, Any] = {
    "conversation_id": _ID,
    "customer": {"customer_id": _CUSTOMER, "name": "Kim", "phone": "+447700900999"},
    "number": {"phone_number_id": "106400000000001", "display_number": "+447700900123"},
    "window": {
        "state": "open",
        "opened_at": "2026-11-26T10:00:00Z",
        "closes_at": "2026-11-27T10:00:00Z",
        "open": True,
    },
    "last_message": {
        "message_id": _MESSAGE,
        "direction": "in",
        "channel": "whatsapp",
        "preview": "Is my car ready?",
        "at": "2026-11-26T10:00:00Z",
        "status": "received",
    },
    "last_inbound_channel": "whatsapp",
    "unread": True,
    "portal": {"state": "never", "last_seen_at": None},
    "held": False,
    "held_until": None,
    "held_by": None,
    "unanswered_since": "2026-11-26T10:00:00Z",
    "escalated_at": None,
}


class ConversationList(BaseModel):
    """``next``: the cursor of the next page; null on the last one."""

    items: list[ConversationItem]
    next: str | None


class Author(BaseModel):
    """``user_id`` and ``name`` are of staff. What they wrote on the phone has no ``user_id``; its name says so."""

    kind: Literal["customer", "ai", "staff", "system"]
    user_id: str | None
    name: str | None


class Times(BaseModel):
    """When each status was reached."""

    sent: datetime | None
    delivered: datetime | None
    read: datetime | None
    failed: datetime | None


class Cost(BaseModel):
    """``amount`` is an exact decimal; null where no price is known. ``segments`` are of an SMS."""

    amount: str | None
    currency: str | None
    estimated: bool
    segments: int | None


class ParkedState(BaseModel):
    """``intent_id``: of the message that carries the text of this one now; null until then."""

    state: Literal["waiting", "sent", "dropped"]
    intent_id: UUID | None


class MessageItem(BaseModel):
    """``content`` has the kinds of the topics; numbers in it are masked without ``customers.contact.view``.

    ``sent_content``: the template that went out in its place. ``reason_text``: why it did not arrive, in words.
    ``reply_to`` is a message of the thread, ``bridge_for`` the one that this SMS stands for. An SMS always has a cost.
    """

    message_id: UUID
    direction: Literal["in", "out"]
    channel: str
    author: Author
    content: dict[str, Any]
    sent_content: dict[str, Any] | None
    status: str
    reason: str | None
    reason_text: str | None
    provider_code: str | None
    at: datetime
    times: Times
    notification_type: str | None
    ai_generated: bool
    user_id: str | None
    bridge_for: UUID | None
    reply_to: UUID | None
    cost: Cost | None
    parked: ParkedState | None = Field(description="Of a failed message that waits for the window, or waited.")


MESSAGE: dict[str, Any] = {
    "message_id": _MESSAGE,
    "direction": "out",
    "channel": "sms",
    "author": {"kind": "system", "user_id": None, "name": None},
    "content": {"kind": "text", "text": "AcmeMotors: Update for you. WhatsApp: wa.me/447700900123"},
    "sent_content": None,
    "status": "delivered",
    "reason": None,
    "reason_text": None,
    "provider_code": None,
    "at": "2026-11-26T10:00:00Z",
    "times": {
        "sent": "2026-11-26T10:00:01Z",
        "delivered": "2026-11-26T10:00:03Z",
        "read": None,
        "failed": None,
    },
    "notification_type": "bridge",
    "ai_generated": False,
    "user_id": None,
    "bridge_for": "0193a5b0-7c1e-7000-8000-000000000004",
    "reply_to": None,
    "cost": {"amount": "0.0400", "currency": "GBP", "estimated": False, "segments": 1},
    "parked": None,
}


class MessageList(BaseModel):
    """Newest first. ``next``: the cursor of older ones."""

    items: list[MessageItem]
    next: str | None


class Contact(BaseModel):
    """Numbers are masked without ``customers.contact.view``. ``reachable``: WhatsApp has an unmarked address."""

    customer_id: UUID
    name: str | None
    phone: str | None
    wa_id: str | None
    reachable: bool
    unreachable_until: datetime | None


class SaidConsent(BaseModel):
    """``by``: who said so; ``source``: on which channel; ``how``: by a word, a switch, or a provider's refusal.

    All are null where nothing was said, and the default counts.
    """

    allowed: bool
    at: datetime | None
    by: Literal["customer", "directory"] | None
    source: str | None
    how: str | None


class Consent(SaidConsent):
    """``trail``: what was said before, newest first."""

    category: Literal["transactional", "service_reminders", "marketing", "whatsapp", "sms"]
    trail: list[SaidConsent]


class BridgeOfLate(BaseModel):
    """An SMS that asked the customer to come back. ``bridge_for``: the message that it stood for."""

    message_id: UUID
    bridge_for: UUID | None
    at: datetime
    delivered_at: datetime | None
    status: str
    reason: str | None
    reason_text: str | None
    provider_code: str | None
    cost: Cost


class SmsOutlook(BaseModel):
    """Whether an SMS that asks the customer back would go now, and why not.

    ``next_at``: when the next one may go, where that is known.
    """

    possible: bool
    obstacle: (
        Literal[
            "no_phone",
            "sms_opted_out",
            "sms_unavailable",
            "never_contacted",
            "country_not_allowed",
            "spend_cap_reached",
            "bridge_already_sent",
            "whatsapp_consent_off",
        ]
        | None
    )
    text: str | None
    next_at: datetime | None


class CustomerOfConversation(BaseModel):
    """The customer beside the thread."""

    conversation_id: UUID
    contact: Contact
    window: Window
    consents: list[Consent]
    portal: Portal
    bridges: list[BridgeOfLate]
    sms: SmsOutlook


CUSTOMER: dict[str, Any] = {
    "conversation_id": _ID,
    "contact": {
        "customer_id": _CUSTOMER,
        "name": "Kim",
        "phone": "+447700900999",
        "wa_id": "447700900999",
        "reachable": True,
        "unreachable_until": None,
    },
    "window": CONVERSATION["window"],
    "consents": [
        {
            "category": "marketing",
            "allowed": False,
            "at": "2026-11-20T09:00:00Z",
            "by": "customer",
            "source": "whatsapp",
            "how": "keyword",
            "trail": [
                {
                    "allowed": False,
                    "at": "2026-11-20T09:00:00Z",
                    "by": "customer",
                    "source": "whatsapp",
                    "how": "keyword",
                }
            ],
        }
    ],
    "portal": {"state": "inactive", "last_seen_at": "2026-10-02T09:00:00Z"},
    "bridges": [
        {
            "message_id": _MESSAGE,
            "bridge_for": "0193a5b0-7c1e-7000-8000-000000000004",
            "at": "2026-11-26T10:00:00Z",
            "delivered_at": "2026-11-26T10:00:03Z",
            "status": "delivered",
            "reason": None,
            "reason_text": None,
            "provider_code": None,
            "cost": {"amount": "0.0400", "currency": "GBP", "estimated": False, "segments": 1},
        }
    ],
    "sms": {
        "possible": False,
        "obstacle": "bridge_already_sent",
        "text": "Kim was already asked by SMS; the next SMS is possible tomorrow.",
        "next_at": "2026-11-27T10:00:00Z",
    },
}
