"""What is kept for a while is forgotten after it, a little at a time.

Statuses that came before the id of their send and never found it: Meta tries for 7 days and an id is stored within minutes, so after 8 days such
a status belongs to a send that is not ours; one that names no send at all can only have waited for an answer. Notices of changed numbers: what was written before one comes within the same time. Links of the
portal that have expired: a day later nobody asks any more why one does not open. What lay in a dead-letter topic is gone from there after its retention.
What the edge refused, edges that are gone, and which sends were made once more: as long as Meta tries, so that people can see why something went
twice or late.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from libs.common.bisection import AdaptiveBatchSize
from libs.common.clock import Clock
from libs.common.db.pool import Connection, Pool
from libs.common.directory.address_marks import purge_marks
from libs.common.directory.identity_queries import forget_notices
from libs.common.events.topics import OUTBOUND_INTENTS
from libs.common.kafka.parked_queries import forget_parked
from libs.common.retryable import is_statement_timeout
from libs.common.sending.coverage_queries import forget_edges, forget_refusals, forget_resends
from libs.common.thread.statuses import forget_early, forget_nameless
from services.ingest.queries import forget_links

KEPT = timedelta(days=8)
NAMELESS_KEPT = timedelta(hours=1)
LINKS_KEPT = timedelta(days=1)
MARKS_KEPT = timedelta(days=1)
PERIOD = timedelta(minutes=10)
_AT_ONCE = 2000


async def forget(pool: Pool, now: Clock) -> None:
    """Forget all that is old enough."""
    await _forget(pool, forget_early, now() - KEPT)
    await _forget(pool, forget_nameless, now() - NAMELESS_KEPT)
    await _forget(pool, forget_notices, now() - KEPT)
    await _forget(pool, forget_links, now() - LINKS_KEPT)
    await _forget(pool, purge_marks, now() - MARKS_KEPT)
    await _forget(pool, forget_parked, now() - OUTBOUND_INTENTS.dlq.retention)
    for some in (forget_edges, forget_refusals, forget_resends):
        await _forget(pool, some, now() - KEPT)


async def _forget(pool: Pool, some: Callable[[Connection, datetime, int], Awaitable[int]], before: datetime) -> None:
    portion = AdaptiveBatchSize(_AT_ONCE)
    while True:
        try:
            with portion.taken() as size:
                async with pool.acquire() as db:
                    gone = await some(db, before, size)
        except Exception as error:
            if not is_statement_timeout(error) or size == 1:
                raise
            continue  # fewer at once
        if gone < size:
            return
