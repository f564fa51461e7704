"""Accounts take turns, and one that rests costs the others nothing, however much waits for it."""

from datetime import timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from deploy.local.sandbox.client import SandboxClient
from libs.common.providers import WHATSAPP_BY_META
from libs.common.sending import conversation_order, pause_queries
from libs.common.sending import queries as sends
from libs.common.sending.rows import RUN
from tests.support.sandbox import NUMBER_ID
from tests.support.sending import TIMINGS, Garage, Line, accept, kim

FLOODED = "106400000000009"
MINUTE = timedelta(minutes=1)


async def flood(garage: Garage, rows: int, *, account: str = FLOODED, conversation: UUID | None = None) -> None:
    """So many rows of another tenant that are due, each in a conversation of its own unless it is said in which."""
    for first in range(1, rows + 1, 10_000):
        await garage.execute(
            "insert into sends (org_id, message_id, attempt, channel, conversation_id, sequence, account,"
            " command, due_at, expires_at, created_at)"
            " select 'globex', gen_random_uuid(), 1, 'whatsapp', coalesce($4, gen_random_uuid()), n, $2,"
            " '{\"route\": \"session\"}', $3, $3::timestamptz + interval '1 day', $3"
            "   from generate_series($5::int, least($1, $5 + 9999)) n",
            rows,
            account,
            garage.now(),
            conversation,
            first,
        )


async def rests(garage: Garage, account: str) -> None:
    await garage.execute(
        "insert into pauses (channel, provider, account, scope, until_at, reason)"
        " values ('whatsapp', 'meta', $1, 'all', $2, '130429')",
        account,
        garage.now() + timedelta(hours=1),
    )


NO_ROUTES: tuple[list[str], ...] = ([], [], [], [])


async def looked_at(garage: Garage, statement: str, *values: object) -> float:
    """How many rows of ``sends`` the statement takes from its table or an index of it."""
    async with garage.pool.acquire() as db, db.transaction():
        [plan] = await db.fetchval(f"explain (analyze, format json) {statement}", *values)
    nodes, found = [plan["Plan"]], 0.0
    while nodes:
        node = nodes.pop()
        nodes += node.get("Plans", [])
        if node.get("Relation Name") == "sends":
            assert node["Node Type"] != "Seq Scan"
            removed = node.get("Rows Removed by Filter", 0)
            found += (node["Actual Rows"] + removed) * node["Actual Loops"]
    return found


async def versions(garage: Garage, org_id: str) -> list[asyncpg.Record]:
    """Where each row of a tenant stands in the table: another place means that it was rewritten."""
    return await garage.fetch("select message_id, ctid, xmin from sends where org_id = $1 order by message_id", org_id)


async def test_a_neighbours_message_goes_at_once_while_100_000_rows_wait_for_a_throttled_number(
    line: Line, garage: Garage, sandbox: SandboxClient
) -> None:
    await flood(garage, 100_000)
    await rests(garage, FLOODED)
    before = await versions(garage, "globex")
    lone = await garage.command(await kim(garage, sandbox))
    await accept(line, lone)
    assert await line.claim_once() == 1
    assert await garage.states(lone) == ["accepted"]
    await line.sweep_once()
    assert await versions(garage, "globex") == before

    lone = await garage.command(await kim(garage, sandbox))
    await accept(line, lone)
    now = garage.now()
    for accounts in ([FLOODED], [NUMBER_ID], [FLOODED, NUMBER_ID]):
        values = ("whatsapp", now, TIMINGS.blocks, accounts, [288] * len(accounts), *NO_ROUTES)
        assert await looked_at(garage, sends._CANDIDATES, *values) < 10
    assert await looked_at(garage, sends._ACCOUNTS, "whatsapp", now, "", 2000, *NO_ROUTES) < 10


async def test_a_busy_neighbour_leaves_a_lone_message_its_turn(
    line: Line, garage: Garage, sandbox: SandboxClient
) -> None:
    await flood(garage, 5_000)
    lone = await garage.command(await kim(garage, sandbox))
    await accept(line, lone)
    await line.claim_once()
    assert await garage.states(lone) == ["accepted"]
    [[taken]] = await garage.fetch("select count(*) from sends where org_id = 'globex' and state <> 'pending'")
    assert 0 < taken <= 32  # its share of a claim; the gate ended them, for nobody knows that number


