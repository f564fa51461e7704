"""A garage whose customer's window has closed, and the SMS bridge on real servers, moved step by step.

``SmsWorld.decided()`` leaves what the router leaves when it has decided for a bridge: the pending message, the
decision, the slot on both sides; ``send()`` and ``sweep()`` are single steps of the sending line, ``published()`` reads
the topics.
"""

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import aiohttp

from libs.common.bridge import queries as slot_queries
from libs.common.bridge.link_codes import LinkCodes
from libs.common.bridge.redis_gate import RedisGate, redis_key
from libs.common.bridge.slot import Slot
from libs.common.db.pool import Pool, open_pool
from libs.common.events.outbound import DeliveryUpdate, OutboundRefused, SmsCommand
from libs.common.events.topics import DELIVERY_UPDATES, OUTBOUND_REFUSED
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.producer import Producer
from libs.common.providers.accounts import SmsAccounts, account_of
from libs.common.redis import open_redis
from libs.common.sending.outcomes import Timings
from services.sms_bridge.adapter import SmsAdapter
from services.sms_bridge.effects import BridgeConfig
from services.sms_bridge.providers import OutgoingSms, SmsProvider
from services.sms_bridge.providers.twilio import Twilio
from services.sms_bridge.worker import new_send
from tests.support import world as seeds
from tests.support.clocks import HeldClock
from tests.support.published import Published, published_on
from tests.support.sandbox import CUSTOMER, NUMBER_ID, TWILIO_SID, TWILIO_TOKEN
from tests.support.stepped_engine import SteppedEngine

ORG, SMS_NUMBER, WHATSAPP_NUMBER = "acme", "+447700900001", "+447700900123"
LINK_KEY = b"newest-key".ljust(32, b".")
HOLD, GRACE, LINK_LIFE = timedelta(hours=24), timedelta(seconds=30), timedelta(days=7)
SETTLING = timedelta(seconds=60)
TIMINGS = Timings(timeout=timedelta(seconds=5), lease=timedelta(seconds=20), grace=GRACE)
ONE_ACCOUNT = SmsAccounts("twilio", {"twilio": account_of("twilio", TWILIO_SID, [TWILIO_TOKEN])}, {})


