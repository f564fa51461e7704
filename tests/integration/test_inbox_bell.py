"""The bell of a member: what is new to them, and what they want to be told of."""

from datetime import timedelta

from services.inbox import notice_queries
from tests.support.inbox_world import MINUTE
from tests.support.notices import Served, Told, a_garage, garage, served

__all__ = ["garage", "served"]


async def test_the_bell_shows_what_is_new_until_the_member_has_looked(garage: Told) -> None:
    priya, marek = await garage.member(), await garage.member("marek")
    _, thread = await garage.customer("Kim")
    await garage.hears(thread, ago=40 * MINUTE)
    await garage.notices().on_failures([await garage.fails(thread)])
    await garage.round()
    bell = await garage.notices().bell(garage.org, priya)
    assert (bell.new, bell.failures) == (2, True)
    assert [(n.type, n.conversation_id, n.customer_name, n.is_new) for n in bell.notices] == [
        ("conversation.unread.v1", thread, "Kim", True),
        ("delivery.failed.v1", thread, "Kim", True),
    ]
    async with garage.pool.acquire() as db:
        await db.execute("update customers set name = '+447700900999' where org_id = $1", garage.org)
    assert {n.customer_name for n in (await garage.notices().bell(garage.org, priya)).notices} == {"•••• ••• 999"}
    async with garage.pool.acquire() as db:  # a short number is told by whose it is
        short = "update customers set name = 'Kim 12345678', phone = '+4512345678' where org_id = $1"
        await db.execute(short, garage.org)
    assert {n.customer_name for n in (await garage.notices().bell(garage.org, priya)).notices} == {"Kim •••• ••• 678"}
    await garage.notices().seen(garage.org, priya)
    bell = await garage.notices().bell(garage.org, priya)
    assert (bell.new, [n.is_new for n in bell.notices]) == (0, [False, False])
    assert (await garage.notices().bell(garage.org, marek)).new == 2
    await garage.notices().on_failures([await garage.fails(thread)])
    assert (await garage.notices().bell(garage.org, priya)).new == 1


async def test_who_switches_failures_off_is_not_told_of_them(garage: Told) -> None:
    priya = await garage.member()
    _, thread = await garage.customer()
    await garage.hears(thread, ago=40 * MINUTE)
    await garage.notices().on_failures([await garage.fails(thread)])
    await garage.round()
    await garage.notices().switch(garage.org, priya, failures=False)
    bell = await garage.notices().bell(garage.org, priya)
    assert (bell.new, bell.failures) == (1, False)
    assert [n.type for n in bell.notices] == ["conversation.unread.v1"]
    await garage.notices().switch(garage.org, priya, failures=True)
    assert (await garage.notices().bell(garage.org, priya)).new == 2


async def test_nobody_is_told_what_was_before_them_or_is_anothers(garage: Told, served: Served) -> None:
    _, thread = await garage.customer()
    await garage.notices().on_failures([await garage.fails(thread)])
    garage.now += MINUTE
    late = await garage.member("late", timedelta(0))
    other = await a_garage(served)
    stranger = await other.member("priya")
    assert (await garage.notices().bell(garage.org, late)).new == 0
    assert (await other.notices().bell(other.org, stranger)).new == 0
    assert (await other.notices().bell(garage.org, stranger)).notices == []


async def test_the_bell_goes_on_where_a_page_of_it_ended_and_counts_no_further_than_a_hundred(garage: Told) -> None:
    priya = await garage.member()
    _, thread = await garage.customer()
    updates = [await garage.fails(thread) for _ in range(3)]
    await garage.notices().on_failures(updates)
    first = await garage.notices().bell(garage.org, priya, limit=2)
    rest = await garage.notices().bell(garage.org, priya, before=first.notices[-1].notice_id, limit=2)
    told = [n.message_id for n in (*first.notices, *rest.notices)]
    assert told == sorted((u.message_id for u in updates), reverse=True)  # those of a batch are told by their ids
    async with garage.pool.acquire() as db:
        await db.execute(
            "insert into inbox_notices (org_id, type, conversation_id, message_id, at, published)"
            " select $1, 'delivery.failed.v1', $2, gen_random_uuid(), $3, true from generate_series(1, 150)",
            *(garage.org, thread, garage.now),
        )
    assert (await garage.notices().bell(garage.org, priya)).new == notice_queries.MOST_NEW
