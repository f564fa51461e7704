"""Statuses of providers, and the ids they belong to, of one conversation with one customer."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from libs.common.db.pool import Pool, open_pool
from libs.common.ids import callback_data
from libs.common.sending.status_effects import StatusEvents, receive_statuses, store_provider_ids
from libs.common.sending.statuses import ProviderId
from libs.common.thread.message_status import ProviderStatus
from tests.support import world

T0 = datetime(2026, 11, 22, 10, tzinfo=UTC)
NUMBER, PHONE = "106400000000001", "+447700900999"
CONVERSATION, CUSTOMER = uuid4(), uuid4()
OURS = callback_data("acme", uuid4(), 1)


@asynccontextmanager
async def a_pool_of_statuses(database: str) -> AsyncIterator[Pool]:
    """A pool on a database with an organisation, a customer and their conversation."""
    async with open_pool(database, application_name="test", size=4, command_seconds=10) as pool:
        async with pool.acquire() as db:
            await world.an_org(db, "acme", NUMBER)
            await world.a_customer(db, "acme", CUSTOMER, PHONE)
            await world.a_conversation(db, "acme", CONVERSATION, CUSTOMER, NUMBER, last_customer_at=T0)
        yield pool


async def a_message(
    pool: Pool, *, message_id: UUID | None = None, kind: str = "text", attempt: int = 1, **more: Any
) -> UUID:
    message_id = message_id or uuid4()
    row = {"channel": "whatsapp", "notification_type": None, "parent_id": None, "status": "pending"} | more
    async with pool.acquire() as db:
        await db.execute(
            """insert into messages (org_id, message_id, conversation_id, direction, channel, kind, content, status,
                attempt, notification_type, parent_id, occurred_at, received_at)
               values ('acme', $1, $2, 'out', $3, $4, '{}', $5, $6, $7, $8, $9, $9)""",
            message_id,
            CONVERSATION,
            row["channel"],
            kind,
            row["status"],
            attempt,
            row["notification_type"],
            row["parent_id"],
            T0,
        )  # fmt: skip -- one statement
    return message_id


def an_id(message_id: UUID, wamid: str = "wamid.1", *, attempt: int = 1, **more: Any) -> ProviderId:
    fields: dict[str, Any] = {
        "channel": "whatsapp",
        "provider": "meta",
        "account": NUMBER,
        "send_id": message_id,
    } | more
    return ProviderId(provider_id=wamid, org_id="acme", message_id=message_id, attempt=attempt, **fields)


def a_status(status: str, wamid: str = "wamid.1", *, after: int = 0, **more: Any) -> ProviderStatus:
    fields: dict[str, Any] = {"channel": "whatsapp", "provider": "meta", "account": NUMBER, "callback": OURS} | more
    return ProviderStatus(provider_id=wamid, status=status, at=T0 + timedelta(seconds=after), **fields)


async def receive(pool: Pool, *statuses: ProviderStatus) -> StatusEvents:
    async with pool.acquire() as db, db.transaction():
        return await receive_statuses(db, statuses, T0)


async def store(pool: Pool, *ids: ProviderId) -> StatusEvents:
    async with pool.acquire() as db, db.transaction():
        return await store_provider_ids(db, ids, T0)


async def value(pool: Pool, query: str, *args: Any) -> Any:
    async with pool.acquire() as db:
        return await db.fetchval(query, *args)


def rungs(effects: StatusEvents) -> list[tuple[str, int]]:
    return [(update.status, update.seq) for update in effects.updates]