async def test_five_thousand_accounts_at_rest_are_stepped_over_a_bounded_number_at_a_time(
    line: Line, garage: Garage, sandbox: SandboxClient
) -> None:
    await garage.execute(
        "insert into sends (org_id, message_id, attempt, channel, conversation_id, sequence, account,"
        " command, due_at, expires_at, created_at)"
        " select 'globex', gen_random_uuid(), 1, 'whatsapp', gen_random_uuid(), n, 'number ' || n % 5000,"
        " '{}', $1, $1::timestamptz + interval '1 day', $1"
        "   from generate_series(1, 20000) n",
        garage.now(),
    )
    await garage.execute(
        "insert into pauses (channel, provider, account, scope, until_at, reason)"
        " select 'whatsapp', 'meta', 'number ' || n, 'all', $1, '190' from generate_series(0, 4999) n",
        garage.now() + timedelta(hours=1),
    )
    now = garage.now()
    assert await looked_at(garage, sends._ACCOUNTS, "whatsapp", now, "", 500, *NO_ROUTES) <= 3 * 500
    lone = await garage.command(await kim(garage, sandbox))
    await accept(line, lone)
    assert await line.claim_once() == 1
    assert await garage.states(lone) == ["accepted"]


async def test_whose_an_account_at_rest_is_shows_one_row_however_many_wait_for_others(garage: Garage) -> None:
    await flood(garage, 20_000)
    await flood(garage, 3, account=NUMBER_ID)
    async with garage.pool.acquire() as db:
        await pause_queries.pause_account(db, WHATSAPP_BY_META, NUMBER_ID, "131042", garage.now(), proof="answer")
    assert await looked_at(garage, pause_queries._TAKE_DUE_FOR_LOG, "whatsapp", garage.now()) <= 1
    async with garage.pool.acquire() as db:
        [rest] = await pause_queries.take_due_for_log(db, WHATSAPP_BY_META, garage.now() + MINUTE)
    assert (rest.account, rest.org_id) == (NUMBER_ID, "globex")


async def test_whoever_looks_at_many_accounts_comes_to_each_of_them(garage: Garage) -> None:
    for n in range(7):
        await flood(garage, 1, account=f"number {n}")
    await rests(garage, "number 3")
    found, after = [], ""
    async with garage.pool.acquire() as db:
        while step := await sends.accounts_after(db, WHATSAPP_BY_META, garage.now(), after, 2):
            found += step
            after = step[-1][0]
    assert found == [(f"number {n}", n != 3) for n in range(7)]


@pytest.mark.proof
async def test_fifty_thousand_rows_of_one_conversation_are_looked_at_once(
    line: Line, garage: Garage, sandbox: SandboxClient
) -> None:
    chat = uuid4()
    await flood(garage, 50_000, account=NUMBER_ID, conversation=chat)
    await garage.execute("update sends set due_at = due_at + interval '1 hour' where sequence = 1")
    conversation = await kim(garage, sandbox)
    lone = await garage.command(conversation)
    garage.now.forward(timedelta(milliseconds=1))  # it is the last of all that are due
    await accept(line, lone)
    for _ in range(700):
        await line.claim_once()
        if await garage.states(lone) == ["accepted"]:
            break
    assert await garage.states(lone) == ["accepted"]
    values = ("whatsapp", garage.now(), TIMINGS.blocks, [NUMBER_ID], [288], *NO_ROUTES)
    assert await looked_at(garage, sends._CANDIDATES, *values) <= 2 * 32
    await garage.execute("update sends set due_at = $1 where conversation_id = $2 and sequence = 1", garage.now(), chat)
    await line.claim_once()  # the first goes (its number is not that org's: the gate ends it), and frees the next
    await line.claim_once()
    ended = await garage.fetch("select sequence from sends where conversation_id = $1 and state <> 'pending'", chat)
    assert sorted(row["sequence"] for row in ended) == list(range(1, 1 + RUN + 1))


async def test_a_row_that_is_kept_from_being_looked_at_is_freed_whoever_moves_the_one_before_it(
    garage: Garage,
) -> None:
    chat = uuid4()
    await flood(garage, 3, conversation=chat)
    first, second, third = await garage.fetch("select * from sends where conversation_id = $1 order by sequence", chat)
    async with garage.pool.acquire() as mover, garage.pool.acquire() as claimer:

        async def kept() -> set[UUID]:
            await conversation_order.defer_blocked(claimer, "whatsapp", [FLOODED], garage.now(), MINUTE)
            return {
                row["message_id"]
                for row in await claimer.fetch("select message_id from sends where deferred_until is not null")
            }

        async with mover.transaction():
            await mover.execute(
                "update sends set state = 'failed', settled_at = due_at where message_id = $1", first["message_id"]
            )
            assert await kept() == {third["message_id"]}  # what the second stands behind is moving
        assert await kept() == {third["message_id"]}  # nothing is before it any more
        await claimer.execute(
            "update sends set state = 'pending', settled_at = null where message_id = $1", first["message_id"]
        )
        assert await kept() == {second["message_id"], third["message_id"]}
        assert await conversation_order.release_blocked(mover, [("globex", chat)]) == {("whatsapp", FLOODED)}
        assert await conversation_order.release_blocked(mover, [("globex", chat)]) == set()
