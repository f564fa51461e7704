"""Customers who write, change their numbers and are listed, identified as the worker does it; ``who`` is the result."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest_asyncio

from libs.common.db.pool import Pool, open_pool
from libs.common.directory import changes as changes_of_directory
from libs.common.directory.identities import Binding, bind
from libs.common.events.directory import CustomerUpserted, DirectoryChange
from services.ingest import identity, queries
from services.ingest.items import CustomerMessage, IdentityChange, Sender
from tests.support import world
from tests.support.ingest import ORG, now
from tests.support.webhooks import NUMBER

NOBODY = Sender(None, None)
OLD, NEW = "447700900111", "447700900222"
B1, B2, B3 = "GB.13000000000000000001", "GB.13000000000000000002", "GB.13000000000000000003"
KIM, STRANGER = Sender(OLD, B1, "Kim"), Sender(OLD, B3, "Pat")
HOUR = timedelta(hours=1)

_SEND_LINK = """
insert into portal_links (code_hash, org_id, conversation_id, message_id, host, phone, expires_at, created_at)
values (sha256(uuidv7()::text::bytea), $1, $2, uuidv7(), 'tflow.link', '+4477', now() + interval '1 day', now())
"""
_BEGIN_SESSION = """
insert into portal_sessions (session_hash, org_id, conversation_id, host, phone, created_at, seen_at, ends_at)
values (sha256(uuidv7()::text::bytea), $1, $2, 'tflow.link', '+4477', now(), now(), now() + interval '1 day')
"""
_LINKS = """
select (select count(*) from portal_links where conversation_id = $1) as links,
       (select count(*) from portal_sessions where conversation_id = $1) as sessions
"""


def a_text(
    sender: Sender,
    at: datetime,
    *,
    number: str = NUMBER,
    received_at: datetime | None = None,
    wamid: str | None = None,
    text: str = "x",
) -> CustomerMessage:
    """A text of a customer, parsed."""
    content = {"kind": "text", "text": text}
    return CustomerMessage(
        number, sender, wamid or f"wamid.{uuid4()}", content, None, at, received_at or at, opens=True
    )


@dataclass
class People:
    """One garage's customers. Times are hours since ``began``."""

    pool: Pool
    began: datetime

    def at(self, hour: float) -> datetime:
        return self.began + hour * HOUR

    async def writes(self, hour: float, sender: Sender, *, received: float | None = None, number: str = NUMBER) -> UUID:
        """A person writes. Returns the conversation of the message."""
        at = self.at(hour)
        message = a_text(sender, at, number=number, received_at=None if received is None else self.at(received))
        (place,) = await identity.places(self.pool, [message], datetime.now(UTC))
        assert place is not None
        async with self.pool.acquire() as db:
            await queries.store_messages(db, [(message, place)])
        return place.conversation_id

    async def changes(
        self, hour: float, before: Sender, now: Sender = NOBODY, *, received: float | None = None, alarm: bool = False
    ) -> UUID | None:
        """A notice says so; the conversation in which it stands."""
        at = self.at(hour)
        received_at = at if received is None else self.at(received)
        change = IdentityChange(NUMBER, before, now, at, received_at, alarm=alarm)
        (place,) = await identity.places(self.pool, [change], datetime.now(UTC))
        return None if place is None else place.conversation_id

    async def is_listed(self, hour: float, customer_id: UUID, phone: str | None, name: str = "Kim") -> None:
        """The directory lists a customer."""
        change = CustomerUpserted(org_id=ORG, at=self.at(hour), customer_id=customer_id, name=name, phone=phone)
        await self.apply(change)

    async def apply(self, *changes: DirectoryChange) -> None:
        async with self.pool.acquire() as db, db.transaction():
            assert await changes_of_directory.apply(db, changes) == []

    async def is_bound(self, hour: float, **fields: Any) -> None:
        """Graph's answer, a status or a shared card identifies a customer."""
        known = {"customer_id": None, "wa_id": None, "bsuid": None, "phone": None, "source": "status"} | fields
        async with self.pool.acquire() as db, db.transaction():
            await bind(db, [Binding(ORG, NUMBER, at=self.at(hour), **known)], datetime.now(UTC))

    async def links(self, conversation_id: UUID) -> int:
        """How many links lead to a conversation, and as many sessions."""
        (row,) = await self.rows(_LINKS, conversation_id)
        assert row["links"] == row["sessions"]
        return int(row["links"])

    async def is_sent_a_link(self, conversation_id: UUID) -> None:
        """By a bridge; and an earlier link of the conversation was opened."""
        async with self.pool.acquire() as db:
            await db.execute(_SEND_LINK, ORG, conversation_id)
            await db.execute(_BEGIN_SESSION, ORG, conversation_id)

    async def who(self, conversation_id: UUID) -> Mapping[str, Any]:
        """The customer and the address of a conversation."""
        (row,) = await self.rows(
            "select c.*, k.phone, k.name, k.origin, (select count(*) from messages m left"
            " join conversation_aliases a on a.alias = m.conversation_id"
            "   where coalesce(a.conversation_id, m.conversation_id) = c.conversation_id) as messages"
            " from conversations c join customers k using (customer_id) where c.conversation_id = $1",
            conversation_id,
        )
        return row

    async def count(self, table: str) -> int:
        (row,) = await self.rows(f"select count(*) as n from {table}")
        return int(row["n"])

    async def rows(self, query: str, *values: Any) -> list[Mapping[str, Any]]:
        async with self.pool.acquire() as db:
            return [dict(row) for row in await db.fetch(query, *values)]


@pytest_asyncio.fixture
async def people(database: str) -> AsyncIterator[People]:
    async with open_pool(database, application_name="test", size=2, command_seconds=10) as pool:
        async with pool.acquire() as db:
            await world.an_org(db, ORG, NUMBER)
        yield People(pool, now())