@dataclass
class SmsWorld:
    """One garage, one customer, one conversation."""

    pool: Pool
    redis: Any
    topics: Published
    redis_gate: RedisGate
    line: SteppedEngine[OutgoingSms]
    adapter: SmsAdapter
    clock: HeldClock
    another: Callable[..., tuple[SmsAdapter, SteppedEngine[OutgoingSms]]]
    twilio: Twilio
    conversation_id: UUID = field(default_factory=uuid4)
    customer_id: UUID = field(default_factory=uuid4)
    sequence: int = 0

    async def seed(self) -> None:
        """The garage, its number and customer. The window closed an hour ago; an SMS has long cost 4 pence."""
        long_ago = self.clock() - timedelta(days=60)
        async with self.pool.acquire() as db:
            await seeds.an_org(db, ORG, NUMBER_ID, sms_number=SMS_NUMBER, display_number=WHATSAPP_NUMBER)
            await seeds.a_customer(db, ORG, self.customer_id, CUSTOMER)
            columns = {"wa_id": CUSTOMER[1:], "last_customer_at": self.clock() - timedelta(hours=25)}
            await seeds.a_conversation(db, ORG, self.conversation_id, self.customer_id, NUMBER_ID, **columns)
        await self.execute(
            "insert into rate_card values ($1, 'sms', 'sms', 'GB', 'GBP', 0.04), ($2, 'sms', 'sms', 'GB', 'GBP', 0.05)",
            long_ago.date(),
            (self.clock() + timedelta(days=60)).date(),
        )

    async def decided(self, **changes: Any) -> SmsCommand:
        """The router has decided a bridge, or plain text with ``route="session"``. The command is unread."""
        message_id, self.sequence = uuid4(), self.sequence + 1
        fields: dict[str, Any] = {
            "message_id": message_id,
            "attempt": 1,
            "org_id": ORG,
            "conversation_id": self.conversation_id,
            "sequence": self.sequence,
            "route": "bridge",
            "from_number": SMS_NUMBER,
            "to": CUSTOMER,
            "org_name": "AcmeMotors",
            "whatsapp_number": WHATSAPP_NUMBER,
            "portal_host": "tflow.link",
            "created_at": self.clock(),
        }
        command = SmsCommand(**fields | changes)
        bridge = command.route == "bridge"
        await self._message(command.message_id, "whatsapp" if bridge else "sms", "pending", None)
        await self._decision(command.message_id, command.route, "window_expired" if bridge else "live_channel", None)
        if bridge:
            slot = Slot(ORG, self.conversation_id, command.message_id)
            async with self.pool.acquire() as db, db.transaction():
                await slot_queries.take(db, [slot], self.clock())
            await self.redis_gate.sync(held=[slot])
        return command

    async def silenced(self, by: SmsCommand) -> UUID:
        """The router has kept a later message silent, because ``by`` holds the slot."""
        message_id, self.sequence = uuid4(), self.sequence + 1
        await self._message(message_id, "whatsapp", "failed", "window_expired_bridge_already_sent")
        await self._decision(message_id, "silent", "bridge_already_sent", by.message_id)
        return message_id

    async def accept(self, *commands: SmsCommand) -> None:
        """The commands arrive."""
        await self.line.accept([new_send(command) for command in commands])

    async def send(self, *commands: SmsCommand) -> int:
        """The commands arrive, and what is due is sent once; how many provider calls that took."""
        if commands:
            await self.accept(*commands)
        return await self.line.claim_once()

    def goes_on_in_another_process(self) -> None:
        """What only a process remembers is forgotten."""
        self.adapter, self.line = self.another()

    async def sweep(self, after: timedelta = timedelta(0)) -> None:
        """Time passes, then one sweep."""
        self.clock.forward(after)
        await self.line.sweep_once()

    async def published(self) -> tuple[list[DeliveryUpdate], list[OutboundRefused]]:
        """Everything published so far."""
        updates = [DeliveryUpdate.decode(record.value or b"") for record in await self.topics.records(DELIVERY_UPDATES)]
        refusals = [
            OutboundRefused.decode(record.value or b"") for record in await self.topics.records(OUTBOUND_REFUSED)
        ]
        return updates, refusals

    async def slot(self) -> tuple[datetime | None, str | None]:
        """Until when Postgres holds the conversation's slot, and whose it is in Redis."""
        held = await self.value(
            "select held_until from bridge_slots where org_id = $1 and conversation_id = $2", ORG, self.conversation_id
        )
        [holder] = await self.redis.pipeline(lambda pipe: pipe.get(redis_key(self.conversation_id)))
        return held, holder

    async def message(self, message_id: UUID) -> dict[str, Any]:
        row = await self.row("select * from messages where org_id = $1 and message_id = $2", ORG, message_id)
        return {} if row is None else dict(row)

    async def send_row(self, command: SmsCommand) -> dict[str, Any]:
        row = await self.row(
            "select * from sends where org_id = $1 and message_id = $2 and attempt = $3",
            ORG,
            command.message_id,
            command.attempt,
        )
        assert row is not None
        return dict(row)

    async def execute(self, query: str, *args: Any) -> None:
        async with self.pool.acquire() as db:
            await db.execute(query, *args)

    async def value(self, query: str, *args: Any) -> Any:
        async with self.pool.acquire() as db:
            return await db.fetchval(query, *args)

    async def row(self, query: str, *args: Any) -> Any:
        async with self.pool.acquire() as db:
            return await db.fetchrow(query, *args)

    async def _message(self, message_id: UUID, channel: str, status: str, reason: str | None) -> None:
        await self.execute(
            """insert into messages (org_id, message_id, conversation_id, direction, channel, kind, content, actor,
                ai_generated, sequence, status,
                                     reason, seq, failed_at, occurred_at, received_at)
               values ($1, $2, $3, 'out', $4, 'text', $5, 'ai', true, $6, $7, $8, $9, $10, $11, $11)""",
            ORG,
            message_id,
            self.conversation_id,
            channel,
            {"kind": "text", "text": "Your Golf is ready."},
            self.sequence,
            status,
            reason,
            1 if status == "failed" else 0,
            self.clock() if status == "failed" else None,
            self.clock(),
        )  # fmt: skip -- one statement

    async def _decision(self, message_id: UUID, route: str, reason: str, holder: UUID | None) -> None:
        await self.execute(
            """insert into decisions (org_id, intent_id, attempt, conversation_id, route, channel, reason, slot_holder,
                record, decided_at)
               values ($1, $2, 1, $3, $4, $5, $6, $7, '{}', $8)""",
            ORG,
            message_id,
            self.conversation_id,
            route,
            None if route == "silent" else "sms",
            reason,
            holder,
            self.clock(),
        )


