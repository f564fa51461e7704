"""A garage with conversations, commands for them, and a sender whose steps and clock a test holds in its hand."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest_asyncio

from deploy.local.sandbox.client import SandboxClient
from deploy.local.servers.ports import LOOPBACK, free_port
from libs.common.db.pool import Pool, open_pool
from libs.common.events.outbound import WhatsappCommand
from libs.common.events.topics import DELIVERY_UPDATES, OUTBOUND_REFUSED, OUTBOUND_WHATSAPP, WEBHOOKS
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.producer import Producer
from libs.common.sending.coverage import Waits
from libs.common.sending.outcomes import Timings
from libs.common.sending.status_effects import receive_statuses
from libs.common.thread.message_status import ProviderStatus
from services.whatsapp_sender.adapter import WhatsappAdapter
from services.whatsapp_sender.gate import Ready
from services.whatsapp_sender.graph import open_graph
from services.whatsapp_sender.topology import TOPOLOGY
from services.whatsapp_sender.worker import new_send
from tests.support import world
from tests.support.clocks import HeldClock
from tests.support.published import Published, published_on
from tests.support.sandbox import GRAPH_TOKEN, NUMBER_ID, HookInbox
from tests.support.stepped_engine import SteppedEngine
from tests.support.topics import OwnTopics, used_by

ORG, WABA = "acme", "206400000000001"
DAY = timedelta(hours=24)
EDGE = UUID(int=1)
SETTLING = timedelta(seconds=60)
DOUBT = timedelta(seconds=300)
TIMINGS = Timings(timeout=timedelta(seconds=20), lease=timedelta(seconds=30), grace=timedelta(seconds=40))
PUBLISHED = (DELIVERY_UPDATES, OUTBOUND_REFUSED, OUTBOUND_WHATSAPP.dlq)
"""Topics that the sender writes to."""
WAITS = Waits(TIMINGS.grace, SETTLING)
Line = SteppedEngine[Ready]


@dataclass
class Conversation:
    """One customer of the garage, whose window is open."""

    conversation_id: UUID
    customer_id: UUID
    phone: str


@dataclass
class Garage:
    """An org with one WhatsApp number, and what a test looks at in its database."""

    pool: Pool
    now: HeldClock = field(default_factory=HeldClock)
    number: str = NUMBER_ID
    _sequence: int = 0

    async def set_up(self) -> None:
        async with self.pool.acquire() as db:
            await world.an_org(db, ORG, self.number, waba=WABA)

    async def conversation(self, *, wrote_ago: timedelta = timedelta(minutes=10)) -> Conversation:
        customer_id, conversation_id = uuid4(), uuid4()
        async with self.pool.acquire() as db:
            phone = f"+4477009{await db.fetchval('select 10000 + count(*) from customers'):05d}"
            await world.a_customer(db, ORG, customer_id, phone)
            columns = {"wa_id": phone[1:], "last_customer_at": self.now() - wrote_ago}
            await world.a_conversation(db, ORG, conversation_id, customer_id, self.number, **columns)
        return Conversation(conversation_id, customer_id, phone)

    async def template(self, name: str = "car_ready", *, category: str = "UTILITY", status: str = "APPROVED") -> None:
        async with self.pool.acquire() as db:
            await world.a_template(db, ORG, WABA, name=name, category=category, status=status)

    async def command(
        self,
        to: Conversation,
        *,
        template: str | None = None,
        expires_in: timedelta | None = None,
    ) -> WhatsappCommand:
        """A command and its message in the thread, as the router leaves them."""
        self._sequence += 1
        content: dict[str, Any] = {"kind": "text", "text": "Your Golf is ready."}
        if template is not None:
            content = {"kind": "template", "name": template, "language": "en_GB", "parameters": ["Golf"]}
        now = self.now()
        command = WhatsappCommand(
            message_id=uuid4(),
            attempt=1,
            org_id=ORG,
            conversation_id=to.conversation_id,
            sequence=self._sequence,
            route="session" if template is None else "template",
            phone_number_id=self.number,
            to=to.phone,
            content=content,
            created_at=now,
            expires_at=None if expires_in is None else now + expires_in,
        )
        async with self.pool.acquire() as db:
            await db.execute(
                "insert into messages (org_id, message_id, conversation_id, direction, channel, kind, content,"
                " status, sequence,"
                " occurred_at, received_at) values ($1, $2, $3, 'out', 'whatsapp', $4, $5, 'pending', $6, $7, $7)",
                ORG,
                command.message_id,
                to.conversation_id,
                content["kind"],
                content,
                command.sequence,
                now,
            )
        return command

    async def row(self, command: WhatsappCommand) -> asyncpg.Record:
        async with self.pool.acquire() as db:
            found = await db.fetchrow(
                "select * from sends where org_id = $1 and message_id = $2 and attempt = $3",
                command.org_id,
                command.message_id,
                command.attempt,
            )
        assert found is not None
        return found

    async def states(self, *commands: WhatsappCommand) -> list[str]:
        return [(await self.row(command))["state"] for command in commands]

    async def execute(self, statement: str, *values: Any) -> None:
        async with self.pool.acquire() as db:
            await db.execute(statement, *values)

    async def fetch(self, statement: str, *values: Any) -> list[asyncpg.Record]:
        async with self.pool.acquire() as db:
            return await db.fetch(statement, *values)

    async def caught_up(self, *, at: datetime | None = None, since: datetime | None = None) -> None:
        """Ingest serves and has read everything, by default without a gap since a day ago."""
        at = at or self.now()
        await self.served(at=at, since=at - DAY)
        await self.execute(
            "insert into progress (topic, partition, caught_up_at, since) values ('webhooks.v1', 0, $1, $2)"
            " on conflict (topic, partition) do update set caught_up_at = $1, since = $2",
            at,
            since or at - DAY,
        )

    async def served(
        self, *, at: datetime | None = None, since: datetime | None = None, edge: UUID = EDGE, left: bool = False
    ) -> None:
        """An edge has served since then, and has recorded all that it refused up to ``at``."""
        at = at or self.now()
        await self.execute(
            "insert into webhook_edges (edge_id, serves_since, known_until, left_at) values ($1, $2, $3, $4)"
            " on conflict (edge_id) do update set serves_since = $2, known_until = $3, left_at = $4",
            edge,
            since or at - DAY,
            at,
            at if left else None,
        )

    async def refused(self, at: datetime, kind: str = "refused") -> None:
        """The edge refused a POST then."""
        await self.execute(
            "insert into webhook_refusals (edge_id, number, kind, reason, began_at, ended_at, times)"
            " select $1, count(*), $2, 'kafka_away', $3, $3, 1 from webhook_refusals",
            EDGE,
            kind,
            at,
        )

    async def take_statuses(self, items: Sequence[dict[str, Any]]) -> None:
        """What ingest does with the statuses of Meta's webhooks."""
        statuses = [
            ProviderStatus(
                channel="whatsapp",
                provider="meta",
                account=self.number,
                provider_id=item["id"],
                status=item["status"],
                at=datetime.fromtimestamp(int(item["timestamp"]), tz=UTC),
                code=next((str(error["code"]) for error in item.get("errors", ())), None),
                callback=item.get("biz_opaque_callback_data"),
                item=item,
            )
            for item in items
        ]
        async with self.pool.acquire() as db, db.transaction():
            await receive_statuses(db, statuses, self.now())


