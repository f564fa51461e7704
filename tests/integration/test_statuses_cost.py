"""What statuses cost: no index, as many statements for many as for one, and none for what is not ours."""

import re
from collections.abc import Sequence

from libs.common.db.pool import Pool
from libs.common.sending.status_effects import receive_statuses
from libs.common.thread.message_status import ProviderStatus
from tests.support.statuses import (
    T0,
    a_message,
    a_status,
    an_id,
    receive,
    rungs,
    store,
    value,
)


async def test_a_status_that_moves_a_message_touches_no_index(status_pool: Pool) -> None:
    definitions = (
        "select string_agg(pg_get_indexdef(i.indexrelid), ' ') from pg_index i where i.indrelid = $1::regclass"
    )
    indexed = set(re.findall(r"\w+", await value(status_pool, definitions, "messages")))
    written = {"status", "seq", "reason", "provider_code", "read_channel"}
    assert "sequence" in indexed
    assert not indexed & (written | {f"{reached}_at" for reached in ("sent", "delivered", "read", "failed")})
    assert await value(status_pool, "select reloptions from pg_class where relname = 'messages'") == ["fillfactor=70"]


async def statements(status_pool: Pool, batch: Sequence[ProviderStatus]) -> list[str]:
    """The first words of each statement that a batch of statuses costs."""
    seen: list[str] = []
    async with status_pool.acquire() as db, db.transaction():
        with db.query_logger(lambda asked: seen.append(" ".join(asked.query.split()[:3]))):
            await receive_statuses(db, batch, T0)
    return seen


async def test_a_batch_costs_as_many_statements_however_many_statuses_it_has(status_pool: Pool) -> None:
    for n in range(40):
        await store(status_pool, an_id(await a_message(status_pool), f"wamid.{n}"))
    await statements(status_pool, [a_status("sent", "wamid.0")])  # asyncpg asks for types once
    first = await statements(status_pool, [a_status("delivered", "wamid.0")])
    assert await statements(status_pool, [a_status("delivered", f"wamid.{n}", after=n) for n in range(1, 40)]) == first
    assert sum(one.startswith("update messages") for one in first) == 1


async def test_a_repeat_writes_nothing_and_is_told_again(status_pool: Pool) -> None:
    await store(status_pool, an_id(await a_message(status_pool)))
    told = await receive(status_pool, a_status("sent"))
    repeated = await statements(status_pool, [a_status("sent")])
    assert {one.split()[0] for one in repeated} == {"select"}
    assert rungs(await receive(status_pool, a_status("sent"))) == rungs(told) == [("sent", 1)]


async def test_another_systems_statuses_cost_two_looks_and_no_write(status_pool: Pool) -> None:
    others = [a_status("sent", f"w{n}", callback=None) for n in range(300)]
    assert rungs(await receive(status_pool, *others)) == []
    looks = await statements(status_pool, others)
    assert [one.split()[0] for one in looks] == ["select"] * 2
    assert looks == await statements(status_pool, others[:1])
