"""Changes that no event tells are noted for their customers, only where something changed, and nobody waits for it."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from libs.common.db.pool import Pool, open_pool
from libs.common.directory import changes
from libs.common.directory.touched import take, touch
from libs.common.errors import Transient
from libs.common.events.directory import ConsentChanged, CustomerUpserted
from services.inbox.touched import tell_touched
from tests.support import world
from tests.support.databases import slow_down
from tests.support.inbox_world import RULE, nothing_waits
from tests.support.ingest import now

KIM, LEE = (uuid4() for _ in range(2))
NUMBER = "106400000000001"
_CUSTOMERS = "insert into customers (org_id, origin) select $1, 'inbound' from generate_series(1, 50)"
_CONVERSATIONS = "insert into conversations (org_id, customer_id) select org_id, customer_id from customers"


@pytest_asyncio.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    """An organisation with two customers and a conversation of each, named as their customers."""
    async with open_pool(database, application_name="test", size=2, command_seconds=10) as opened:
        async with opened.acquire() as db, db.transaction():
            await world.an_org(db, "acme", NUMBER)
            for customer, phone in ((KIM, "+447700900999"), (LEE, "+447700900998")):
                await world.a_customer(db, "acme", customer, phone)
                await world.a_conversation(db, "acme", customer, customer, NUMBER)
            await take(db, "", 10, 10)
        yield opened


async def apply(pool: Pool, *events: Any) -> None:
    async with pool.acquire() as db, db.transaction():
        assert await changes.apply(db, events) == []


async def taken(pool: Pool) -> set[UUID]:
    async with pool.acquire() as db, db.transaction():
        return {found for _, found in await take(db, "", 10, 10) if found is not None}


async def test_a_name_and_a_consent_are_noted_where_they_change(pool: Pool) -> None:
    at = now() + timedelta(hours=1)
    named = CustomerUpserted(org_id="acme", at=at, customer_id=KIM, name="Kim Larsen")
    refused = ConsentChanged(org_id="acme", at=at, customer_id=LEE, category="sms", allowed=False)
    await apply(pool, named, refused)
    assert await taken(pool) == {KIM, LEE}
    await apply(pool, named, refused)
    assert await taken(pool) == set()
    await apply(pool, named.model_copy(update={"at": at + timedelta(minutes=1)}))
    assert await taken(pool) == set()


async def test_nobody_takes_what_another_transaction_has_not_committed(pool: Pool) -> None:
    async with pool.acquire() as db:
        await touch(db, [("acme", LEE)])
        async with db.transaction():
            await touch(db, [("acme", KIM)])
            assert await taken(pool) == {LEE}
    assert await taken(pool) == {KIM}


async def test_whoever_stores_a_change_does_not_wait_for_who_tells_of_it(pool: Pool) -> None:
    """Neither do two who store changes of the same customers, in whatever order."""
    async with pool.acquire() as telling, pool.acquire() as storing:
        await touch(storing, [("acme", KIM)])
        async with telling.transaction():
            assert await take(telling, "", 10, 10) == [("acme", KIM)]
            await touch(telling, [("acme", LEE)])
            async with storing.transaction():
                await storing.execute("set local lock_timeout = '2s'")
                await touch(storing, [("acme", KIM)])
                await touch(storing, [("acme", LEE)])
    assert await taken(pool) == {KIM, LEE}


async def test_organisations_take_turns(pool: Pool) -> None:
    async with pool.acquire() as db:
        await touch(db, [("acme", KIM)])
        await touch(db, [("acme", LEE)])
        await touch(db, [("bolt", uuid4()), ("core", uuid4())])
        async with db.transaction():
            assert await take(db, "", 2, 1) == [("acme", KIM), ("bolt", None)]
            assert await take(db, "bolt", 2, 1) == [("core", None)]
            assert await take(db, "core", 2, 1) == []
            assert await take(db, "", 2, 1) == [("acme", LEE)]


async def test_while_nobody_tells_a_customer_has_one_row_however_much_changes(pool: Pool) -> None:
    async with pool.acquire() as db:
        for _ in range(20):
            await touch(db, [("acme", KIM), ("acme", LEE), ("bolt", KIM)])
        assert await db.fetchval("select count(*) from touched_customers") == 3
    assert await taken(pool) == {KIM, LEE}


async def test_a_change_that_is_rolled_back_leaves_the_row_of_the_one_before(pool: Pool) -> None:
    async with pool.acquire() as db:
        await touch(db, [("acme", KIM)])
        undone = db.transaction()
        await undone.start()
        await touch(db, [("acme", KIM)])
        await undone.rollback()
    assert await taken(pool) == {KIM}


async def test_customers_without_a_conversation_delay_nobody(pool: Pool) -> None:
    async with pool.acquire() as db:
        await touch(db, [("acme", uuid4()) for _ in range(250)])
        await touch(db, [("acme", KIM)])
    await tell_touched(pool, RULE, nothing_waits)
    async with pool.acquire() as db:
        assert await db.fetchval("select count(*) from touched_customers") == 0
        told = [row["conversation_id"] for row in await db.fetch("select conversation_id from inbox_changes")]
    assert told == [KIM]


async def test_changes_go_in_smaller_portions_where_one_is_too_slow_for_a_statement(database: str) -> None:
    """The same portion was tried in each round: nobody was told anything any more."""
    async with open_pool(database, application_name="test", size=2, command_seconds=0.5) as pool:
        async with pool.acquire() as db, db.transaction():
            for org_id, number in (("acme", NUMBER), ("bolt", "106400000000002")):
                await world.an_org(db, org_id, number, sms_number=None, portal_host=None)
                await db.execute(_CUSTOMERS, org_id)
            await db.execute(_CONVERSATIONS)
            await slow_down(db, "update", "conversation_heads", 0.006)
            await touch(db, [tuple(row) for row in await db.fetch("select org_id, customer_id from customers")])
        await tell_touched(pool, RULE, nothing_waits)
        async with pool.acquire() as db:
            assert await db.fetchval("select count(*) from touched_customers") == 0
            assert await db.fetchval("select count(*) from inbox_changes") == 100


async def test_a_change_stays_where_what_waits_for_it_could_not_be_sent(pool: Pool) -> None:
    async def away(_keys: object) -> None:
        raise Transient("not acknowledged by Kafka")

    async with pool.acquire() as db:
        await touch(db, [("acme", KIM)])
    with pytest.raises(Transient):
        await tell_touched(pool, RULE, away)
    assert await taken(pool) == {KIM}


async def test_a_conversation_of_another_organisation_is_not_given_out(pool: Pool) -> None:
    async with pool.acquire() as db:
        await touch(db, [("bolt", KIM)])
    assert await taken(pool) == set()
