"""A garage whose texts wait for the window: the router decides, parked texts are released, the router decides again."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import orjson
from aiokafka.admin import AIOKafkaAdminClient

from libs.common.clock import Clock
from libs.common.db.pool import Pool
from libs.common.db.shares import Shares
from libs.common.events.directory import OrgUpserted
from libs.common.events.topics import DIRECTORY_CHANGES, OUTBOUND_INTENTS
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.producer import Producer
from libs.common.kafka.records import Received
from libs.common.redis import open_redis
from services.inbox.parked import ParkedTexts
from services.inbox.parking import ParkedText
from services.inbox.people import Person
from services.inbox.sending import Sending
from services.inbox.windows import WindowRule
from services.router.worker import on_intents, read_intent
from tests.support import world
from tests.support.databases import drop_database, make_database
from tests.support.mortal import Life, MortalPool, MortalProducer
from tests.support.published import published_on
from tests.support.records import a_record
from tests.support.redis_leases import leased_database
from tests.support.router import DAY, NOW, OUTPUTS, Garage, Router, a_router
from tests.support.topics import OwnTopics

MINUTE = timedelta(minutes=1)
RULE = WindowRule(DAY, timedelta(minutes=5), timedelta(hours=2))
STAFF = {"kind": "staff", "user_id": "priya", "capabilities": ["messages.send"]}


def parked_texts(pool: Pool, producer: Producer, now: Clock) -> ParkedTexts:
    return ParkedTexts(pool, producer, now, RULE, Sending(pool, producer, now), Shares(pool, 2))


def a_person(org_id: str, user_id: str = "priya") -> Person:
    return Person(org_id, user_id, frozenset({"messages.send"}), NOW + 365 * DAY)


@dataclass
class Waiting:
    """One garage, its customer Kim and the texts that wait for Kim. ``now`` is the time for all of it."""

    router: Router
    producer: MortalProducer
    kafka: KafkaConnection
    garage: Garage
    now: datetime = NOW
    life: Life = field(default_factory=Life)
    _decided: int = 0

    @property
    def key(self) -> tuple[str, UUID]:
        return self.garage.org_id, self.garage.conversation_id

    @property
    def parked(self) -> ParkedTexts:
        """The texts as a process sees them that lives as long as ``life`` says."""
        self.producer.life = self.life
        return parked_texts(MortalPool(self.router.pool, self.life), self.producer, lambda: self.now)

    @contextmanager
    def killed_before(self, step: int) -> Iterator[Life]:
        """A process that ends before this step of its own."""
        self.life = Life(ends_before=step)
        try:
            yield self.life
        finally:
            self.life = Life()

    def person(self, user_id: str = "priya") -> Person:
        """One of the garage's staff."""
        return a_person(self.garage.org_id, user_id)

    async def policy(self, **policy: Any) -> None:
        async with self.router.pool.acquire() as db:
            await world.change(
                db,
                OrgUpserted(
                    org_id=self.garage.org_id,
                    at=NOW,
                    name="AcmeMotors",
                    policy=policy,
                    sms_number=self.garage.sms_number,
                    sms_active=True,
                ),
            )

    async def fails(self, text: str, **changes: Any) -> UUID:
        """An intent with this text is decided while the window is closed, and ends silent; it is parked."""
        content = {"kind": "text", "text": text}
        fields = {"content": content, "created_at": self.now.isoformat(), "actor": STAFF} | changes
        intent = self.garage.intent(**fields)
        await self.decided(intent)
        await self.parked.on_failures([(self.garage.org_id, UUID(intent["intent_id"]))])
        self.now += MINUTE
        return UUID(intent["intent_id"])

    async def decided(self, *intents: Mapping[str, Any]) -> None:
        await self.router.at(self.now).handle(*intents)

    async def sends(self, message_ids: Sequence[UUID], user_id: str = "priya") -> list[UUID]:
        """A person releases these, and is not refused."""
        sent = await self.parked.send(self.person(user_id), self.garage.conversation_id, message_ids)
        assert isinstance(sent, list)
        return sent

    async def kim_writes(self) -> None:
        """The window is open from now on."""
        self.now += MINUTE
        await self.do(
            "update conversations set last_customer_at = $3, last_inbound_at = $3, last_inbound_channel = 'whatsapp'"
            " where org_id = $1 and conversation_id = $2",
            *(*self.key, self.now),
        )
        self.now += MINUTE

    async def do(self, statement: str, *values: Any) -> None:
        async with self.router.pool.acquire() as db:
            await db.execute(statement, *values)

    async def offered(self) -> list[ParkedText]:
        return (await self.parked.waiting([self.key])).get(self.key, [])

    async def texts_offered(self) -> list[str]:
        return [text.content["text"] for text in await self.offered()]

    async def intents(self) -> list[dict[str, Any]]:
        """All intents on the topic."""
        return [orjson.loads(value) for value in await self._records()]

    async def _records(self) -> list[bytes]:
        records = await self.router.published.records(OUTBOUND_INTENTS)
        return [one.value for one in records if one.value and self.garage.org_id.encode() in one.value]

    async def sent(self) -> list[str]:
        """What the router made of the intents on the topic so far: the texts that Kim gets, in their order."""
        values = (await self._records())[self._decided :]
        self._decided += len(values)
        batch = [a_record(value, topic=OUTBOUND_INTENTS.name, offset=n) for n, value in enumerate(values)]
        if batch:
            deps = replace(self.router.deps, now=lambda: self.now)
            await on_intents([Received(read_intent(one), one) for one in batch], deps)
        return [
            row["text"]
            for row in await self.router.rows(
                "select content ->> 'text' as text from messages"
                " where org_id = $1 and direction = 'out' and status = 'pending' order by sequence",
                self.garage.org_id,
            )
        ]


@asynccontextmanager
async def texts_that_wait(router: Router, kafka: KafkaConnection, **changes: Any) -> AsyncIterator[Waiting]:
    """A garage whose window with Kim is closed, and whose bridge SMS has gone out: what it writes ends silent."""
    garage = Garage.closed(**changes)
    async with router.pool.acquire() as db:
        await garage.store(db)
        await db.execute(
            "insert into bridge_slots (conversation_id, org_id, intent_id, held_until) values ($1, $2, $3, 'infinity')",
            *(garage.conversation_id, garage.org_id, uuid4()),
        )
    async with MortalProducer(kafka) as producer:
        yield Waiting(router, producer, kafka, garage)


@asynccontextmanager
async def a_router_of_texts(
    bootstrap: str, admin: AIOKafkaAdminClient, server: str, template: str, redis_server: str
) -> AsyncIterator[tuple[Router, KafkaConnection]]:
    """A router and its servers, for all tests of a file; each has a garage of its own."""
    topics = OwnTopics(admin, f"t-{uuid4().hex[:12]}.")
    await topics.create([*OUTPUTS, OUTBOUND_INTENTS, DIRECTORY_CHANGES])
    dsn = await make_database(server, template)
    kafka = KafkaConnection(bootstrap, topics.prefix)
    with leased_database(redis_server) as redis_url:
        async with (
            open_redis(redis_url) as redis,
            published_on(bootstrap, topics.prefix, [*OUTPUTS, OUTBOUND_INTENTS, DIRECTORY_CHANGES]) as published,
            a_router(kafka, dsn, redis, published) as router,
        ):
            yield router, kafka
    await drop_database(server, dsn)
    await topics.delete()


async def releases_left(waiting: Waiting) -> int:
    [row] = await waiting.router.rows(
        "select count(*) as n from parked_releases where org_id = $1", waiting.garage.org_id
    )
    return int(row["n"])
