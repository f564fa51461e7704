"""A conversation as ingest, router and senders leave it behind: rows first, then the event that tells of them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from libs.common.events.base import Event
from libs.common.events.directory import ConversationHeld
from libs.common.events.inbound import InboundMessage
from libs.common.events.outbound import DeliveryUpdate, OutboundDecision
from libs.common.events.topics import (
    DELIVERY_UPDATES,
    DIRECTORY_CHANGES,
    INBOUND_MESSAGES,
    OUTBOUND_DECISIONS,
    Topic,
)
from libs.common.kafka.producer import Producer, Record
from tests.support import world
from tests.support.inbox import RunningInbox

_IN = """
insert into messages (org_id, conversation_id, direction, channel, provider, account, provider_id, kind, content,
    status, occurred_at, received_at)
values ($1, $2, 'in', $3, 'meta', $4, $5, $6, $7, 'received', $8, $8) returning message_id
"""
_OUT = """
insert into messages (org_id, message_id, conversation_id, direction, channel, kind, content, actor, user_id, status,
    reason, notification_type, occurred_at, received_at)
values ($1, $2, $3, 'out', $4, $5, $6, $7, $8, $9, $10, $11, $12, $12)
"""
_SEEN = """
update conversations set last_customer_at = case when $4 = 'whatsapp' then $3 else last_customer_at end,
    last_inbound_at = $3, last_inbound_channel = $4
 where org_id = $1 and conversation_id = $2
"""
_MOVES = """
update messages set status = $3, reason = $4, seq = seq + 1 where org_id = $1 and message_id = $2
returning seq
"""


@dataclass
class InboxThread:
    """One customer's conversation. ``producer`` publishes as the other services do."""

    inbox: RunningInbox
    producer: Producer
    org_id: str
    number: str
    conversation_id: UUID = field(default_factory=uuid4)
    customer_id: UUID = field(default_factory=uuid4)

    async def run(self, statement: str, *values: Any) -> Any:
        async with self.inbox.pool.acquire() as db:
            return await db.fetchval(statement, *values)

    async def publish(self, topic: Topic, event: Event) -> None:
        await self.producer.publish([Record(topic, str(self.conversation_id).encode(), event.encode())])

    async def customer_writes(
        self,
        text: str = "Is it ready?",
        *,
        channel: Any = "whatsapp",
        content: dict[str, Any] | None = None,
        at: datetime | None = None,
        publish: bool = True,
    ) -> UUID:
        """A message of the customer; on WhatsApp it opens the window."""
        said, now = content or {"kind": "text", "text": text}, at or self.inbox.pool.now()
        provider_id = f"wamid.{uuid4().hex}"
        where = (self.org_id, self.conversation_id)
        message_id: UUID = await self.run(_IN, *where, channel, self.number, provider_id, said["kind"], said, now)
        await self.run(_SEEN, *where, now, channel)
        if publish:
            event = InboundMessage.model_validate(
                {
                    "message_id": message_id,
                    "org_id": self.org_id,
                    "conversation_id": self.conversation_id,
                    "customer_id": self.customer_id,
                    "channel": channel,
                    "provider_id": provider_id,
                    "content": said,
                    "reply_to": None,
                    "sent_at": now,
                    "received_at": now,
                    "window": {"opened_at": now, "closes_at": None, "open": True},
                }
            )
            await self.publish(INBOUND_MESSAGES, event)
        return message_id

    async def is_answered(
        self,
        text: str = "Yes.",
        *,
        actor: str | None = "ai",
        status: str = "pending",
        reason: str | None = None,
        channel: Any = "whatsapp",
        content: dict[str, Any] | None = None,
        notification_type: str | None = None,
        at: datetime | None = None,
        publish: bool = True,
        message_id: UUID | None = None,
    ) -> UUID:
        """A message of ours, as the router stores it."""
        message_id, said, now = (
            message_id or uuid4(),
            content or {"kind": "text", "text": text},
            at or self.inbox.pool.now(),
        )
        await self.run(
            _OUT,
            *(self.org_id, message_id, self.conversation_id, channel, said["kind"], said, actor),
            *("olga" if actor == "staff" else None, status, reason, notification_type, now),
        )
        if publish:
            event = OutboundDecision(
                intent_id=message_id,
                attempt=1,
                org_id=self.org_id,
                conversation_id=self.conversation_id,
                route="session",
                channel=channel,
                reason="window_open",
                window=None,
                decided_at=now,
            )
            await self.publish(OUTBOUND_DECISIONS, event)
        return message_id

    async def moves(self, message_id: UUID, status: Any, reason: str | None = None) -> None:
        """The message has a new status."""
        seq = await self.run(_MOVES, self.org_id, message_id, status, reason)
        event = DeliveryUpdate(
            message_id=message_id,
            org_id=self.org_id,
            conversation_id=self.conversation_id,
            channel="whatsapp",
            seq=seq,
            status=status,
            reason=reason,
            at=self.inbox.pool.now(),
        )
        await self.publish(DELIVERY_UPDATES, event)

    async def is_held(self, until: datetime) -> None:
        """Staff hold it, as the inbox stores and publishes that."""
        now = self.inbox.pool.now()
        await self.run(
            "insert into conversation_holds (conversation_id, org_id, user_id, at, until_at)"
            " values ($2, $1, 'olga', $3, $4)"
            " on conflict (conversation_id) do update set at = excluded.at, until_at = excluded.until_at",
            *(self.org_id, self.conversation_id, now, until),
        )
        held = ConversationHeld(
            org_id=self.org_id, at=now, conversation_id=self.conversation_id, user_id="olga", until=until
        )
        await self.publish(DIRECTORY_CHANGES, held)


@asynccontextmanager
async def publishing(inbox: RunningInbox) -> AsyncIterator[Producer]:
    """A producer on the topics of this inbox."""
    async with Producer(inbox.kafka) as producer:
        yield producer


async def a_thread(
    inbox: RunningInbox,
    producer: Producer,
    org_id: str | None = None,
    *,
    name: str | None = "Kim",
    phone: str | None = "+447700900999",
    consents: Any = None,
) -> InboxThread:
    """A customer with an empty conversation, of an organisation of its own unless one is given."""
    org_id = org_id or await inbox.an_org()
    async with inbox.pool.acquire() as db:
        number = await db.fetchval("select phone_number_id from whatsapp_numbers where org_id = $1", org_id)
        thread = InboxThread(inbox, producer, org_id, number)
        await world.a_customer(db, org_id, thread.customer_id, phone, consents)
        await db.execute(
            "update customers set name = $3 where org_id = $1 and customer_id = $2", org_id, thread.customer_id, name
        )
        await world.a_conversation(db, org_id, thread.conversation_id, thread.customer_id, number)
    return thread
