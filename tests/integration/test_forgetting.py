"""What is deleted by its age: what nobody could end any more goes, and no table keeps another one waiting."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import pytest_asyncio

from libs.common.db.pool import Pool, open_pool
from libs.common.events.directory import NumberRemoved
from libs.common.forgetting import forget_all
from libs.common.retryable import is_statement_timeout
from libs.common.sending.pause_queries import UNTRIED
from services.inbox import sending_queries
from services.ingest.tasks import PAUSES_KEPT, purge
from tests.support import world
from tests.support.databases import slow_down
from tests.support.ingest import ORG, now
from tests.support.webhooks import NUMBER

SMS = "+447700900001"
MINUTE = timedelta(minutes=1)

_PAUSES = """
insert into pauses (channel, provider, account, scope, kind, reason, until_at)
select case when provider = 'meta' then 'whatsapp' else 'sms' end, provider, account, 'all', 'fault', '133010', now()
  from unnest($1::text[], $2::text[]) as u (provider, account)
"""
_REFUSED = """
insert into webhook_refusals (edge_id, number, kind, reason, began_at, ended_at, times)
select uuidv7(), 1, 'refused', 'kafka_away', now(), now(), 1
"""
_RESENT = (
    "insert into resends (provider, org_id, message_id, attempt, released_at) select 'meta', 'acme', uuidv7(), 1, now()"
)
_ASKED = """
insert into inbox_sends (org_id, intent_id, user_id, body_hash, sent_at)
select 'acme', uuidv7(), 'u', '', now() from generate_series(1, 600)
"""


@pytest_asyncio.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    """One that waits briefly for locks, on a database with one organisation."""
    async with open_pool(database, application_name="test", size=2, command_seconds=0.5) as pool:
        async with pool.acquire() as db:
            await world.an_org(db, ORG, NUMBER, sms_number=SMS)
        yield pool


async def paused(pool: Pool) -> set[str]:
    async with pool.acquire() as db:
        return {row["account"] for row in await db.fetch("select account from pauses")}


async def test_the_pause_of_a_number_ends_once_no_organisation_has_it(pool: Pool) -> None:
    """No call could end it: it was logged as an error each minute, and its alert went on for ever."""
    ours = {NUMBER: "meta", "*": "meta", SMS: "twilio", f"{SMS}@vonage:AC2": "vonage", "*@twilio:AC1": "twilio"}
    gone = {"106400000000999": "meta", "+447700900999": "twilio", "+447700900999@twilio:AC1": "twilio"}
    async with pool.acquire() as db:
        await db.execute(_PAUSES, [*ours.values(), *gone.values()], [*ours, *gone])
    await purge(pool, pool.now)
    assert await paused(pool) == ours.keys() | gone.keys()
    later = pool.now() + PAUSES_KEPT + MINUTE
    await purge(pool, lambda: later)
    assert await paused(pool) == ours.keys()
    async with pool.acquire() as db:
        await world.change(db, NumberRemoved(org_id=ORG, at=now(), phone_number_id=NUMBER))
    await purge(pool, lambda: later)
    assert await paused(pool) == ours.keys() - {NUMBER}


async def test_a_pause_that_no_call_has_tried_for_a_week_ends(pool: Pool) -> None:
    """Its account at the provider is used no more, though the organisation has kept the number."""
    left = {f"{SMS}@twilio:AC1": "twilio", "*@twilio:AC1": "twilio", NUMBER: "meta"}
    async with pool.acquire() as db:
        await db.execute(_PAUSES, [*left.values()], [*left])
        await db.execute("update pauses set until_at = now() + interval '2 days' where account = $1", NUMBER)
    later = pool.now() + PAUSES_KEPT + UNTRIED
    await purge(pool, lambda: later - MINUTE)
    assert await paused(pool) == left.keys()
    await purge(pool, lambda: later + MINUTE)
    assert await paused(pool) == {NUMBER}


async def test_a_table_with_a_locked_row_keeps_no_other_from_being_cleared(pool: Pool) -> None:
    later = pool.now() + timedelta(days=9)
    async with pool.acquire() as db:
        await db.execute(_REFUSED)
        await db.execute(_RESENT)
        async with db.transaction():
            await db.execute("select from webhook_refusals for update")
            with pytest.raises(Exception, match="timeout") as slow:
                await purge(pool, lambda: later)
        assert is_statement_timeout(slow.value)
        assert not await db.fetchval("select exists (select from resends)")
        await purge(pool, lambda: later)
        assert not await db.fetchval("select exists (select from webhook_refusals)")


async def test_rows_go_in_smaller_slices_where_a_slice_is_too_slow_for_a_statement(pool: Pool) -> None:
    async with pool.acquire() as db:
        await db.execute(_ASKED)
        await slow_down(db, "delete", "inbox_sends", 0.002)
    await forget_all(pool, sending_queries.forget, pool.now() + MINUTE)
    async with pool.acquire() as db:
        assert not await db.fetchval("select exists (select from inbox_sends)")
