"""A garage in the database, intents for it, and the router's handlers on real servers, with what they published."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import orjson

from libs.common.bridge.redis_gate import RedisGate
from libs.common.db.pool import Pool, open_pool
from libs.common.errors import Transient
from libs.common.events.directory import ConsentCategory
from libs.common.events.outbound import OutboundRefused
from libs.common.events.topics import (
    DELIVERY_UPDATES,
    OUTBOUND_DECISIONS,
    OUTBOUND_INTENTS,
    OUTBOUND_REFUSED,
    OUTBOUND_SMS,
    OUTBOUND_WHATSAPP,
)
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.producer import Producer
from libs.common.kafka.records import Received, Reject
from libs.common.redis import Redis
from services.router.worker import Deps, on_intents, on_refusals, read_intent
from tests.support import world
from tests.support.published import Events, Published
from tests.support.records import a_record

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
DAY = timedelta(hours=24)
POOL_SIZE = 4
OUTPUTS = (OUTBOUND_DECISIONS, OUTBOUND_WHATSAPP, OUTBOUND_SMS, DELIVERY_UPDATES)


def waba_of(number: str) -> str:
    """The WABA of a garage's business number."""
    return f"2{number}"


@dataclass(frozen=True)
class Garage:
    """One organisation with one number and one customer, whose conversation is as ``last_customer_at`` says."""

    org_id: str = field(default_factory=lambda: f"org-{uuid4().hex[:8]}")
    number: str = field(default_factory=lambda: str(uuid4().int)[:15])
    sms_number: str = field(default_factory=lambda: f"+4477{uuid4().int % 10**8:08}")
    phone: str | None = "+447700900999"
    customer_id: UUID = field(default_factory=uuid4)
    conversation_id: UUID = field(default_factory=uuid4)
    last_customer_at: datetime | None = NOW - timedelta(hours=1)
    identity_changed_at: datetime | None = None
    last_inbound_channel: str | None = "whatsapp"
    credit_exhausted: bool | None = None
    sms_active: bool = True
    consents: Mapping[ConsentCategory, bool] = field(default_factory=dict)

    @classmethod
    def closed(cls, **changes: Any) -> "Garage":
        """The customer wrote two days ago."""
        return cls(**{"last_customer_at": NOW - 2 * DAY} | changes)

    async def store(self, db: asyncpg.Connection) -> None:
        await world.an_org(
            db,
            self.org_id,
            self.number,
            waba=waba_of(self.number),
            sms_number=self.sms_number,
            sms_active=self.sms_active,
            credit_exhausted=self.credit_exhausted,
        )
        await world.a_customer(db, self.org_id, self.customer_id, self.phone, self.consents)
        columns = {
            "wa_id": self.phone and self.phone[1:],
            "last_customer_at": self.last_customer_at,
            "identity_changed_at": self.identity_changed_at,
            "last_inbound_channel": self.last_inbound_channel,
            "last_inbound_at": self.last_customer_at,
        }
        await world.a_conversation(db, self.org_id, self.conversation_id, self.customer_id, self.number, **columns)

    async def store_template(self, db: asyncpg.Connection, **changes: Any) -> None:
        template = {"parameter_format": "NAMED", "body": "Hi {{customer_name}}, your car is ready."} | changes
        await world.a_template(db, self.org_id, waba_of(self.number), **template)

    def intent(self, **changes: Any) -> dict[str, Any]:
        """An AI's text for the customer's conversation, as JSON fields."""
        return {
            "type": "outbound.intent.v1",
            "intent_id": str(uuid4()),
            "org_id": self.org_id,
            "conversation_id": str(self.conversation_id),
            "actor": {"kind": "ai"},
            "content": {"kind": "text", "text": "Your Golf is ready."},
            "created_at": "2026-11-22T11:59:59Z",
        } | changes

    def first_contact(self, phone: str = "+447700900555", **changes: Any) -> dict[str, Any]:
        """The same to a phone number."""
        intent = self.intent(**{"to": {"phone_number_id": self.number, "phone": phone}} | changes)
        del intent["conversation_id"]
        return intent

    def refusal(self, intent: Mapping[str, Any], attempt: int = 1, **changes: Any) -> OutboundRefused:
        fields = {
            "intent_id": intent["intent_id"],
            "attempt": attempt,
            "org_id": self.org_id,
            "conversation_id": self.conversation_id,
            "reason": "window_closed",
            "provider_code": "131047",
            "at": NOW,
        }
        return OutboundRefused(**fields | changes)


TEMPLATE = {
    "kind": "template",
    "name": "car_ready",
    "language": "en_GB",
    "parameters": {"customer_name": "Kim"},
}
FALLBACK = {name: value for name, value in TEMPLATE.items() if name != "kind"}


@dataclass
class Router:
    """One router's handlers; ``published`` is everything that any router of the test published."""

    deps: Deps
    published: Published

    def at(self, now: datetime) -> "Router":
        return Router(replace(self.deps, now=lambda: now), self.published)

    @property
    def pool(self) -> Pool:
        return self.deps.pool

    async def handle(self, *intents: Mapping[str, Any]) -> None:
        """As the batch consumer does: expected trouble, such as a lost race, is tried again."""
        batch = as_received(intents)
        for _ in range(20):
            with suppress(Transient):
                return await on_intents(batch, self.deps)
            await asyncio.sleep(0.02)
        raise AssertionError("the same trouble twenty times")

    async def decide(self, *intents: Mapping[str, Any]) -> Events:
        """Handle them as one batch; what was published since last asked."""
        await self.handle(*intents)
        return await self.published.new()

    async def refuse(self, *refusals: OutboundRefused) -> Events:
        assert await self.refuse_raw(*refusals) == []
        return await self.published.new()

    async def refuse_raw(self, *refusals: OutboundRefused) -> list[Reject]:
        return await on_refusals(
            [Received(r, a_record(r.encode(), topic=OUTBOUND_REFUSED.name)) for r in refusals], self.deps
        )

    async def rows(self, statement: str, *arguments: Any) -> list[dict[str, Any]]:
        async with self.pool.acquire() as db:
            return [dict(row) for row in await db.fetch(statement, *arguments)]

    async def message(self, intent: Mapping[str, Any]) -> dict[str, Any]:
        [found] = await self.rows(
            "select * from messages where org_id = $1 and message_id = $2", intent["org_id"], UUID(intent["intent_id"])
        )
        return found


async def stored(router: Router, garage: Garage) -> Garage:
    """The garage, once the router's database knows it."""
    async with router.pool.acquire() as db:
        await garage.store(db)
    return garage


def as_received(intents: Sequence[Mapping[str, Any]]) -> list[Received[Any]]:
    records = [
        a_record(orjson.dumps(intent), topic=OUTBOUND_INTENTS.name, offset=n) for n, intent in enumerate(intents)
    ]
    return [Received(read_intent(record), record) for record in records]


@asynccontextmanager
async def a_router(
    connection: KafkaConnection,
    dsn: str,
    redis: Redis,
    published: Published,
) -> AsyncIterator[Router]:
    async with (
        open_pool(dsn, application_name="test", size=POOL_SIZE, command_seconds=10) as pool,
        Producer(connection) as producer,
    ):
        yield Router(
            Deps(
                pool=pool,
                redis_gate=RedisGate(redis, DAY),
                producer=producer,
                now=lambda: NOW,
                window_length=DAY,
                margin=timedelta(seconds=30),
                doubt=timedelta(seconds=300),
            ),
            published,
        )
