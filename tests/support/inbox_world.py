"""A garage as the inbox finds it: customers with threads, stored as ingest and router store them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from libs.common.clock import utc_now
from libs.common.db.pool import Pool, open_pool
from services.inbox.heads import refresh
from services.inbox.windows import WindowRule
from services.inbox.word_queries import write_customers, write_words
from tests.support import databases, world

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
RULE = WindowRule(length=timedelta(hours=24), doubt=timedelta(minutes=5), closing_soon=timedelta(hours=2))


async def nothing_waits(_keys: object) -> None:
    """For ``tell_touched``: no text waits for a window."""


_MESSAGE = """
insert into messages (org_id, message_id, conversation_id, direction, channel, provider, account, provider_id, kind,
                      content, reply_to, actor, user_id, ai_generated, notification_type, parent_id, status, reason,
                      provider_code, sent_at, delivered_at, read_at, failed_at, occurred_at, received_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24,
        $25)
returning sequence
"""
_SPOKEN = """
update conversations
   set last_customer_at = case when $3 = 'whatsapp' then greatest(last_customer_at, $2) else last_customer_at end,
       last_inbound_channel = $3, last_inbound_at = $2
 where conversation_id = $1
"""


@dataclass
class InboxWorld:
    """Garages in one database. ``org`` is the one that tests write into."""

    pool: Pool
    org: str
    number: str
    now: datetime = field(default_factory=utc_now)

    async def customer(self, name: str | None = "Kim", phone: str | None = None, **columns: Any) -> tuple[UUID, UUID]:
        """A customer and their conversation. ``columns`` are the conversation's."""
        customer, conversation = uuid4(), uuid4()
        async with self.pool.acquire() as db:
            await world.a_customer(db, self.org, customer, phone)
            await db.execute("update customers set name = $2 where customer_id = $1", customer, name)
            await world.a_conversation(db, self.org, conversation, customer, self.number, **columns)
        return customer, conversation

    async def hears(
        self,
        conversation: UUID,
        content: dict[str, Any] | str = "Is my car ready?",
        *,
        ago: timedelta = MINUTE,
        channel: str = "whatsapp",
        provider_id: str | None = None,
        reply_to: str | None = None,
    ) -> UUID:
        """The customer writes."""
        said = {"kind": "text", "text": content} if isinstance(content, str) else content
        at = self.now - ago
        if said["kind"] != "reaction":
            async with self.pool.acquire() as db:
                await db.execute(_SPOKEN, conversation, at, channel)
        return await self._add(
            conversation,
            direction="in",
            channel=channel,
            provider={"whatsapp": "meta", "sms": "twilio"}.get(channel),
            account=self.number,
            provider_id=provider_id or f"wamid.{uuid4().hex}",
            content=said,
            reply_to=reply_to,
            status="received",
            occurred_at=at,
        )

    async def says(
        self,
        conversation: UUID,
        content: dict[str, Any] | str = "Yes, it is.",
        *,
        actor: str = "staff",
        status: str = "delivered",
        ago: timedelta = timedelta(0),
        **columns: Any,
    ) -> UUID:
        """The garage writes."""
        said = {"kind": "text", "text": content} if isinstance(content, str) else content
        at = self.now - ago
        times = {f"{status}_at": at} if status in ("sent", "delivered", "read", "failed") else {}
        return await self._add(
            conversation,
            **(
                {"direction": "out", "actor": actor, "content": said, "status": status, "occurred_at": at}
                | times
                | columns
            ),
        )

    async def _add(self, conversation: UUID, **columns: Any) -> UUID:
        content = columns["content"]
        values = {
            "channel": "whatsapp",
            "message_id": uuid4(),
            "ai_generated": columns.get("actor") == "ai",
            "received_at": columns["occurred_at"],
            "kind": content["kind"],
        } | columns
        names = (
            *("channel", "provider", "account", "provider_id", "kind", "content", "reply_to", "actor", "user_id"),
            *("ai_generated", "notification_type", "parent_id", "status", "reason", "provider_code", "sent_at"),
            *("delivered_at", "read_at", "failed_at", "occurred_at", "received_at"),
        )
        async with self.pool.acquire() as db:
            await db.execute(
                _MESSAGE,
                self.org,
                values["message_id"],
                conversation,
                values["direction"],
                *(values.get(name) for name in names),
            )
            await refresh(db, [(self.org, conversation)], RULE)
            await write_words(db, [(self.org, values["message_id"])])
            await write_customers(db, [(self.org, conversation)])
        message_id: UUID = values["message_id"]
        return message_id

    async def head(self, conversation: UUID) -> dict[str, Any]:
        """The stored head."""
        async with self.pool.acquire() as db:
            row = await db.fetchrow("select * from conversation_heads where conversation_id = $1", conversation)
        assert row is not None
        return dict(row)


@asynccontextmanager
async def an_inbox_world(server_dsn: str, template: str) -> AsyncIterator[InboxWorld]:
    """The garages ``acme`` and ``other``, each with a number, in a database of their own."""
    dsn = await databases.make_database(server_dsn, template)
    async with open_pool(dsn, application_name="test", size=4) as pool:
        async with pool.acquire() as db:
            await world.an_org(db, "acme", "106400000000001", country="GB", currency="GBP")
            await world.an_org(
                db,
                "other",
                "106400000000002",
                waba="206400000000002",
                sms_number="+447700900002",
                display_number="+447700900456",
                country="GB",
            )
        yield InboxWorld(pool, "acme", "106400000000001")
    await databases.drop_database(server_dsn, dsn)
