"""The read model as JSON, for the API and the streams.

Rule 1: the shapes of the contract are written here and nowhere else. Money is text, so that no digit is lost.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from libs.common.pages.languages import Language
from services.inbox.conversations import Conversation, LastMessage
from services.inbox.customers import Consent, CustomerPanel
from services.inbox.messages import Cost, Message
from services.inbox.windows import ShownWindow

Json = dict[str, Any]


def encoded(value: Mapping[str, Any]) -> bytes:
    """The JSON text. Ids of the database driver are UUIDs of its own class."""
    return orjson.dumps(value, default=str, option=orjson.OPT_UTC_Z)


def window_json(window: ShownWindow) -> Json:
    return {
        "state": window.state,
        "opened_at": window.opened_at,
        "closes_at": window.closes_at,
        "open": window.open,
    }


def conversation_json(one: Conversation, language: Language) -> Json:
    """An item of a list. ``preview`` is in the reader's language."""
    return {
        "conversation_id": one.conversation_id,
        "customer": {
            "customer_id": one.customer.customer_id,
            "name": one.customer.name,
            "phone": one.customer.phone,
        },
        "number": None
        if one.number is None
        else {"phone_number_id": one.number.phone_number_id, "display_number": one.number.display_number},
        "window": window_json(one.window),
        "last_message": None if one.last_message is None else last_message_json(one.last_message, language),
        "last_inbound_channel": one.last_inbound_channel,
        "unread": one.unread,
        "portal": {"state": one.portal.state, "last_seen_at": one.portal.last_seen_at},
        "held": one.hold is not None,
        "held_until": None if one.hold is None else one.hold.until,
        "held_by": None if one.hold is None else one.hold.user_id,
        "unanswered_since": one.unanswered_since,
        "escalated_at": one.escalated_at,
    }


def last_message_json(message: LastMessage, language: Language) -> Json:
    return {
        "message_id": message.message_id,
        "direction": message.direction,
        "channel": message.channel,
        "preview": message.preview(language),
        "at": message.at,
        "status": message.status,
    }


def message_json(message: Message) -> Json:
    """A message of a thread."""
    author = message.author
    return {
        "message_id": message.message_id,
        "direction": message.direction,
        "channel": message.channel,
        "author": {"kind": author.kind, "user_id": author.user_id, "name": author.name},
        "content": message.content,
        "sent_content": message.sent_content,
        "status": message.status,
        "reason": message.reason,
        "reason_text": message.reason_text,
        "provider_code": message.provider_code,
        "at": message.at,
        "times": {
            "sent": message.times.sent,
            "delivered": message.times.delivered,
            "read": message.times.read,
            "failed": message.times.failed,
        },
        "notification_type": message.notification_type,
        "ai_generated": message.ai_generated,
        "user_id": author.user_id,
        "bridge_for": message.bridge_for,
        "reply_to": message.reply_to,
        "cost": None if message.cost is None else cost_json(message.cost),
        "parked": None
        if message.parked is None
        else {"state": message.parked.state, "intent_id": message.parked.intent_id},
    }


def cost_json(cost: Cost) -> Json:
    return {
        "amount": None if cost.amount is None else f"{cost.amount:f}",
        "currency": cost.currency,
        "estimated": cost.estimated,
        "segments": cost.segments,
    }


def page_json(items: list[Json], following: str | None) -> Mapping[str, Any]:
    return {"items": items, "next": following}


def customer_json(panel: CustomerPanel) -> Json:
    """What stands beside the thread."""
    contact = panel.contact
    return {
        "conversation_id": panel.conversation_id,
        "contact": {
            "customer_id": contact.customer_id,
            "name": contact.name,
            "phone": contact.phone,
            "wa_id": contact.wa_id,
            "reachable": contact.reachable,
            "unreachable_until": contact.unreachable_until,
        },
        "window": window_json(panel.window),
        "consents": [
            {
                "category": consent.category,
                **_said_json(consent),
                "trail": [_said_json(one) for one in panel.trail if one.category == consent.category],
            }
            for consent in panel.consents
        ],
        "portal": {"state": panel.portal.state, "last_seen_at": panel.portal.last_seen_at},
        "bridges": [
            {
                "message_id": bridge.message_id,
                "bridge_for": bridge.stands_for,
                "at": bridge.at,
                "delivered_at": bridge.delivered_at,
                "status": bridge.status,
                "reason": bridge.reason,
                "reason_text": bridge.reason_text,
                "provider_code": bridge.provider_code,
                "cost": cost_json(bridge.cost),
            }
            for bridge in panel.bridges
        ],
        "sms": {
            "possible": panel.sms.obstacle is None,
            "obstacle": panel.sms.obstacle,
            "text": panel.sms.text,
            "next_at": None if panel.sms.asked is None else panel.sms.asked.until,
        },
    }


def _said_json(consent: Consent) -> Json:
    return {
        "allowed": consent.allowed,
        "at": consent.at,
        "by": consent.by,
        "source": consent.source,
        "how": consent.how,
    }
