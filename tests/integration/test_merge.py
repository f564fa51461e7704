"""Two conversations that become one, as the database feels it: who waits for whom, and how much is read."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio

from libs.common.db.pool import Connection, Pool, open_pool
from libs.common.directory import changes
from libs.common.directory.address_marks import record_unreached
from libs.common.directory.merge import Merge, merge_customers
from libs.common.directory.reports import Unreached
from libs.common.events.directory import ConsentChanged
from libs.common.faults import RecipientFault
from libs.common.providers import twilio
from libs.common.sending.merge_slices import MOST, SliceMover, move_some
from libs.common.thread.conversations import refuse_windows
from libs.common.thread.messages import lock_messages
from tests.support.databases import somebody_waits
from tests.support.merges import all_moved

ORG = "acme"
LOSER, WINNER = 1, 2
MANY = 100

# Everything there is about each of many customers; ids are made of their number and what they are the id of.
_PEOPLE = """
create function pg_temp.id(what text, n int) returns uuid return md5(what || n)::uuid;

insert into orgs (org_id, name, upserted_at) values ('acme', 'AcmeMotors', now());
insert into whatsapp_numbers (phone_number_id, org_id, waba_id, display_number, token,
    upserted_at) values ('106400000000001', 'acme', '206400000000001', '+447700900123', null, now());

create temp table people as select n from generate_series(1, 100) as n;

insert into customers (customer_id, org_id, origin) select pg_temp.id('customer', n), 'acme', 'inbound' from people;
insert into customer_identities select 'acme', 'wa_id', n, pg_temp.id('customer', n) from people;
insert into customer_aliases select pg_temp.id('former customer', n), 'acme', pg_temp.id('customer', n) from people;
insert into consents select 'acme', pg_temp.id('customer', n), 'sms', true, now() from people;
insert into conversations (conversation_id, org_id, customer_id, phone_number_id)
select pg_temp.id('conversation', n), 'acme', pg_temp.id('customer', n), '106400000000001' from people;
insert into conversation_aliases select pg_temp.id('former conversation', n), 'acme', pg_temp.id('conversation',
    n) from people;
insert into messages (org_id, message_id, conversation_id, direction, channel, kind, content, status, occurred_at,
    received_at)
select 'acme', pg_temp.id('message', n), pg_temp.id('conversation', n), 'out', 'whatsapp', 'text', '{}', 'pending',
    now(), now() from people;
insert into decisions (org_id, intent_id, attempt, conversation_id, route, reason, record, decided_at)
select 'acme', pg_temp.id('message', n), 1, pg_temp.id('conversation', n), 'bridge', 'window_expired', '{}', now()
    from people;
insert into sends (org_id, message_id, attempt, channel, provider, conversation_id, sequence, account, command, state,
    due_at, expires_at, settled_at, created_at)
select 'acme', pg_temp.id('message', n), 1, 'sms', 'twilio', pg_temp.id('conversation', n), n, '+447700900001', '{}',
    'accepted', now(), now(), now(), now() from people;
insert into bridge_slots select pg_temp.id('conversation', n), 'acme', pg_temp.id('message', n), 'infinity' from people;
insert into charges (org_id, message_id, attempt, conversation_id, channel, provider, category, at)
select 'acme', pg_temp.id('message', n), 1, pg_temp.id('conversation', n), 'sms', 'twilio', 'sms', now() from people;
insert into portal_links
select sha256(n::text::bytea), 'acme', pg_temp.id('conversation', n), pg_temp.id('message', n), 'x.link', '+441', now(),
       now()
    from people;
"""

_OF_CONVERSATION = ("messages", "decisions", "sends", "charges", "conversation_aliases")

_READ = """
select relname, seq_tup_read + coalesce(idx_tup_fetch, 0) from pg_stat_xact_user_tables
    where seq_tup_read + coalesce(idx_tup_fetch, 0) > $1