@asynccontextmanager
async def a_sender(
    garage: Garage,
    producer: Producer,
    url: str,
    *,
    timings: Timings = TIMINGS,
    token: str = GRAPH_TOKEN,
    concurrency: int = 64,
) -> AsyncIterator[Line]:
    """A line of sending that is not started: a test makes its steps, or enters it."""
    async with open_graph(
        base_url=url,
        version="v26.0",
        token=token,
        timeout_seconds=timings.timeout.total_seconds(),
        connections=concurrency,
        now=garage.now,
    ) as graph:
        adapter = WhatsappAdapter(
            graph,
            garage.pool,
            window_length=DAY,
            window_doubt=DOUBT,
            waits=Waits(timings.grace, SETTLING),
            partitions=lambda: producer.partitions(WEBHOOKS),
        )
        yield SteppedEngine(adapter, garage.pool, producer, timings, now=garage.now, concurrency=concurrency)


async def accept(line: Line, *commands: WhatsappCommand) -> None:
    """Hand commands over as the worker does."""
    await line.accept([new_send(command) for command in commands])


async def begins_to_stop(line: Line) -> "asyncio.Task[None]":
    """A line that was entered begins to stop: it claims no more. Returns the stop, which waits for its calls."""
    stopping = asyncio.create_task(line.__aexit__())
    await asyncio.sleep(0)  # as far as it comes without them
    return stopping


def again(command: WhatsappCommand) -> WhatsappCommand:
    """The command of the next attempt."""
    return command.model_copy(update={"attempt": command.attempt + 1})


def quicker(**changes: timedelta) -> Timings:
    """The tests' clockwork with these parts changed."""
    return replace(TIMINGS, **changes)


def out_of_reach(bootstrap: str) -> Producer:
    """A producer that reaches no broker: it was never started."""
    return Producer(KafkaConnection(bootstrap))


def nobodys_url() -> str:
    """An address at which no server listens, and none will."""
    return f"http://{LOOPBACK}:{free_port()}"


async def kim(garage: Garage, sandbox: SandboxClient) -> Conversation:
    """A customer whose window is open, at ours and at Meta's."""
    found = await garage.conversation()
    await sandbox.customer_writes(garage.number, found.phone)
    return found


def statuses_in(inbox: HookInbox) -> list[dict[str, Any]]:
    """The statuses that Meta's webhooks brought so far."""
    return [item for value in inbox.values() for item in value.get("statuses", [])]


@pytest_asyncio.fixture
async def garage(database: str) -> AsyncIterator[Garage]:
    async with open_pool(database, application_name="test", command_seconds=10) as pool:
        found = Garage(pool)
        await found.set_up()
        yield found


@pytest_asyncio.fixture
async def producer(kafka_bootstrap: str, topics: OwnTopics) -> AsyncIterator[Producer]:
    await topics.create({*used_by(TOPOLOGY), *PUBLISHED, WEBHOOKS})
    async with Producer(KafkaConnection(kafka_bootstrap, topics.prefix)) as found:
        yield found


@pytest_asyncio.fixture
async def line(garage: Garage, producer: Producer, sandbox: SandboxClient) -> AsyncIterator[Line]:
    async with a_sender(garage, producer, sandbox.url) as found:
        yield found


@pytest_asyncio.fixture
async def published(kafka_bootstrap: str, producer: Producer, topics: OwnTopics) -> AsyncIterator[Published]:
    async with published_on(kafka_bootstrap, topics.prefix, PUBLISHED) as found:
        yield found
