"""Statistics that say that a table is all but empty."""

from libs.common.db.planner_statistics import forget_emptiness
from libs.common.db.pool import Connection, open_pool

_BELIEVED = "select reltuples from pg_class where oid = $1::text::regclass"


async def _table(db: Connection, name: str, rows: int, believed: float, pages: int) -> None:
    await db.execute(
        f"create table {name} with (autovacuum_enabled = false) as select 1 from generate_series(1, {rows})"
    )
    await db.execute(
        "select pg_restore_relation_stats('schemaname', 'public', 'relname', $1::text, "
        "'relpages', $2::int, 'reltuples', $3::real)",
        *(name, pages, believed),
    )


async def test_a_table_that_was_found_empty_is_taken_to_be_full_and_others_for_what_was_found(database: str) -> None:
    async with open_pool(database, application_name="test", size=2) as pool:
        async with pool.acquire() as db:
            await _table(db, "found_empty", 9_000, 0, 5)
            await _table(db, "found_with_few_rows", 9_000, 4, 5)
            await _table(db, "with_one_row", 1, 1, 1)
            await _table(db, "with_some_rows", 9_000, 40, 5)
        await forget_emptiness(pool)
        async with pool.acquire() as db:
            believed = {
                name: await db.fetchval(_BELIEVED, name)
                for name in ("found_empty", "found_with_few_rows", "with_one_row", "with_some_rows")
            }
    assert believed == {"found_empty": -1, "found_with_few_rows": -1, "with_one_row": 1, "with_some_rows": 40}


async def test_a_table_that_somebody_works_on_is_left_for_later_and_the_others_are_not(database: str) -> None:
    async with (
        open_pool(database, application_name="test", size=3) as pool,
        pool.acquire() as db,
        pool.acquire() as vacuum,
    ):
        for name in ("found_empty_1", "found_empty_2", "found_empty_3"):
            await _table(db, name, 9_000, 0, 5)
        async with vacuum.transaction():
            await vacuum.execute("lock table found_empty_2 in share update exclusive mode")
            await forget_emptiness(pool)
            assert [await db.fetchval(_BELIEVED, f"found_empty_{n}") for n in (1, 2, 3)] == [-1, 0, -1]
        await forget_emptiness(pool)
        assert await db.fetchval(_BELIEVED, "found_empty_2") == -1
