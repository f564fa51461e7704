"""A thread of any length is merged, and asked about, at the same cost."""

from typing import Any

import pytest

from libs.common.db.pool import Pool
from libs.common.directory import erased_identities, suppressions
from libs.common.directory.identities import open_register
from libs.common.directory.merge import Merge, merge_customers
from libs.common.directory.numbers import store_numbers
from libs.common.events.directory import NumberUpserted
from libs.common.sending.merge_slices import move_some
from libs.common.thread import parting
from libs.common.thread.parting import SenderFilter
from tests.support.explaining import Explaining
from tests.support.growth import CUSTOMERS, DAY, TAKEN, let_indexes_lead, tell_the_planner_nothing, too_much
from tests.support.ingest import ORG, now
from tests.support.threads import Threads
from tests.support.webhooks import NUMBER

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

_PEOPLE = (
    *CUSTOMERS,
    """
insert into former_identities (org_id, kind, value, customer_id, since, until, source, ended_by)
select org_id, kind, value, customer_id, since, now(), source, 'notice' from customer_identities
""",
    """
insert into suppressions (org_id, identity, category, at)
select org_id, sha256(convert_to(org_id || ' ' || phone, 'UTF8')), 'marketing', now() from customers
""",
    """
insert into erased_identities (org_id, identity, at)
select org_id, sha256(convert_to(org_id || ' ' || phone, 'UTF8')), now() from customers
""",
)


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
        assert await parting.messages_from(explaining, [asked]) == [[]]  # type: ignore[arg-type]  # it is used like one
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


@pytest.mark.parametrize("rows", [5_000, pytest.param(100_000, marks=[pytest.mark.proof, pytest.mark.timeout(600)])])
async def test_people_are_known_and_merged_at_the_same_cost_however_many_others_there_are(
    growing_pool: Pool, rows: int
) -> None:
    async def known_and_merged(db: Any) -> None:
        people = [row["customer_id"] for row in await db.db.fetch("select customer_id from customers limit $1", TAKEN)]
        phones = [f"+4477{10_000_000 + n}" for n in range(1, TAKEN + 1)]
        await open_register(db, [(ORG, "phone", phone) for phone in phones], people)
        assert len(await erased_identities.over(db, [(ORG, phone, now() - DAY) for phone in phones])) == TAKEN
        await suppressions.follow(db, [(ORG, *one) for one in zip(people, phones, strict=True)])
        await merge_customers(db, [Merge(ORG, *pair) for pair in zip(people[:5], people[5:10], strict=True)])

    async with growing_pool.acquire() as db:
        await tell_the_planner_nothing(db)
        for place in _PEOPLE:
            await db.execute(place, rows) if "$1" in place else await db.execute(place)
        await let_indexes_lead(db, rows)
        found = await too_much(db, {"nothing is believed": known_and_merged}, 2 * TAKEN)
        await db.execute("analyze")
        found += await too_much(db, {"what is so is believed": known_and_merged}, 2 * TAKEN)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("rows", [5_000, pytest.param(100_000, marks=[pytest.mark.proof, pytest.mark.timeout(600)])])
async def test_the_conversations_of_a_number_that_moved_are_each_found_once(growing_pool: Pool, rows: int) -> None:
    async def moved(db: Any) -> None:
        meta_id = "106400000000778"
        change = NumberUpserted(
            org_id=ORG, at=now(), phone_number_id=meta_id, waba_id=meta_id, display_number="+447700900123"
        )
        assert await store_numbers(db, [(0, change)]) == []
        asked = "select count(*) from conversations where phone_number_id = $1"
        assert await db.db.fetchval(asked, meta_id) == rows

    async with growing_pool.acquire() as db:
        await db.execute(_PEOPLE[0], rows)
        opened = "insert into conversations (org_id, customer_id, phone_number_id) select org_id, customer_id, $1"
        await db.execute(f"{opened} from customers", NUMBER)
        await let_indexes_lead(db, rows)
        await db.execute("analyze")
        found = await too_much(db, {"a number moves": moved}, rows)
    assert not found, "\n".join(found)
