"""What became of sends is told once it is committed, and recorded as told once Kafka has it.

Nothing here may hold up a send: what cannot be told now is told later by the sweeper, from the rows. Who tells a row has it alone for a while
(``publishing_until``): whoever settled it, then whoever takes it; so that replicas do not repeat each other.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from libs.common.bisection import AdaptiveBatchSize
from libs.common.clock import Clock
from libs.common.db.pool import Pool
from libs.common.events.outbound import DeliveryUpdate, OutboundRefused
from libs.common.events.topics import DELIVERY_UPDATES, OUTBOUND_REFUSED
from libs.common.ids import SendKey
from libs.common.kafka.producer import Producer, Record
from libs.common.logging import get_logger
from libs.common.providers import ProviderChannel
from libs.common.retryable import is_retryable
from libs.common.sending import queries as sends
from libs.common.sending.persisting import TELLING
from libs.common.sending.quarantine import Quarantine, halving
from libs.common.sending.rows import PendingEvents, SendRow
from libs.common.thread.messages import delivery_update, lock_messages

log = get_logger()

_AT_ONCE = 500
_WAITING_LIMIT = 20_000
_PUBLISHING = timedelta(seconds=10)
"""Publishing may take so long (``Producer``'s delivery timeout)."""


@dataclass(frozen=True, slots=True)
class _Told:
    """What is to be published of one row, by us alone until then."""

    key: SendKey
    records: list[Record]
    until: datetime


class Publisher:
    """Publishes news in batches beside the sending; ``tell`` only hands over."""

    def __init__(self, pool: Pool, producer: Producer, channel: ProviderChannel, *, now: Clock) -> None:
        self._pool = pool
        self._producer = producer
        self._channel: ProviderChannel = channel
        self._now = now
        self._aside = Quarantine("untold")
        self._portion = AdaptiveBatchSize(_AT_ONCE)
        self._waiting: list[_Told] = []
        self._any = asyncio.Event()
        self._ending = False

    def tell(self, news: Iterable[tuple[SendRow, PendingEvents]]) -> None:
        """Publish soon. When too much waits already (Kafka is away), the sweeper will do it from the rows."""
        for row, what in news:
            if len(self._waiting) < _WAITING_LIMIT:
                records = _records(row.conversation_id, what.updates, what.refusals)
                self._waiting.append(_Told(row.key, records, self._now() + TELLING))
        if self._waiting:
            self._any.set()

    def end(self) -> None:
        """Publish what waits, then return from ``run``."""
        self._ending = True
        self._any.set()

    async def run(self) -> None:
        """Publish for ever, or until ``end`` and nothing waits."""
        while self._waiting or not self._ending:
            await self._any.wait()
            if not self._ending:
                self._any.clear()
            await self.flush()

    async def flush(self) -> None:
        """Publish what waits, but what has waited for so long that it may be told by another."""
        now = self._now()
        batch = [told for told in self._waiting if told.until - now >= _PUBLISHING]
        self._waiting = []
        if batch:
            await self._publish(batch)

    async def publish_pending(self) -> bool:
        """Take settled rows that nobody tells, and tell them by what stands recorded; returns whether there may be more.

        A row on which this fails is set aside: it is taken again by whoever is next.
        """
        now = self._now()
        with self._portion.taken() as size:
            async with self._pool.acquire() as db:
                taken = await sends.take_unpublished(db, self._channel, now, size, now + TELLING)
        left_out = set(self._aside.keys(now))
        await halving([row for row in taken if row.key not in left_out], self._tell_rows, self._aside, now)
        return len(taken) == size

    async def _tell_rows(self, rows: Sequence[SendRow]) -> None:
        async with self._pool.acquire() as db, db.transaction():
            messages = await lock_messages(db, {(row.org_id, m) for row in rows for m in _rungs(row)})
            updates = {key: delivery_update(message) for key, message in messages.items()}
        records = []
        for row in rows:
            message_ids = [updates.get((row.org_id, message_id)) for message_id in _rungs(row)]
            refusals = [OutboundRefused.model_validate(kept) for kept in (row.outcome or {}).get("refusals", ())]
            records += _records(row.conversation_id, [update for update in message_ids if update is not None], refusals)
        await self._producer.publish(records)
        async with self._pool.acquire() as db:
            await sends.mark_published(db, [row.key for row in rows])

    async def _publish(self, batch: Sequence[_Told]) -> None:
        try:
            await self._producer.publish([record for told in batch for record in told.records])
            async with self._pool.acquire() as db:
                await sends.mark_published(db, [told.key for told in batch])
        except Exception as error:  # the rows say what was not told, and the sweeper tells it: nothing is lost
            if is_retryable(error):
                log.warning("task.retried", task="tell", exc_info=error)
            else:
                log.exception("task.failed", task="tell")


def _rungs(row: SendRow) -> list[UUID]:
    return [row.message_id, *(UUID(kept) for kept in (row.outcome or {}).get("message_ids", ()))]


def _records(
    conversation_id: UUID, updates: Iterable[DeliveryUpdate], refusals: Iterable[OutboundRefused]
) -> list[Record]:
    key = str(conversation_id).encode()
    return [
        *(Record(DELIVERY_UPDATES, key, update.encode()) for update in updates),
        *(Record(OUTBOUND_REFUSED, str(refusal.conversation_id).encode(), refusal.encode()) for refusal in refusals),
    ]