"""


@pytest_asyncio.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    seeder = await asyncpg.connect(database)  # what it read does not count
    await seeder.execute(_PEOPLE)
    await seeder.execute("analyze")
    await seeder.close()
    async with open_pool(database, application_name="test", size=3, command_seconds=20) as pool:
        yield pool


async def an_id(db: Connection, what: str, number: int) -> UUID:
    found: UUID = await db.fetchval("select md5($1::text || $2::int)::uuid", what, number)
    return found


async def merge(db: Connection, loser: int = LOSER, winner: int = WINNER) -> None:
    await merge_customers(db, [Merge(ORG, await an_id(db, "customer", loser), await an_id(db, "customer", winner))])


@pytest.mark.parametrize("table", _OF_CONVERSATION)
async def test_everything_of_a_conversation_goes_with_it(pool: Pool, table: str) -> None:
    async with pool.acquire() as db:
        async with db.transaction():
            await merge(db)
        await all_moved(db)
        loser, winner = await an_id(db, "conversation", LOSER), await an_id(db, "conversation", WINNER)
        count = f"select count(*) from {table} where conversation_id = $1"
        assert await db.fetchval(count, winner) == (3 if table == "conversation_aliases" else 2)
        assert await db.fetchval(count, loser) == 0


@pytest.mark.parametrize(("of_loser", "of_winner"), [("sms", None), (None, "sms"), (None, None)])
async def test_where_one_of_two_threads_has_only_a_word_the_customer_writes_where_the_other_says(
    pool: Pool, of_loser: str | None, of_winner: str | None
) -> None:
    told = {LOSER: of_loser, WINNER: of_winner}
    wrote = "update conversations set last_inbound_channel = $2, last_inbound_at = $3 where conversation_id = $1"
    async with pool.acquire() as db, db.transaction():
        for number, channel in told.items():
            at = datetime(2026, 11, 20, 9 if channel else 10, tzinfo=UTC)
            await db.execute(wrote, await an_id(db, "conversation", number), channel, at)
        await merge(db)
        asked = "select last_inbound_channel, last_inbound_at from conversations where conversation_id = $1"
        [found] = await db.fetch(asked, await an_id(db, "conversation", WINNER))
    channel = of_loser or of_winner
    assert tuple(found) == (channel, datetime(2026, 11, 20, 9 if channel else 10, tzinfo=UTC))


async def test_no_link_that_led_to_one_of_two_threads_leads_to_the_joint_one(pool: Pool) -> None:
    async with pool.acquire() as db, db.transaction():
        await merge(db)
        both = [await an_id(db, "conversation", number) for number in (LOSER, WINNER)]
        assert await db.fetchval("select count(*) from portal_links where conversation_id = any($1::uuid[])", both) == 0
        assert await db.fetchval("select count(*) from portal_links") == MANY - 2


async def test_a_merge_reads_the_rows_that_it_moves_and_not_whole_tables(pool: Pool) -> None:
    async with pool.acquire() as db, db.transaction():
        await db.execute("set local enable_seqscan = off")  # tables as small as these would be read whole all the same
        await merge(db)
        await all_moved(db)
        assert [tuple(read) for read in await db.fetch(_READ, MANY // 4)] == []


async def test_neither_a_merge_nor_a_slice_of_it_waits_for_a_sender(pool: Pool) -> None:
    async with pool.acquire() as sender, pool.acquire() as db:
        message_id = await an_id(sender, "message", LOSER)
        async with sender.transaction():
            await sender.execute("select from sends where org_id = $1 and message_id = $2 for update", ORG, message_id)
            async with db.transaction():
                await merge(db)
            async with db.transaction():
                await move_some(db, 10)
            (locked,) = (await lock_messages(sender, {(ORG, message_id)})).values()
            assert locked.conversation_id == await an_id(sender, "conversation", WINNER)
            assert await where_it_stands(sender, message_id) == await an_id(sender, "conversation", LOSER)
        await all_moved(db)
        assert await where_it_stands(sender, message_id) == await an_id(sender, "conversation", WINNER)


async def test_a_recipient_marked_by_a_status_and_a_merge_of_that_very_customer_wait_for_each_other_one_way(
    pool: Pool,
) -> None:
    async with pool.acquire() as status, pool.acquire() as merger:
        await status.execute("update customers set phone = '+447700900999'")
        conversation_id = await an_id(status, "conversation", LOSER)
        fault = twilio.fault_of("21610")
        assert isinstance(fault, RecipientFault)
        stopped = Unreached(ORG, conversation_id, "sms", "+447700900999", fault, "21610", "status", datetime.now(UTC))

        async def merging() -> None:
            async with merger.transaction():
                await merge(merger)

        async with status.transaction():
            assert await lock_messages(status, {(ORG, await an_id(status, "message", LOSER))})
            await refuse_windows(status, [(ORG, conversation_id, stopped.at)])
            task: asyncio.Task[None] = asyncio.create_task(merging())
            await somebody_waits(status)
            await record_unreached(status, [stopped])
        await task
        off = "select customer_id from consents where not allowed"
        assert await status.fetchval(off) == await an_id(status, "customer", WINNER)


@pytest.mark.parametrize("first", ["merge", "word"])
async def test_a_consent_told_by_the_directory_while_the_customer_is_merged_is_that_of_whom_they_become(
    pool: Pool, first: str
) -> None:
    """Whichever of the two transactions is open while the other one comes."""

    async def merging(db: Connection) -> None:
        await db.execute("select from customers for update")
        await merge(db)

    async def telling(db: Connection) -> None:
        word = ConsentChanged(
            org_id=ORG,
            at=datetime.now(UTC),
            customer_id=await an_id(db, "customer", LOSER),
            category="sms",
            allowed=False,
        )
        assert await changes.apply(db, [word]) == []

    async def meanwhile(act: Callable[[Connection], Awaitable[None]]) -> None:
        async with pool.acquire() as db, db.transaction():
            await act(db)

    act, other = (merging, telling) if first == "merge" else (telling, merging)
    async with pool.acquire() as db, asyncio.TaskGroup() as tasks:
        await db.execute("delete from consents")
        async with db.transaction():
            await act(db)
            task = tasks.create_task(meanwhile(other))
            waits = tasks.create_task(somebody_waits(db))
            await asyncio.wait({task, waits}, return_when=asyncio.FIRST_COMPLETED)
            waits.cancel()
    async with pool.acquire() as db:
        off = "select customer_id from consents where not allowed"
        assert await db.fetchval(off) == await an_id(db, "customer", WINNER)


async def test_replicas_share_what_is_to_be_moved(pool: Pool) -> None:
    async with pool.acquire() as one, pool.acquire() as other:
        for loser, winner in ((1, 2), (3, 4)):
            async with one.transaction():
                await merge(one, loser, winner)
        async with one.transaction(), other.transaction():
            mine, theirs = await move_some(one, 10), await move_some(other, 10)
            assert mine is not None
            assert theirs is not None
            assert mine.conversation_id != theirs.conversation_id
            assert await move_some(other, 10) is None


async def test_a_slice_that_meets_the_limit_of_a_statement_is_followed_by_smaller_ones(
    pool: Pool, database: str
) -> None:
    async with open_pool(database, application_name="test", size=1, command_seconds=4.0) as hurried:
        mover = SliceMover(hurried)
        async with pool.acquire() as db, pool.acquire() as slow:
            async with db.transaction():
                await merge(db)
            async with slow.transaction():
                await slow.execute("lock table charges in share mode")
                with pytest.raises((asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError)):
                    await mover.move()
            assert mover.size == MOST // 2
            await mover.move()
            assert await where_it_stands(db, await an_id(db, "message", LOSER)) == await an_id(
                db, "conversation", WINNER
            )


async def test_a_merge_that_fails_holds_up_none_of_the_others(pool: Pool) -> None:
    mover = SliceMover(pool)
    async with pool.acquire() as db:
        for loser, winner in ((1, 2), (3, 4)):
            async with db.transaction():
                await merge(db, loser, winner)
        broken = await an_id(db, "conversation", 1)
        await db.execute(
            f"alter table messages add check (message_id <> '{await an_id(db, 'message', 1)}' or conversation_id"
            f" = '{broken}')"
        )
        with pytest.raises(asyncpg.CheckViolationError):
            await mover.move()
        await mover.move()
        assert await where_it_stands(db, await an_id(db, "message", 3)) == await an_id(db, "conversation", 4)
        assert await where_it_stands(db, await an_id(db, "message", 1)) == broken


async def where_it_stands(db: Connection, message_id: UUID) -> UUID:
    """The conversation of a message and of its send."""
    rows = await db.fetch(
        "select conversation_id from messages where message_id = $1"
        " union select conversation_id from sends where message_id = $1 union select conversation_id"
        " from decisions where intent_id = $1",
        message_id,
    )
    (row,) = rows
    found: UUID = row[0]
    return found
