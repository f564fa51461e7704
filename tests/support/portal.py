"""One customer with a thread, what they do in the portal, and what the worker of ingest makes of it."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from libs.common.db.pool import Pool, open_pool
from libs.common.events.portal import PortalEvent, PortalLinkWanted, PortalMessage, PortalRead, PortalSignedIn
from libs.common.events.topics import DELIVERY_UPDATES, INBOUND_MESSAGES, OUTBOUND_INTENTS, PORTAL_MESSAGES, Topic
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.producer import Producer
from libs.common.kafka.records import Received
from libs.common.providers.accounts import SmsAccounts
from services.ingest.number_gate import NumberGate
from services.ingest.portal import on_portal
from services.ingest.sms_gate import SmsGate
from services.ingest.worker_deps import Deps
from tests.support import world
from tests.support.ingest import DAY, DOUBT, ORG, now
from tests.support.published import Published, published_on
from tests.support.records import a_record
from tests.support.webhooks import NUMBER

WRITTEN = (INBOUND_MESSAGES, DELIVERY_UPDATES, OUTBOUND_INTENTS)
_OUT = """
insert into messages (org_id, message_id, conversation_id, direction, channel, kind, content, status, reason, attempt,
                      seq, notification_type, occurred_at, received_at)
values ($1, $2, $3, 'out', $4, 'text', '{}', $5, $6, $7, $8, $9, now(), now())
"""
_DECIDED = """
insert into decisions (org_id, intent_id, attempt, conversation_id, route, channel, reason, record, decided_at)
values ($1, $2, $3, $4, $5, $6, 'window_expired', '{}', now())
"""


@dataclass
class PortalWorld:
    """The worker's handler and the customer Kim. ``began`` is when Kim last wrote on WhatsApp."""

    deps: Deps
    published: Published
    began: datetime
    customer_id: UUID = field(default_factory=uuid4)
    conversation_id: UUID = field(default_factory=uuid4)

    @property
    def pool(self) -> Pool:
        return self.deps.pool

    async def store(self) -> None:
        async with self.pool.acquire() as db:
            await world.an_org(db, ORG, NUMBER)
            await world.a_customer(db, ORG, self.customer_id, "+447700900999")
            await world.a_conversation(
                *(db, ORG, self.conversation_id, self.customer_id, NUMBER),
                last_customer_at=self.began,
                last_inbound_at=self.began,
                last_inbound_channel="whatsapp",
            )

    def writes(self, text: str = "Is it ready?", **changes: Any) -> PortalMessage:
        fields = {"session": "s-1", "client_id": f"f-{uuid4().hex}", "text": text} | self._event(changes)
        return PortalMessage(**fields)

    def reads(self, *message_ids: UUID, **changes: Any) -> PortalRead:
        return PortalRead(message_ids=list(message_ids), **self._event(changes))

    def signs_in(self, **changes: Any) -> PortalSignedIn:
        return PortalSignedIn(**self._event(changes))

    def wants_a_link(self, **changes: Any) -> PortalLinkWanted:
        return PortalLinkWanted(**self._event(changes))

    def _event(self, changes: dict[str, Any]) -> dict[str, Any]:
        return {"org_id": ORG, "conversation_id": self.conversation_id, "at": now()} | changes

    async def a_message(
        self,
        status: str,
        reason: str | None = None,
        *decisions: tuple[str, str | None],
        channel: str = "whatsapp",
        conversation_id: UUID | None = None,
        notification_type: str | None = None,
    ) -> UUID:
        """A message to the customer, decided as ``decisions`` (route, channel) say, one for each attempt."""
        message_id, conversation = uuid4(), conversation_id or self.conversation_id
        async with self.pool.acquire() as db:
            for attempt, (route, way) in enumerate(decisions, 1):
                await db.execute(_DECIDED, ORG, message_id, attempt, conversation, route, way)
            seq = 0 if status == "pending" else 1
            await db.execute(
                _OUT,
                *(ORG, message_id, conversation, channel, status, reason, max(1, len(decisions)), seq),
                notification_type,
            )
        return message_id

    async def handle(self, *events: PortalEvent, at: datetime | None = None) -> list[str]:
        """One batch. Returns the reasons of what was rejected."""
        deps = self.deps if at is None else replace(self.deps, now=lambda: at)
        batch = [
            Received(event, a_record(event.encode(), topic=PORTAL_MESSAGES.name, offset=offset))
            for offset, event in enumerate(events)
        ]
        return [reject.reason for reject in await on_portal(batch, deps)]

    async def new(self, topic: Topic) -> list[dict[str, Any]]:
        """Everything on the topic so far."""
        return await self.published.events(topic)

    async def row(self, statement: str, *values: Any) -> dict[str, Any]:
        async with self.pool.acquire() as db:
            (found,) = await db.fetch(statement, *values)
            return dict(found)

    async def message(self, message_id: UUID) -> dict[str, Any]:
        return await self.row("select * from messages where org_id = $1 and message_id = $2", ORG, message_id)

    async def conversation(self) -> dict[str, Any]:
        return await self.row("select * from conversations where conversation_id = $1", self.conversation_id)


@asynccontextmanager
async def a_portal_world(dsn: str, kafka: KafkaConnection) -> AsyncIterator[PortalWorld]:
    async with AsyncExitStack() as opened:
        pool = await opened.enter_async_context(open_pool(dsn, application_name="test", size=2, command_seconds=10))
        producer = await opened.enter_async_context(Producer(kafka))
        published = await opened.enter_async_context(published_on(kafka.bootstrap, kafka.topic_prefix, WRITTEN))
        deps = Deps(
            pool, producer, DAY, DOUBT, pool.now, NumberGate(pool), SmsGate(pool, SmsAccounts("twilio", {}, {}))
        )
        made = PortalWorld(deps, published, now() - timedelta(hours=30))
        await made.store()
        yield made
