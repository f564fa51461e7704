"""The words of messages are written as they come: no message pays for those before it."""

from statistics import median
from typing import Any

from libs.common.db.pool import Pool
from services.inbox import word_queries
from tests.support.explaining import Explaining

BATCH, BATCHES = 100, 16

# Long texts, so that few fill what PostgreSQL would put off (4 MB)
_TEXTS = """
insert into messages (org_id, message_id, direction, channel, kind, content, status, occurred_at, received_at)
select 'acme', md5('message ' || n)::uuid, 'in', 'whatsapp', 'text', jsonb_build_object('kind', 'text', 'text',
           (select string_agg('word' || hashint4(n * 100 + w), ' ') from generate_series(1, 80) w)), 'received', now(),
       now()
  from generate_series(1, $1::int) n
returning org_id, message_id
"""


async def test_no_batch_of_messages_enters_the_words_of_earlier_ones(growing_pool: Pool) -> None:
    """Put off, they would all be entered by one insert, which then runs into its time limit."""
    async with growing_pool.acquire() as db, db.transaction():
        await db.execute("alter table message_words set (autovacuum_enabled = false)")  # it would enter them, too
        keys = [tuple(row) for row in await db.fetch(_TEXTS, BATCH * BATCHES)]
        pages: list[int] = []
        for first in range(0, len(keys), BATCH):
            await word_queries.write_words(explaining := Explaining(db), keys[first : first + BATCH])  # type: ignore[arg-type]  # it is used like one
            pages += [_pages(plan) for query, plan in explaining.plans if "insert" in query]
    assert len(pages) == BATCHES
    assert max(pages) < 3 * median(pages)


def _pages(plan: dict[str, Any]) -> int:
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
