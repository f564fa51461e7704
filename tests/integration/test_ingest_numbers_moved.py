"""A number moves to another WABA with its conversations, also those that somebody opens under its old id meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from libs.common.db.pool import Connection
from libs.common.directory import changes as directory_changes
from libs.common.directory.identities import Observation, resolve
from libs.common.errors import Transient
from libs.common.events.directory import NumberUpserted
from libs.common.thread.newest import newest_of
from services.inbox.heads import refresh
from services.inbox.touched import tell_touched
from services.ingest import identity
from services.ingest.identity import IdentityRequest
from tests.support.databases import somebody_waits
from tests.support.inbox_world import RULE, nothing_waits
from tests.support.ingest import ORG, now
from tests.support.people import KIM, OLD, People, a_text
from tests.support.webhooks import NUMBER

MOVED = "106400000000002"


def a_move(*, hours: int = 0) -> NumberUpserted:
    """NUMBER is in another WABA from now on, and its id is MOVED."""
    at = now() + timedelta(hours=hours)
    return NumberUpserted(
        org_id=ORG, at=at, phone_number_id=MOVED, waba_id="206400000000009", display_number="+447700900123"
    )


async def write(db: Connection) -> None:
    """A customer nobody knows writes by WhatsApp."""
    assert await identity.resolve(db, [IdentityRequest(ORG, NUMBER, a_text(KIM, now()))], now()) != [None]


async def text(db: Connection) -> None:
    """A customer nobody knows sends an SMS. Their conversation is with the organisation's first number."""
    at = now()
    seen = Observation(ORG, f"+{OLD}", None, None, at, "message", origin="inbound")
    [who] = await resolve(db, [seen], at)
    assert who.customer_id is not None
    assert await newest_of(db, [(ORG, who.customer_id)])


async def numbers(people: People) -> list[str]:
    return [row["phone_number_id"] for row in await people.rows("select phone_number_id from conversations")]


@pytest.mark.parametrize("begin", [write, text])
async def test_a_conversation_that_is_being_opened_when_the_number_moves_goes_with_it(
    people: People, begin: Callable[[Connection], Awaitable[None]]
) -> None:
    async with asyncio.TaskGroup() as tasks, people.pool.acquire() as db:
        async with db.transaction():
            await begin(db)
            moves = tasks.create_task(people.apply(a_move()))
            waits = tasks.create_task(somebody_waits(db))
            await asyncio.wait({moves, waits}, return_when=asyncio.FIRST_COMPLETED)
            waits.cancel()
        await moves
    assert await numbers(people) == [MOVED]


@pytest.mark.parametrize("begin", [write, text])
async def test_a_conversation_that_is_opened_while_the_number_moves_is_opened_where_it_went(
    people: People, begin: Callable[[Connection], Awaitable[None]]
) -> None:
    async def opens() -> None:
        async with people.pool.acquire() as db, db.transaction():
            await begin(db)

    async with asyncio.TaskGroup() as tasks, people.pool.acquire() as db:
        async with db.transaction():
            assert await directory_changes.apply(db, [a_move()]) == []
            opened = tasks.create_task(refused(opens))
            waits = tasks.create_task(somebody_waits(db))
            await asyncio.wait({opened, waits}, return_when=asyncio.FIRST_COMPLETED)
            waits.cancel()
        assert await opened  # the batch comes again
    assert await numbers(people) == []
    kims = await people.writes(0, KIM)
    assert await people.writes(1, KIM, number=MOVED) == kims
    assert await numbers(people) == [MOVED]


async def test_the_inbox_lists_conversations_under_the_number_to_which_they_moved(people: People) -> None:
    kims = await people.writes(0, KIM)
    async with people.pool.acquire() as db, db.transaction():
        await refresh(db, [(ORG, kims)], RULE)
    await people.apply(a_move())
    await tell_touched(people.pool, RULE, nothing_waits)
    heads = await people.rows("select conversation_id, phone_number_id from conversation_heads")
    assert heads == [{"conversation_id": kims, "phone_number_id": MOVED}]


async def refused(act: Callable[[], Awaitable[None]]) -> bool:
    """Whether it raised Transient."""
    try:
        await act()
    except Transient:
        return True
    return False
