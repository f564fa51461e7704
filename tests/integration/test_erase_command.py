"""``transom erase``: what it waits for, what it leaves when it is killed, and what goes on afterwards."""

import asyncio
import signal
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from libs.common.clock import utc_now
from libs.common.db.pool import Pool, open_pool
from libs.common.directory import erasure
from libs.common.directory.merge import Merge, merge_customers
from libs.common.errors import Transient
from tests.support import world
from tests.support.command import COMMAND, complaint, environment, running, transom
from tests.support.databases import somebody_waits
from tests.support.ingest import ORG
from tests.support.merges import all_moved
from tests.support.webhooks import NUMBER

PHONE, OTHER = "+447700900999", "+447700900998"
MANY = 3 * erasure.MOST

_SAID = """
insert into messages (org_id, conversation_id, direction, channel, kind, content, status, occurred_at, received_at)
select $1, $2, 'in', 'whatsapp', 'text', jsonb_build_object('kind', 'text', 'text', 'word ' || n), 'received', now(),
       now()
  from generate_series(1, $3::int) n
"""
_HOLD = """
select from messages
 where message_id = (select message_id from messages where conversation_id = $1 order by sequence offset $2 limit 1)
   for update
"""
_LEFT = "select count(*) from messages where conversation_id = $1 and not content ? 'erased'"


@pytest_asyncio.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with open_pool(database, application_name="test", size=3, command_seconds=20) as pool:
        async with pool.acquire() as db:
            await world.an_org(db, ORG, NUMBER)
        yield pool


async def a_thread(pool: Pool, messages: int, phone: str = PHONE) -> tuple[UUID, UUID]:
    """A customer and their conversation."""
    customer, conversation = uuid4(), uuid4()
    async with pool.acquire() as db:
        await world.a_customer(db, ORG, customer, phone)
        await world.a_conversation(db, ORG, conversation, customer, NUMBER, wa_id=phone.lstrip("+"))
        await db.execute(_SAID, ORG, conversation, messages)
    return customer, conversation


async def value(pool: Pool, statement: str, *arguments: Any) -> Any:
    async with pool.acquire() as db:
        return await db.fetchval(statement, *arguments)


async def erased(database: str, conversation: UUID, *words: str) -> str:
    env = environment(POSTGRES_DSN=database)
    ended = await asyncio.to_thread(transom, "erase", "--org", ORG, str(conversation), *words, env=env)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


async def refused(database: str, conversation: UUID, org: str = ORG) -> str:
    env = environment(POSTGRES_DSN=database)
    return await asyncio.to_thread(complaint, "erase", "--org", org, str(conversation), "--yes", env=env)


async def test_without_yes_it_says_what_would_go_and_with_it_goes_and_then_nothing_is_left(
    pool: Pool, database: str
) -> None:
    customer, conversation = await a_thread(pool, 3)
    what = f"the customer {customer}: 1 conversations, 3 messages, 0 links and sessions\n"
    assert (
        await erased(database, conversation) == f"would erase {what}nothing is erased yet: --yes erases it for good\n"
    )
    assert await value(pool, _LEFT, conversation) == 3
    assert await erased(database, conversation, "--yes") == f"erased {what}"
    assert await erased(database, conversation, "--yes") == "nothing of this customer is left to erase\n"
    lines = "select array_agg(action) from audit_log where org_id = $1 and customer_id = $2"
    assert await value(pool, lines, ORG, customer) == ["erased"]


async def test_a_killed_erasure_has_ended_who_the_customer_was_and_the_next_run_erases_the_rest(
    pool: Pool, database: str
) -> None:
    _, conversation = await a_thread(pool, MANY)
    words = (*COMMAND, "erase", "--org", ORG, str(conversation), "--yes")
    async with pool.acquire() as db, db.transaction():  # the second slice waits for its first message
        await db.execute(_HOLD, conversation, erasure.MOST)
        async with running(*words, env=environment(POSTGRES_DSN=database)) as process:
            await somebody_waits(db)
            process.send_signal(signal.SIGKILL)
            await process.wait()
    left = await value(pool, _LEFT, conversation)
    assert left == MANY - erasure.MOST
    assert await value(pool, "select count(*) from customer_identities where org_id = $1", ORG) == 0
    assert f" {left} messages," in await erased(database, conversation, "--yes")
    assert await value(pool, _LEFT, conversation) == 0


@pytest.mark.parametrize("slices", [0, 1, 2])
async def test_it_may_end_between_any_two_slices(pool: Pool, database: str, slices: int) -> None:
    _, conversation = await a_thread(pool, 2 * erasure.MOST + 1)
    async with pool.acquire() as db:
        whom = await erasure.find(db, ORG, conversation)
        assert whom is not None
        async with db.transaction():
            await erasure.forget_person(db, whom, utc_now())
        after: int | None = -1
        for _ in range(slices):
            assert after is not None
            async with db.transaction():
                after = (await erasure.erase_slice(db, whom, conversation, after)).after
    left = 2 * erasure.MOST + 1 - slices * erasure.MOST
    assert f" {left} messages," in await erased(database, conversation, "--yes")
    assert await value(pool, _LEFT, conversation) == 0


async def _pending(pool: Pool, conversation: UUID) -> UUID:
    """A message to the customer that was decided."""
    message_id = uuid4()
    async with pool.acquire() as db:
        await db.execute(
            "insert into messages (org_id, message_id, conversation_id, direction, channel, kind, content, status,"
            " occurred_at, received_at) values ($1, $2, $3, 'out', 'whatsapp', 'text', '{}', 'pending', now(), now())",
            *(ORG, message_id, conversation),
        )
    return message_id


