"""Migrating while services run: locks, indexes that are built beside the traffic, kills, and the two phases of a
release.
"""

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from libs.common.db.migrate import LOCK_WAIT, migrate, pending
from libs.common.db.pool import Connection, open_pool
from libs.common.db.schema import OUTSIDE, migrations, require_schema, schema_check
from libs.common.errors import ConfigurationError, Transient
from tests.support import databases
from tests.support.logs import LogLines
from tests.support.sandbox import ROOT
from tests.support.waiting import DEADLINE_SECONDS, eventually

THINGS = (
    "create table things (id int primary key, x int); insert into things select n, n from generate_series(1, 100) n;"
)
INDEX = f"{OUTSIDE}\ncreate index concurrently if not exists things_by_x on things (x);\n"
NOBODY_MIGRATES = """
select not exists (select from pg_stat_activity where application_name = 'transom-migrate'
    and datname = current_database())
"""
SLEEPS = "select exists (select from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database())"
VALID = "select indisvalid from pg_index where indexrelid = to_regclass('things_by_x')"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, "0001_pre_things.sql", THINGS)
    return tmp_path


@pytest_asyncio.fixture
async def dsn(postgres_dsn: str, folder: Path) -> AsyncIterator[str]:
    """A database with a table of a hundred things."""
    made = await databases.make_database(postgres_dsn, "template0")
    await migrate(made, folder)
    yield made
    await databases.drop_database(postgres_dsn, made)


@pytest_asyncio.fixture
async def db(dsn: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(dsn)
    yield connection
    await connection.close()


def write(folder: Path, name: str, sql: str) -> None:
    (folder / name).write_text(sql, encoding="utf-8")


@asynccontextmanager
async def a_long_query(dsn: str) -> AsyncIterator[Connection]:
    """Somebody's transaction that has read the table, and is not over until the block is."""
    db = await asyncpg.connect(dsn)
    try:
        async with db.transaction(isolation="repeatable_read"):
            await db.fetch("select * from things")
            yield db
    finally:
        await db.close()


@asynccontextmanager
async def killed(dsn: str, folder: Path) -> AsyncIterator[None]:
    """A runner as a process of its own, killed with SIGKILL at the end of the block."""
    victim = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.migrate_victim", dsn, str(folder)), cwd=ROOT
    )
    try:
        yield
    finally:
        victim.kill()
        await victim.wait()


