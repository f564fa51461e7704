"""The events of settled sends are published after the commit, and marked as published once Kafka has them.

A publish never delays a send. What cannot be published now, the sweeper publishes from the rows. A process leases a row
for ``PUBLISH_LEASE`` (``publishing_until``) to publish its events: first the process that settled it, then the process
that takes it. So replicas do not publish the same events.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from libs.common.bisection import AdaptiveBatchSize
from libs.common.clock import Clock
from libs.common.db.pool import Pool
from libs.common.events.outbound import NewStatus, OutboundRefused
from libs.common.events.topics import DELIVERY_UPDATES, OUTBOUND_REFUSED
from libs.common.ids import SendKey
from libs.common.kafka.producer import Producer, Record
from libs.common.periodic import log_trouble
from libs.common.providers import ProviderChannel
from libs.common.sending import queries as sends
from libs.common.sending.persisting import PUBLISH_LEASE
from libs.common.sending.quarantine import Quarantine, halving
from libs.common.sending.rows import PendingEvents, SendRow
from libs.common.thread.messages import delivery_update, lock_messages

_AT_ONCE = 500
_WAITING_LIMIT = 20_000
_PUBLISHING = timedelta(seconds=10)
"""The longest time that a publish takes (``Producer``'s delivery timeout)."""


@dataclass(frozen=True, slots=True)
class _Unpublished:
    """The records of one row, whose publish lease this process holds ``until`` then."""

    key: SendKey
    records: list[Record]
    until: datetime


class EventPublisher:
    """Publishes pending events in batches, in a task of its own. ``publish`` only appends to its list."""

    def __init__(self, pool: Pool, producer: Producer, channel: ProviderChannel, *, now: Clock) -> None:
        self._pool = pool
        self._producer = producer
        self._channel: ProviderChannel = channel
        self._now = now
        self._quarantine = Quarantine("publish")
        self._portion = AdaptiveBatchSize(_AT_ONCE)
        self._waiting: list[_Unpublished] = []
        self._any = asyncio.Event()
        self._ending = False

    def publish(self, pending: Iterable[tuple[SendRow, PendingEvents]]) -> None:
        """Publish soon. While too many rows wait, because Kafka is away, events are left to the sweeper."""
        for row, events in pending:
            if len(self._waiting) < _WAITING_LIMIT:
                records = _records(events.updates, events.refusals)
                self._waiting.append(_Unpublished(row.key, records, self._now() + PUBLISH_LEASE))
        if self._waiting:
            self._any.set()

    def end(self) -> None:
        """Publish what waits, then return from ``run``."""
        self._ending = True
        self._any.set()

    async def run(self) -> None:
        """Publish until ``end`` was called and nothing waits."""
        while self._waiting or not self._ending:
            await self._any.wait()
            if not self._ending:
                self._any.clear()
            await self.flush()

    async def flush(self) -> None:
        """Publish what waits, except rows whose lease ends soon: another process may publish them."""
        now = self._now()
        batch = [one for one in self._waiting if one.until - now >= _PUBLISHING]
        self._waiting = []
        if batch:
            await self._publish(batch)

    async def publish_pending(self) -> bool:
        """Take unpublished rows without a lease and publish what they store. Returns whether there may be more.

        A row on which this fails is quarantined in this process; another process may take it.
        """
        now = self._now()
        with self._portion.taken() as size:
            async with self._pool.acquire() as db:
                taken = await sends.take_unpublished(db, self._channel, now, size, now + PUBLISH_LEASE)
        left_out = set(self._quarantine.keys(now))
        await halving([row for row in taken if row.key not in left_out], self._publish_rows, self._quarantine, now)
        return len(taken) == size

    async def _publish_rows(self, rows: Sequence[SendRow]) -> None:
        async with self._pool.acquire() as db, db.transaction():
            messages = await lock_messages(db, {(row.org_id, m) for row in rows for m in _message_ids(row)})
            updates = {key: delivery_update(message) for key, message in messages.items()}
        records = []
        for row in rows:
            statuses = [updates.get((row.org_id, message_id)) for message_id in _message_ids(row)]
            refusals = [OutboundRefused.model_validate(kept) for kept in (row.outcome or {}).get("refusals", ())]
            records += _records([update for update in statuses if update is not None], refusals)
        await self._producer.publish(records)
        async with self._pool.acquire() as db:
            await sends.mark_published(db, [row.key for row in rows])

    async def _publish(self, batch: Sequence[_Unpublished]) -> None:
        try:
            await self._producer.publish([record for one in batch for record in one.records])
            async with self._pool.acquire(kept_plans=True) as db:
                await sends.mark_published(db, [one.key for one in batch])
        except Exception as error:  # noqa: BLE001 -- logged; the sweeper publishes it from the rows: nothing is lost
            log_trouble("publish", error)


def _message_ids(row: SendRow) -> list[UUID]:
    return [row.message_id, *(UUID(kept) for kept in (row.outcome or {}).get("message_ids", ()))]


def _records(updates: Iterable[NewStatus], refusals: Iterable[OutboundRefused]) -> list[Record]:
    return [
        *(Record(DELIVERY_UPDATES, update.key, update.encode()) for update in updates),
        *(Record(OUTBOUND_REFUSED, refusal.key, refusal.encode()) for refusal in refusals),
    ]
