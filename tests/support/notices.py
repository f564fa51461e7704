"""What staff are told of: a garage whose inbox publishes it, and what was published."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest_asyncio
from aiokafka.admin import AIOKafkaAdminClient

from libs.common.bridge.portal_keys import PurposeKeys
from libs.common.clock import utc_now
from libs.common.db.pool import Pool, open_pool
from libs.common.db.shares import Shares
from libs.common.events.directory import OrgUpserted
from libs.common.events.outbound import DeliveryUpdate
from libs.common.events.topics import INBOX_NOTICES
from libs.common.kafka.connection import KafkaConnection
from services.inbox.conversations import Conversations
from services.inbox.cursors import Cursors
from services.inbox.heads import refresh
from services.inbox.notices import Notices
from services.inbox.people import Person
from tests.support import world
from tests.support.databases import drop_database, make_database
from tests.support.inbox_world import HOUR, MINUTE, RULE, InboxWorld
from tests.support.mortal import Life, MortalPool, MortalProducer
from tests.support.published import Published, published_on
from tests.support.topics import OwnTopics


@dataclass
class Told(InboxWorld):
    """A garage of a test's own, and what was told to its staff. The time is ``now``."""

    producer: MortalProducer = field(kw_only=True)
    published: Published = field(kw_only=True)

    def notices(self, life: Life | None = None) -> Notices:
        """As a process sees them that lives as long as ``life`` says."""
        self.producer.life = life or Life()
        pool: Pool = MortalPool(self.pool, self.producer.life)
        return Notices(pool, self.producer, lambda: self.now, RULE, Shares(pool, 2))

    async def policy(self, **policy: Any) -> None:
        async with self.pool.acquire() as db:
            await world.change(db, OrgUpserted(org_id=self.org, at=utc_now(), name="AcmeMotors", policy=policy))

    async def events(self, org_id: str | None = None) -> list[dict[str, Any]]:
        """What stands on the topic for the organisation."""
        events = await self.published.events(INBOX_NOTICES)
        return [event for event in events if event["org_id"] == (org_id or self.org)]

    async def round(self) -> None:
        """A round of every task, by a process that lives."""
        await self.notices().escalate()
        await self.notices().publish_left()

    async def fails(self, conversation: UUID, reason: str = "provider_refused", **columns: Any) -> DeliveryUpdate:
        """A message of staff fails; what is published of it."""
        message_id = await self.says(conversation, status="failed", reason=reason, **columns)
        return DeliveryUpdate(
            message_id=message_id,
            org_id=self.org,
            conversation_id=conversation,
            channel="whatsapp",
            seq=1,
            status="failed",
            reason=reason,
            at=self.now,
        )

    async def member(self, user_id: str = "priya", since: timedelta = HOUR) -> str:
        async with self.pool.acquire() as db:
            await db.execute(
                "insert into members (org_id, user_id, name, first_seen_at, seen_at) values ($1, $2, $2, $3, $3)",
                *(self.org, user_id, self.now - since),
            )
        return user_id

    async def is_read(self, conversation: UUID) -> None:
        """A member reads all that is there."""
        reads, cursors = Shares(self.pool, 2), Cursors(PurposeKeys([b"k" * 32], "cursors"))
        reader = Person(self.org, await self.member(f"reader-{uuid4().hex}"), frozenset({"*"}), self.now)
        await Conversations(reads, RULE, cursors).mark_read(reader, conversation)


@dataclass
class Served:
    """What all tests of a file share."""

    pool: Pool
    producer: MortalProducer
    published: Published


async def a_garage(served: Served, org_id: str | None = None) -> Told:
    org_id = org_id or f"org-{uuid4().hex[:12]}"
    number = str(uuid4().int)[:15]
    async with served.pool.acquire() as db:
        await world.an_org(db, org_id, number, sms_number=None, portal_host=None)
    return Told(served.pool, org_id, number, producer=served.producer, published=served.published)


async def rows(garage: Told, statement: str, conversation: UUID) -> list[dict[str, Any]]:
    async with garage.pool.acquire() as db:
        found = await db.fetch(f"{statement} where org_id = $1 and conversation_id = $2", garage.org, conversation)
    return [dict(row) for row in found]


async def many_unread(garage: Told, count: int) -> None:
    """So many customers wrote 40 minutes ago."""
    async with garage.pool.acquire() as db, db.transaction():
        await db.execute(
            "with k as (insert into customers (org_id, origin) select $1, 'inbound' from generate_series(1, $3)"
            " returning customer_id), c as (insert into conversations (org_id, customer_id, phone_number_id)"
            " select $1, customer_id, $2 from k returning conversation_id)"
            " insert into messages (org_id, conversation_id, direction, channel, provider, account, provider_id, kind,"
            " content, status, occurred_at, received_at) select $1, conversation_id, 'in', 'whatsapp', 'meta', $2,"
            " conversation_id::text, 'text', '{}', 'received', $4, $4 from c",
            *(garage.org, garage.number, count, garage.now - 40 * MINUTE),
        )
        conversations = await db.fetch("select conversation_id from conversations where org_id = $1", garage.org)
        await refresh(db, [(garage.org, row["conversation_id"]) for row in conversations], RULE)


@pytest_asyncio.fixture(scope="module")
async def served(
    kafka_bootstrap: str, kafka_admin: AIOKafkaAdminClient, postgres_dsn: str, database_template: str
) -> AsyncIterator[Served]:
    topics = OwnTopics(kafka_admin, f"t-{uuid4().hex[:12]}.")
    await topics.create([INBOX_NOTICES])
    dsn = await make_database(postgres_dsn, database_template)
    async with (
        open_pool(dsn, application_name="test", size=6, command_seconds=10) as pool,
        MortalProducer(KafkaConnection(kafka_bootstrap, topics.prefix)) as producer,
        published_on(kafka_bootstrap, topics.prefix, [INBOX_NOTICES]) as published,
    ):
        yield Served(pool, producer, published)
    await drop_database(postgres_dsn, dsn)
    await topics.delete()


@pytest_asyncio.fixture
async def garage(served: Served) -> AsyncIterator[Told]:
    made = await a_garage(served)
    yield made
    async with served.pool.acquire() as db:  # what is left over tells nothing to the next test
        await db.execute("update conversation_heads set unread_since = null")