async def soon(db: Connection, question: str) -> None:
    """Return when the server says yes."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not await db.fetchval(question):  # noqa: ASYNC110 -- it happens in the server
            await asyncio.sleep(0.02)


async def test_traffic_flows_while_a_migration_waits_for_a_query_that_takes_long(dsn: str, folder: Path) -> None:
    write(folder, "0002_pre_column.sql", "alter table things add column y int;")
    reports: list[str] = []
    served = 0
    async with open_pool(dsn, application_name="transom-test") as pool, pool.acquire() as db:
        of_a_service = await db.fetchval("select current_setting('lock_timeout')::interval")
    assert of_a_service > LOCK_WAIT  # on a busy machine the difference is too short to be tried
    async with a_long_query(dsn):
        migrating = asyncio.create_task(migrate(dsn, folder, report=reports.append))
        async with open_pool(dsn, application_name="transom-test", command_seconds=20) as pool:
            while len(reports) < 2 or served < 20:
                async with pool.acquire() as db:
                    await db.execute("update things set x = x + 1 where id = $1", 1 + served % 100)
                served += 1
        assert not migrating.done()
    assert await migrating == ["0002_pre_column.sql"]
    assert "0002_pre_column.sql does not get a lock" in reports[0]
    assert reports[-1] == "applied 0002_pre_column.sql"


async def test_a_lock_that_is_not_to_be_had_is_given_up_with_the_words_what_to_do(dsn: str, folder: Path) -> None:
    write(folder, "0002_pre_column.sql", "insert into things values (101, 1); alter table things add column y int;")
    async with a_long_query(dsn):
        with pytest.raises(ConfigurationError, match=r"0002_pre_column\.sql does not get a lock .* run this again"):
            await migrate(dsn, folder, patience=timedelta(0))
    assert await pending(dsn, folder) == ["0002_pre_column.sql"]
    assert await migrate(dsn, folder) == ["0002_pre_column.sql"]


async def test_an_index_is_built_outside_a_transaction_where_the_file_says_so(
    dsn: str, db: Connection, folder: Path
) -> None:
    write(
        folder,
        "0002_post_index.sql",
        f"-- What it is for; and why.\n{OUTSIDE}\n\ncreate unique index concurrently if not exists things_by_x"
        f" on things (x);\n"
        "alter table things add column if not exists note text default 'a;b'; -- several\nanalyze things;",
    )
    assert await migrate(dsn, folder) == ["0002_post_index.sql"]
    assert await db.fetchval(VALID)
    assert await db.fetchval("select note from things limit 1") == "a;b"


async def test_who_forgets_to_say_so_is_told_which_line_is_missing(dsn: str, folder: Path) -> None:
    write(folder, "0002_post_index.sql", INDEX.removeprefix(OUTSIDE))
    with pytest.raises(ConfigurationError, match=r"25001.*-- outside a transaction"):
        await migrate(dsn, folder)


@pytest.mark.parametrize("words", ["index concurrently things_by_x on", "index concurrently on"])
def test_an_index_whose_building_could_not_be_run_again_is_refused(folder: Path, words: str) -> None:
    write(folder, "0002_post_index.sql", f"{OUTSIDE}\ncreate {words} things (x);")
    with pytest.raises(ConfigurationError, match="if not exists"):
        migrations(folder)


async def test_of_a_file_that_fails_in_its_middle_nothing_is_recorded_and_no_half_index_stays(
    dsn: str, db: Connection, folder: Path
) -> None:
    await db.execute("insert into things values (101, 1)")  # x is not unique
    unique = INDEX.replace("index", "unique index", 1)
    write(folder, "0002_post_index.sql", unique)
    with pytest.raises(ConfigurationError, match="23505"):
        await migrate(dsn, folder)
    assert await db.fetchval(VALID) is None
    assert await pending(dsn, folder) == ["0002_post_index.sql"]
    await db.execute("delete from things where id = 101")
    await migrate(dsn, folder)
    assert await db.fetchval(VALID)


async def test_a_runner_killed_while_it_builds_an_index_leaves_what_the_next_one_mends(
    dsn: str, db: Connection, folder: Path
) -> None:
    write(
        folder,
        "0002_post_index.sql",
        f"{OUTSIDE}\ninsert into things values (500, 1) on conflict do nothing;\n" + INDEX,
    )
    async with a_long_query(dsn) as reader:
        await reader.fetch("select * from things")  # the index waits for this one, half built
        async with killed(dsn, folder):
            await soon(db, f"select exists ({VALID})")
        await soon(db, NOBODY_MIGRATES)
        assert await db.fetchval(VALID) is False
    assert await pending(dsn, folder) == ["0002_post_index.sql"]
    assert await migrate(dsn, folder) == ["0002_post_index.sql"]
    assert await db.fetchval(VALID)


async def test_a_runner_killed_in_a_transaction_leaves_nothing_and_its_statement_ends(
    dsn: str, db: Connection, folder: Path
) -> None:
    write(folder, "0002_pre_slow.sql", "insert into things values (500, 1); select pg_sleep(3600);")
    async with killed(dsn, folder):
        await soon(db, SLEEPS)
    await soon(db, NOBODY_MIGRATES)
    assert await db.fetchval("select count(*) from things") == 100
    write(folder, "0002_pre_slow.sql", "insert into things values (500, 1);")
    assert await migrate(dsn, folder) == ["0002_pre_slow.sql"]


@pytest.mark.parametrize("top", ["", f"{OUTSIDE}\n"])
async def test_where_the_server_goes_away_in_the_middle_the_operator_is_told_to_run_it_again(
    dsn: str, db: Connection, folder: Path, top: str
) -> None:
    write(folder, "0002_pre_slow.sql", f"{top}select pg_sleep(3600);")
    run = asyncio.create_task(migrate(dsn, folder))
    await soon(db, SLEEPS)
    await db.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'PgSleep'"
        " and datname = current_database()"
    )
    with pytest.raises(ConfigurationError, match=r"went away while migration 0002_pre_slow\.sql"):
        await run
    write(folder, "0002_pre_slow.sql", f"{top}select 1;")
    assert await migrate(dsn, folder) == ["0002_pre_slow.sql"]


async def test_two_runners_build_one_index_once_and_do_not_wait_for_each_other_in_a_ring(
    dsn: str, db: Connection, folder: Path
) -> None:
    write(folder, "0002_post_index.sql", INDEX)
    reports: list[str] = []
    async with a_long_query(dsn):
        both = [asyncio.create_task(migrate(dsn, folder, report=reports.append)) for _ in range(2)]
        await soon(db, f"select exists ({VALID})")
        await eventually(lambda: "another transom migrate is at work: waiting for it" in reports)
    assert sorted(await asyncio.gather(*both)) == [[], ["0002_post_index.sql"]]
    assert await db.fetchval(VALID)


async def test_who_waits_too_long_for_another_runner_says_so(dsn: str, db: Connection, folder: Path) -> None:
    await db.execute("select pg_advisory_lock(x'7472616E736F6D'::bigint)")
    with pytest.raises(ConfigurationError, match="another transom migrate is at work"):
        await migrate(dsn, folder, patience=timedelta(0))


# -- the two phases of a release


def release(folder: Path, *names: str) -> None:
    for name in names:
        write(folder, f"{name}_x.sql", f"create table t{name} ();")


async def test_pre_comes_before_the_code_and_post_after_it(dsn: str, folder: Path) -> None:
    release(folder, "0002_pre", "0003_pre", "0004_post")
    with pytest.raises(ConfigurationError, match=r"0002_pre_x\.sql is not applied.*--phase pre"):
        await migrate(dsn, folder, phase="post")
    assert await migrate(dsn, folder, phase="pre") == ["0002_pre_x.sql", "0003_pre_x.sql"]
    assert await migrate(dsn, folder, phase="pre") == []
    assert await migrate(dsn, folder, phase="post") == ["0004_post_x.sql"]
    assert await pending(dsn, folder) == []


async def test_post_is_refused_while_pre_is_missing_whatever_its_number(dsn: str, folder: Path) -> None:
    release(folder, "0002_post", "0003_pre")
    with pytest.raises(ConfigurationError, match=r"0003_pre_x\.sql is not applied"):
        await migrate(dsn, folder, phase="post")


async def test_a_release_whose_post_was_forgotten_is_finished_before_the_next_one_begins(
    dsn: str, folder: Path
) -> None:
    release(folder, "0002_pre", "0003_post", "0004_pre", "0005_post")
    with pytest.raises(ConfigurationError, match=r"0004_pre_x\.sql comes after 0003_post_x\.sql"):
        await migrate(dsn, folder, phase="pre")
    assert await pending(dsn, folder) == ["0003_post_x.sql", "0004_pre_x.sql", "0005_post_x.sql"]
    assert await migrate(dsn, folder) == ["0003_post_x.sql", "0004_pre_x.sql", "0005_post_x.sql"]


async def test_on_an_empty_database_pre_is_everything_and_post_is_refused(postgres_dsn: str, folder: Path) -> None:
    release(folder, "0002_post", "0003_pre", "0004_post")
    empty = await databases.make_database(postgres_dsn, "template0")
    try:
        with pytest.raises(ConfigurationError, match=r"0001_pre_things\.sql is not applied"):
            await migrate(empty, folder, phase="post")
        assert len(await migrate(empty, folder, phase="pre")) == 4
    finally:
        await databases.drop_database(postgres_dsn, empty)


async def test_a_service_starts_before_post_was_applied_and_says_what_it_lacks_before_pre(
    dsn: str, folder: Path
) -> None:
    release(folder, "0002_pre", "0003_post")
    async with open_pool(dsn, application_name="transom-test") as pool:
        with pytest.raises(
            ConfigurationError, match=r"older than this build.*0002_pre_x\.sql.*transom migrate --phase pre"
        ):
            await require_schema(pool, folder)
        with pytest.raises(Transient, match="older than this build"):
            await schema_check(pool, folder)()
        await migrate(dsn, folder, phase="pre")
        await require_schema(pool, folder)
        await schema_check(pool, folder)()


async def test_a_service_on_a_newer_schema_says_so_and_goes_on_loudly_where_a_later_release_was_finished(
    dsn: str, folder: Path, log_lines: LogLines
) -> None:
    async with open_pool(dsn, application_name="transom-test") as pool:
        for name, level in (("0002_pre", "info"), ("0003_post", "warning")):
            release(folder, name)
            await migrate(dsn, folder)
            (folder / f"{name}_x.sql").unlink()
            await require_schema(pool, folder)
            await schema_check(pool, folder)()
            reports = log_lines.all()[-1]
            assert (reports["event"], reports["detail"], reports["level"]) == ("schema.newer", f"{name}_x.sql", level)


# -- the migrations that there are


def test_what_may_be_large_gets_an_index_beside_the_traffic() -> None:
    """The baseline makes its tables itself, so it needs no exception."""
    for migration in migrations():
        made = set(re.findall(r"create\s+table\s+(?:if\s+not\s+exists\s+)?(\w+)", migration.sql, re.IGNORECASE))
        built = re.findall(
            r"create\s+(?:unique\s+)?index\s+(?!concurrently)(?:\w+\s+)*?on\s+(\w+)", migration.sql, re.IGNORECASE
        )
        assert set(built) <= made, f"{migration.name}: create index concurrently if not exists, outside a transaction"
