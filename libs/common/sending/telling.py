"""What became of sends is told once it is committed, and recorded as told once Kafka has it.

Nothing here may hold up a send: what cannot be told now is told later by the sweeper, from the rows.
"""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

from libs.common.db import sends
from libs.common.db.messages import lock_messages, told
from libs.common.db.pool import Pool
from libs.common.events.outbound import DeliveryUpdate, OutboundRefused
from libs.common.events.topics import DELIVERY_UPDATES, OUTBOUND_REFUSED
from libs.common.kafka.producer import Producer, Record
from libs.common.logging import get_logger
from libs.common.send_rows import Key, ProviderName, SendRow
from libs.common.sending.rows import News
from libs.common.transience import is_transient

log = get_logger()

_AT_ONCE = 500
_WAITING_LIMIT = 20_000


class Teller:
    """Publishes news in batches beside the sending; ``tell`` only hands over."""

    def __init__(self, pool: Pool, producer: Producer, provider: ProviderName) -> None:
        self._pool = pool
        self._producer = producer
        self._provider: ProviderName = provider
        self._waiting: list[tuple[Key, list[Record]]] = []
        self._any = asyncio.Event()
        self._ending = False

    def tell(self, news: Iterable[tuple[SendRow, News]]) -> None:
        """Publish soon. When too much waits already (Kafka is away), the sweeper will do it from the rows."""
        for row, what in news:
            if len(self._waiting) < _WAITING_LIMIT:
                self._waiting.append((row.key, _records(row.conversation_id, what.updates, what.refusals)))
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
        """Publish what waits."""
        batch, self._waiting = self._waiting, []
        if batch:
            await self._publish(batch)

    async def tell_untold(self, settled_before: datetime) -> int:
        """Tell settled rows that were not told, by what stands recorded; returns how many."""
        async with self._pool.acquire() as db, db.transaction():
            rows = await sends.untold(db, self._provider, settled_before, _AT_ONCE)
            if not rows:
                return 0
            messages = await lock_messages(db, {(row.org_id, m) for row in rows for m in _rungs(row)})
            updates = {key: told(message) for key, message in messages.items()}
        batch = []
        for row in rows:
            rungs = [updates.get((row.org_id, message_id)) for message_id in _rungs(row)]
            refusals = [OutboundRefused.model_validate(kept) for kept in (row.outcome or {}).get("refusals", ())]
            news = _records(row.conversation_id, [update for update in rungs if update is not None], refusals)
            batch.append((row.key, news))
        await self._producer.publish([record for _key, records in batch for record in records])
        async with self._pool.acquire() as db:
            await sends.mark_told(db, [key for key, _records in batch])
        return len(rows)

    async def _publish(self, batch: Sequence[tuple[Key, list[Record]]]) -> None:
        try:
            await self._producer.publish([record for _key, records in batch for record in records])
            async with self._pool.acquire() as db:
                await sends.mark_told(db, [key for key, _records in batch])
        except Exception as error:  # the rows say what was not told, and the sweeper tells it: nothing is lost
            if is_transient(error):
                log.warning("task.retried", task="tell", exc_info=error)
            else:
                log.exception("task.failed", task="tell")


def _rungs(row: SendRow) -> list[UUID]:
    return [row.message_id, *(UUID(kept) for kept in (row.outcome or {}).get("rungs", ()))]


def _records(
    conversation_id: UUID, updates: Iterable[DeliveryUpdate], refusals: Iterable[OutboundRefused]
) -> list[Record]:
    key = str(conversation_id).encode()
    return [
        *(Record(DELIVERY_UPDATES, key, update.encode()) for update in updates),
        *(Record(OUTBOUND_REFUSED, str(refusal.conversation_id).encode(), refusal.encode()) for refusal in refusals),
    ]