async def _send(pool: Pool, conversation: UUID, message_id: UUID) -> None:
    async with pool.acquire() as db:
        await db.execute(
            "insert into sends (org_id, message_id, attempt, channel, account, conversation_id, sequence, expires_at,"
            " created_at, command, due_at) values ($1, $2, 1, 'whatsapp', $3, $4, 1, now(), now(), '{}', now())",
            *(ORG, message_id, NUMBER, conversation),
        )


async def _refusal(pool: Pool, _: UUID, message_id: UUID) -> None:
    async with pool.acquire() as db:
        await db.execute("insert into refusals values ($1, $2, 1, '{}', now())", ORG, message_id)
        await db.execute("update messages set status = 'sent' where message_id = $1", message_id)


async def _decision(pool: Pool, conversation: UUID, message_id: UUID) -> None:
    """Its command has not come to a sender."""


async def _release(pool: Pool, conversation: UUID, message_id: UUID) -> None:
    async with pool.acquire() as db:
        await db.execute("update messages set status = 'failed' where message_id = $1", message_id)
        await db.execute(
            "insert into parked_messages (org_id, message_id, conversation_id, kind, actor, content, written_at,"
            " expires_at, state, intent_id) values ($1, $2, $3, 'failed', 'ai', '{}', now(), now(), 'sent', $2)",
            *(ORG, message_id, conversation),
        )
        await db.execute("insert into parked_releases values ($1, $2, $3, '{}', now())", ORG, message_id, conversation)


UNDER_WAY = {"a send": _send, "a refusal": _refusal, "a decision": _decision, "a release": _release}


@pytest.mark.parametrize("what", UNDER_WAY)
async def test_nothing_is_erased_while_a_message_to_the_customer_is_under_way(
    pool: Pool, database: str, what: str
) -> None:
    _, conversation = await a_thread(pool, 1)
    message_id = await _pending(pool, conversation)
    await UNDER_WAY[what](pool, conversation, message_id)
    assert "nothing was erased: 1 messages to this customer are under way" in await refused(database, conversation)
    assert await value(pool, _LEFT, conversation) == 2
    assert await value(pool, "select count(*) from customer_identities where org_id = $1", ORG) > 0


async def test_an_accepted_message_of_which_nothing_was_heard_is_not_waited_for(pool: Pool, database: str) -> None:
    _, conversation = await a_thread(pool, 1)
    message_id = await _pending(pool, conversation)
    await _send(pool, conversation, message_id)
    async with pool.acquire() as db:
        await db.execute("update sends set state = 'accepted', settled_at = now()")
    await erased(database, conversation, "--yes")
    assert await value(pool, _LEFT, conversation) == 0


async def test_a_merge_is_waited_for_and_both_threads_go_under_either_id(pool: Pool, database: str) -> None:
    (loser, old), (winner, conversation) = await a_thread(pool, 3, OTHER), await a_thread(pool, 2)
    async with pool.acquire() as db:
        async with db.transaction():
            await merge_customers(db, [Merge(ORG, loser, winner)])
        assert "rows of a merged conversation are still being moved" in await refused(database, old)
        await all_moved(db)
    assert f"the customer {winner}: 1 conversations, 5 messages," in await erased(database, old, "--yes")
    assert await value(pool, _LEFT, conversation) == 0


async def test_a_customer_who_becomes_part_of_this_one_just_now_is_waited_for_too(pool: Pool, database: str) -> None:
    """The command has looked; the merge is committed before the command begins."""
    (loser, _), (winner, conversation) = await a_thread(pool, 3, OTHER), await a_thread(pool, 2)
    async with pool.acquire() as db:
        whom = await erasure.find(db, ORG, conversation)
        assert whom is not None
        assert (await erasure.look(db, whom)).merging == 0
        async with db.transaction():
            await merge_customers(db, [Merge(ORG, loser, winner)])
        with pytest.raises(
            Transient, match="nothing was erased: another customer became part of this one: run it again"
        ):
            await erasure.erase(db, whom, utc_now())
        assert await value(pool, "select count(*) from messages where content ? 'erased'") == 0
        assert await value(pool, "select count(*) from customer_identities where org_id = $1", ORG) > 0
        await all_moved(db)
    assert " 5 messages," in await erased(database, conversation, "--yes")


async def test_a_customer_without_a_conversation_is_erased_by_their_id_also_by_one_of_before_a_merge(
    pool: Pool, database: str
) -> None:
    loser, winner = uuid4(), uuid4()
    async with pool.acquire() as db, db.transaction():
        await world.a_customer(db, ORG, loser, OTHER)
        await world.a_customer(db, ORG, winner, PHONE)
        await merge_customers(db, [Merge(ORG, loser, winner)])
    assert "no such customer" in await refused(database, winner, "bobs")
    assert f"the customer {winner}: 0 conversations, 0 messages," in await erased(database, loser, "--yes")
    assert await value(pool, "select count(*) from customer_identities") == 0
    assert await value(pool, "select concat(name, phone, directory_phone) from customers") == ""
    assert "nothing of this customer is left" in await erased(database, winner, "--yes")


async def test_a_conversation_of_another_organisation_is_unknown(pool: Pool, database: str) -> None:
    _, conversation = await a_thread(pool, 1)
    assert "no such conversation" in await refused(database, conversation, "bobs")
    assert await value(pool, _LEFT, conversation) == 1