@asynccontextmanager
async def an_sms_world(
    *, dsn: str, redis_url: str, kafka: KafkaConnection, twilio_url: str, public_url: str | None
) -> AsyncIterator[SmsWorld]:
    """The bridge on these servers, in front of Twilio at ``twilio_url``; its callbacks go to ``public_url``."""
    clock = HeldClock()
    async with (
        open_pool(dsn, application_name="test", command_seconds=10) as pool,
        open_redis(redis_url) as redis,
        Producer(kafka) as producer,
        published_on(kafka.bootstrap, kafka.topic_prefix, (DELIVERY_UPDATES, OUTBOUND_REFUSED)) as topics,
        aiohttp.ClientSession() as http,
    ):
        redis_gate = RedisGate(redis, HOLD)

        twilio = Twilio(
            http,
            base_url=twilio_url,
            account_sid=TWILIO_SID,
            auth_token=TWILIO_TOKEN,
            public_url=public_url,
            timeout_seconds=TIMINGS.timeout.total_seconds(),
            now=clock,
        )

        def a_sender(
            *providers: SmsProvider, accounts: SmsAccounts = ONE_ACCOUNT
        ) -> tuple[SmsAdapter, SteppedEngine[OutgoingSms]]:
            adapter = SmsAdapter(
                accounts=accounts,
                providers={provider.key: provider for provider in providers or [twilio]},
                pool=pool,
                redis_gate=redis_gate,
                link_codes=LinkCodes([LINK_KEY, b"older-key"], secrets.choice),
                config=BridgeConfig(
                    timedelta(hours=24), timedelta(minutes=5), HOLD, LINK_LIFE, "https://portal.example"
                ),
                grace=GRACE,
                settling=SETTLING,
            )
            return adapter, SteppedEngine(adapter, pool, producer, TIMINGS, now=clock, concurrency=256)

        adapter, line = a_sender()
        world = SmsWorld(pool, redis, topics, redis_gate, line, adapter, clock, a_sender, twilio)
        await world.seed()
        yield world


async def to_somebody_else(world: SmsWorld, number: int) -> SmsCommand:
    """Plain text to a customer of his own."""
    world.conversation_id, customer_id, phone = uuid4(), uuid4(), f"+44770091{number:04d}"
    async with world.pool.acquire() as db:
        await seeds.a_customer(db, ORG, customer_id, phone)
        columns = {"wa_id": phone[1:], "last_customer_at": world.clock() - timedelta(hours=25)}
        await seeds.a_conversation(db, ORG, world.conversation_id, customer_id, NUMBER_ID, **columns)
    return await world.decided(route="session", text=f"Your car number {number} is ready.", to=phone)
