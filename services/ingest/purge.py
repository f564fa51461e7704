"""What is kept for a while is deleted after it, a portion at a time.

| what | kept | because |
| --- | --- | --- |
| statuses whose send was never found | 8 days | Meta tries for 7 days, and a provider id is stored within minutes |
| such statuses that name no send at all | 1 hour | they can only have waited for an answer |
| notices of changed ids | 8 days | what was written before one comes within 7 days |
| expired links of the portal | 1 day | until then people may ask why one does not open |
| marks of addresses that are over | 1 day | |
| parked records | as long as their dead letters | |
| refusals of the edge, edges that are gone, resends | 8 days | people can see why a message went twice or late |
"""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from libs.common.bisection import AdaptiveBatchSize
from libs.common.clock import Clock
from libs.common.db.pool import Connection, Pool
from libs.common.directory.address_marks import purge_marks
from libs.common.directory.identity_queries import purge_notices
from libs.common.events.topics import OUTBOUND_INTENTS
from libs.common.kafka.parked_queries import forget_parked
from libs.common.retryable import is_statement_timeout
from libs.common.sending.coverage_queries import forget_edges, forget_refusals, forget_resends
from libs.common.thread.statuses import forget_early, forget_nameless
from services.ingest.queries import purge_links

KEPT = timedelta(days=8)
NAMELESS_KEPT = timedelta(hours=1)
LINKS_KEPT = timedelta(days=1)
MARKS_KEPT = timedelta(days=1)
PERIOD = timedelta(minutes=10)
_AT_ONCE = 2000


async def purge(pool: Pool, now: Clock) -> None:
    """Delete all that is old enough."""
    await _purge(pool, forget_early, now() - KEPT)
    await _purge(pool, forget_nameless, now() - NAMELESS_KEPT)
    await _purge(pool, purge_notices, now() - KEPT)
    await _purge(pool, purge_links, now() - LINKS_KEPT)
    await _purge(pool, purge_marks, now() - MARKS_KEPT)
    await _purge(pool, forget_parked, now() - OUTBOUND_INTENTS.dlq.retention)
    for some in (forget_edges, forget_refusals, forget_resends):
        await _purge(pool, some, now() - KEPT)


async def _purge(pool: Pool, some: Callable[[Connection, datetime, int], Awaitable[int]], before: datetime) -> None:
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
