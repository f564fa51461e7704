"""Builds the events that ingest publishes from recorded rows, with a log line for each event."""

from datetime import datetime

from libs.common.events.inbound import InboundMessage
from libs.common.events.topics import DELIVERY_UPDATES, INBOUND_MESSAGES, OUTBOUND_REFUSED
from libs.common.kafka.producer import Record
from libs.common.logging import get_logger
from libs.common.sending.spent import Spent
from libs.common.sending.status_effects import StatusEvents
from libs.common.sending.status_lines import log_statuses
from libs.common.window import Window
from services.ingest import content
from services.ingest.queries import StoredMessage

log = get_logger()

NO_WINDOW = {"opened_at": None, "closes_at": None, "open": False}


def inbound_record(stored: StoredMessage, window: Window | None, now: datetime) -> Record:
    """``inbound.messages.v1``; ``window`` is None for a group, which has none."""
    published, beside = content.published(stored.content)
    of_group = {} if stored.group_id is None else {"group_id": stored.group_id}
    of_quoted = {} if stored.quoted is None else {"reply_to_message_id": str(stored.quoted)}
    message_id, conversation_id = str(stored.message_id), str(stored.conversation_id)
    value = InboundMessage.encode_fields(
        {
            "message_id": message_id,
            "org_id": stored.org_id,
            "conversation_id": conversation_id,
            "customer_id": None if stored.customer_id is None else str(stored.customer_id),
            "channel": stored.channel,
            "provider_id": stored.provider_id,
            "content": published,
            **beside,
            "reply_to": stored.reply_to,
            **of_quoted,
            **of_group,
            "sent_at": stored.at,
            "received_at": stored.received_at,
            "window": NO_WINDOW
            if window is None
            else {
                "opened_at": window.last_customer_at,
                "closes_at": window.closes_at,
                "open": window.is_open(now),
            },
        }
    )
    log.info(
        "message.received",
        org_id=stored.org_id,
        conversation_id=conversation_id,
        message_id=message_id,
        channel=stored.channel,
        kind=stored.content["kind"],
        outcome="stored" if stored.fresh else "known",
        lag_ms=round((now - stored.received_at).total_seconds() * 1000),
        **closing(window, now),
    )
    return Record(INBOUND_MESSAGES, conversation_id.encode(), value)


def closing(window: Window | None, now: datetime) -> dict[str, datetime]:
    """When the window closes, for a log line; nothing of a window that is not open."""
    at = window.closes_at if window is not None and window.is_open(now) else None
    return {} if at is None else {"closes_at": at}


def status_records(events: StatusEvents) -> list[Record]:
    """``delivery.updates.v1`` and ``outbound.refused.v1`` of applied statuses."""
    log_statuses(events.told)
    Spent.of(events.spent.values()).log()
    records = [Record(DELIVERY_UPDATES, update.key, update.encode()) for update in events.updates]
    for refusal in events.refusals:
        log.info(
            "send.refused",
            org_id=refusal.org_id,
            conversation_id=str(refusal.conversation_id),
            intent_id=str(refusal.intent_id),
            attempt=refusal.attempt,
            reason=refusal.reason,
            provider_code=refusal.provider_code,
        )
        records.append(Record(OUTBOUND_REFUSED, refusal.key, refusal.encode()))
    return records
