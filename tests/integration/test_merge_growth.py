"""A thread of any length is merged, and asked about, at the same cost."""

import pytest

from libs.common.db.pool import Pool
from libs.common.directory.merge import Merge, merge_customers
from libs.common.sending.merge_slices import move_some
from libs.common.thread import conversations
from libs.common.thread.conversations import SenderFilter
from tests.support.explaining import Explaining
from tests.support.growth import DAY, TAKEN
from tests.support.ingest import ORG, now
from tests.support.threads import Threads

_THREAD = """
insert into messages (org_id, message_id, conversation_id, direction, channel, provider, account, provider_id, kind,
    content, status, occurred_at, received_at,
                      from_wa_id)
select 'acme', uuidv7(interval '-30 days' + n * interval '1 second'), $1::uuid, 'in', 'whatsapp', 'meta',
    '106400000000777', 'wamid ' || n, 'text', '{}', 'received',
       now() - interval '30 days' + n * interval '1 second', now() - interval '30 days' + n * interval '1 second',
           '447700900999'
  from generate_series(1, $2::int) n
"""
_QUEUE = """
insert into sends (org_id, message_id, attempt, channel, conversation_id, sequence, account, command, due_at,
    expires_at, created_at)
select 'acme', uuidv7(), 1, 'whatsapp', $1::uuid, n, '106400000000777', '{}', now(), now() + interval '1 day',
    now() from generate_series(1, $2::int) n
"""


@pytest.mark.parametrize("rows", [5_000, pytest.param(100_000, marks=[pytest.mark.proof, pytest.mark.timeout(600)])])
async def test_a_thread_of_any_length_is_merged_and_reconcile_progress_for_strangers_at_the_same_cost(
    growing_pool: Pool, rows: int
) -> None:
    async with growing_pool.acquire() as db:
        threads = Threads(db)
        await threads.opened(2)
        await db.execute(_THREAD, threads.conversations[0], rows)
        await db.execute(_QUEUE, threads.conversations[0], rows)
        await db.execute("analyze")
        undone = db.transaction()
        await undone.start()
        explaining = Explaining(db)
        asked = SenderFilter(ORG, threads.customers, ["447700900999"], [], now() - DAY)
        assert await conversations.messages_from(explaining, asked) == []  # type: ignore[arg-type]  # it is used like one
        assert explaining.too_much(5 * TAKEN) == []  # a page of the thread
        explaining = Explaining(db)
        await merge_customers(explaining, [Merge(ORG, *threads.customers)])  # type: ignore[arg-type]  # it is used like one
        assert explaining.too_much(10) == []
        for _ in range(4):
            await db.execute("update conversation_merges set due_at = now()")  # which stands still in a transaction
            explaining = Explaining(db)
            assert await move_some(explaining, TAKEN)  # type: ignore[arg-type]  # it is used like one
            assert explaining.too_much(TAKEN) == []
        await undone.rollback()
