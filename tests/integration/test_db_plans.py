"""Plans that a pool keeps for what runs for every message, and what ends one."""

import asyncio
from typing import cast

import asyncpg
import pytest

from libs.common.db.asyncpg_patches import ExpendableConnection
from libs.common.db.errors import transient_db
from libs.common.db.pool import open_pool

_PLANS = "select generic_plans, custom_plans from pg_prepared_statements where statement = $1"
_BY_KEY = "select relname from pg_class where oid = any($1::oid[])"


async def test_plans_are_kept_for_what_runs_for_every_message_and_for_nothing_else(database: str) -> None:
    counted = []
    async with open_pool(database, application_name="transom-test", size=1) as pool:
        for kept_plans, executions in ((True, 3), (False, 2), (True, 1)):
            for _ in range(executions):
                async with pool.acquire(kept_plans=kept_plans) as db:
                    await db.fetch(_BY_KEY, [])
                    [found] = await db.fetch(_PLANS, _BY_KEY)
            counted.append(tuple(found))
    assert counted == [(3, 0), (3, 2), (4, 2)]


async def test_plans_are_kept_for_longer_each_time_and_over_uses_that_keep_none(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("libs.common.db.pool.PLANS_SECONDS", 0.2)
    found, other = [], []
    async with open_pool(database, application_name="transom-test", size=1) as pool:
        for _ in range(12):
            async with pool.acquire() as db:
                other.append(await db.fetchval("show plan_cache_mode"))
            async with pool.acquire(kept_plans=True) as db:
                found.append(cast(ExpendableConnection, db).plans)
                assert await db.fetchval("show plan_cache_mode") == "force_generic_plan"
            await asyncio.sleep(0.1)
    stays = sorted({plans.stay for plans in found})
    assert stays[:3] == pytest.approx([0.2, 0.4, 0.8])
    assert len({plans.since for plans in found}) == len(stays)
    assert set(other) == {"force_custom_plan"}


async def test_a_use_that_keeps_no_plans_discards_none(database: str) -> None:
    look = "select from things where id = $1"
    name = "select name from pg_prepared_statements where statement = $1"
    async with open_pool(database, application_name="transom-test", size=1) as pool:
        async with pool.acquire() as db:
            await db.execute("create table things (id int primary key)")
            await db.execute("vacuum things")
        async with pool.acquire(kept_plans=True) as db:
            await db.fetch(look, 1)
            # a setting ends no plan: a new one would read the table, whatever else it may not
            await db.execute("set enable_indexscan = off; set enable_indexonlyscan = off; set enable_bitmapscan = off")
        async with pool.acquire() as db:
            await db.fetch(look, 1)
        async with pool.acquire(kept_plans=True) as db:
            explain = f"explain execute {await db.fetchval(name, look)}(1)"
            assert "Index" in "".join(line for (line,) in await db.fetch(explain))
            await db.execute("discard plans")
            assert "Seq Scan" in "".join(line for (line,) in await db.fetch(explain))


async def test_a_column_that_gets_another_type_costs_one_more_try(database: str) -> None:
    look = "select number from things where id = $1"
    async with open_pool(database, application_name="transom-test", size=4) as pool:
        async with pool.acquire() as db:
            await db.execute("create table things (id int primary key, number int)")
            await db.execute("insert into things values (1, 2)")
            await db.fetchval(look, 1)
        async with open_pool(database, application_name="transom-test", size=4) as other, other.acquire() as db:
            await db.execute("alter table things alter column number type bigint")
        with pytest.raises(asyncpg.InvalidCachedStatementError) as caught:
            async with pool.acquire() as db, db.transaction():
                await db.fetchval(look, 1)
        assert transient_db(caught.value)
        async with pool.acquire() as db, db.transaction():
            assert await db.fetchval(look, 1) == 2


async def test_a_column_that_a_migration_adds_ends_a_kept_plan(database: str) -> None:
    look = "select id from things where id = $1"
    async with open_pool(database, application_name="transom-test", size=1) as pool:
        async with pool.acquire() as db:
            await db.execute("create table things (id int primary key)")
            await db.execute("insert into things values (1)")
        async with pool.acquire(kept_plans=True) as db:
            assert await db.fetchval(look, 1) == 1
        async with open_pool(database, application_name="transom-test", size=4) as other, other.acquire() as db:
            await db.execute("alter table things add column name text")
        async with pool.acquire(kept_plans=True) as db, db.transaction():
            assert await db.fetchval(look, 1) == 1


async def test_a_kept_plan_reads_the_index_of_a_table_that_is_still_empty(database: str) -> None:
    async with open_pool(database, application_name="transom-test", size=1) as pool:
        async with pool.acquire() as db:
            await db.execute("create table things (id int primary key)")
            await db.execute("vacuum things")
        for kept_plans, wanted in ((False, "Seq Scan"), (True, "Index")):
            async with pool.acquire(kept_plans=kept_plans) as db:
                assert wanted in "".join(line for (line,) in await db.fetch("explain select from things where id = 1"))
