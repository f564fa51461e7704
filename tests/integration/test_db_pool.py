import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import asyncpg
import pytest

from deploy.local.servers.postgres import PostgresServer
from libs.common.db.errors import transient_db
from libs.common.db.pool import Connection, Pool, open_pool
from libs.common.errors import ConfigurationError, Transient
from libs.common.sanitize import sanitize
from tests.support.waiting import eventually_true

NEVER = 20.0  # whoever still waits then hangs; the limits under test are two seconds and less


@asynccontextmanager
async def opened(dsn: str, command_seconds: float = 2.0) -> AsyncIterator[Pool]:
    async with open_pool(dsn, application_name="transom-test", size=4, command_seconds=command_seconds) as pool:
        yield pool


async def one(pool: Pool) -> int:
    async with pool.acquire() as db:
        return int(await db.fetchval("select 1"))


async def written(pool: Pool) -> None:
    async with pool.acquire() as db, db.transaction():
        await db.execute("create table written_by_a_pool ()")


async def limited(db: Connection, limit: str, statement: str) -> None:
    """The statement, which the server is to end long before we would."""
    async with db.transaction():
        await db.execute(f"set local {limit} = 500")
        await db.fetchval(statement)


async def cut_short_in_a_transaction(pool: Pool) -> None:
    async with pool.acquire() as db, asyncio.timeout(None) as limit, db.transaction():
        limit.reschedule(asyncio.get_running_loop().time() + 0.05)  # not before it has begun
        await db.fetchval("select pg_sleep(30)")


async def is_used_again(pool: Pool) -> None:
    """Return when the server answers; it may be slow to begin with."""
    async with asyncio.timeout(NEVER):
        while True:
            try:
                assert await one(pool) == 1
            except Exception as error:
                if not (isinstance(error, Transient) or transient_db(error)):
                    raise
                await asyncio.sleep(0.05)
            else:
                return


async def failure_of(pool: Pool) -> BaseException:
    """What a transaction meets when the server does not answer; fails when it answers or hangs."""
    async with asyncio.timeout(NEVER):
        try:
            async with pool.acquire() as db, db.transaction():
                await db.fetchval("select 1")
        except Exception as error:  # noqa: BLE001 -- whichever it is, it is looked at
            return error
    pytest.fail("the server answered")


async def test_json_goes_in_and_out_as_values(database: str) -> None:
    value = {"text": "ü🚗", "n": [1, 2.5, None, True]}
    async with opened(database) as pool, pool.acquire() as db:
        assert await db.fetchval("select $1::jsonb", value) == value
        assert await db.fetchval("select $1::json", value) == value
        rows = await db.fetch("select j from unnest($1::jsonb[]) as t(j)", [value, "word", None])
    assert [row["j"] for row in rows] == [value, "word", None]


async def test_an_id_read_from_the_database_can_be_part_of_json(database: str) -> None:
    async with opened(database) as pool, pool.acquire() as db:
        some_id = await db.fetchval("select gen_random_uuid()")
        assert await db.fetchval("select $1::jsonb", {"id": some_id}) == {"id": str(some_id)}


async def test_what_is_storable_is_stored(database: str) -> None:
    odd = {"te\x00xt": "\ud83d and \x00"}
    async with opened(database) as pool, pool.acquire() as db:
        assert await db.fetchval("select $1::jsonb", sanitize(odd)) == sanitize(odd)
        assert await db.fetchval("select $1::text", sanitize(odd["te\x00xt"])) == "\ufffd and \ufffd"


async def test_sessions_are_in_utc_without_jit_and_say_who_they_are(database: str) -> None:
    async with opened(database) as pool, pool.acquire() as db:
        assert await db.fetchval("show timezone") == "UTC"
        assert await db.fetchval("show jit") == "off"
        assert await db.fetchval("show application_name") == "transom-test"


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
async def test_who_waited_for_a_lock_reads_what_was_committed_meanwhile_whatever_the_database_says(
    database: str, level: str
) -> None:
    async with opened(database) as pool, pool.acquire() as db:
        await db.execute("create table noted (word text)")
        await db.execute(
            f"do $$ begin execute format('alter database %I set default_transaction_isolation = %L',"
            f" current_database(), '{level}'); end $$"
        )
    waits = (
        "select exists (select from pg_stat_activity where datname = current_database() and wait_event = 'advisory')"
    )
    async with opened(database) as pool, pool.acquire() as first, pool.acquire() as second:
        async with asyncio.TaskGroup() as group, first.transaction():
            await first.execute("select pg_advisory_xact_lock(7)")
            seen = group.create_task(noted_behind_the_lock(second))
            await eventually_true(lambda: first.fetchval(waits))
            await first.execute("insert into noted values ('read')")
        assert seen.result() == 1


async def noted_behind_the_lock(db: Connection) -> int:
    async with db.transaction():
        await db.execute("select pg_advisory_xact_lock(7)")
        return int(await db.fetchval("select count(*) from noted"))


async def test_a_slow_statement_is_ended_by_the_server_and_the_connection_lives_on(database: str) -> None:
    async with opened(database, command_seconds=NEVER) as pool, pool.acquire() as db:
        assert await db.fetchval("show statement_timeout") == "15s"  # three quarters of our own limit
        with pytest.raises(asyncpg.QueryCanceledError) as caught:
            await limited(db, "statement_timeout", "select pg_sleep(30)")
        assert transient_db(caught.value)
        assert await db.fetchval("select 1") == 1


async def test_waiting_for_a_lock_of_another_session_is_told_apart_from_a_slow_statement(database: str) -> None:
    async with opened(database, command_seconds=NEVER) as pool, pool.acquire() as holder, holder.transaction():
        await holder.execute("select pg_advisory_xact_lock(7)")
        async with pool.acquire() as db:
            assert await db.fetchval("show lock_timeout") == "12s"  # shorter than that of a statement
            with pytest.raises(asyncpg.LockNotAvailableError):
                await limited(db, "lock_timeout", "select pg_advisory_xact_lock(7)")
            assert await db.fetchval("select 1") == 1


async def test_a_transaction_left_by_an_exception_is_rolled_back(database: str) -> None:
    async with opened(database) as pool:
        with suppress(KeyError):
            async with pool.acquire() as db, db.transaction():
                await db.execute("create table left_over ()")
                raise KeyError
        async with pool.acquire() as db:
            assert await db.fetchval("select to_regclass('left_over')") is None


async def test_a_cancelled_statement_frees_its_place_in_the_pool(database: str) -> None:
    async def sleep(pool: Pool) -> None:
        async with pool.acquire() as db, db.transaction():
            await db.fetchval("select pg_sleep(30)")

    async with opened(database) as pool:
        for _ in range(6):  # more often than the pool has places
            task = asyncio.create_task(sleep(pool))
            await asyncio.sleep(0.05)
            task.cancel()
            await asyncio.wait({task})
            assert task.cancelled()  # and not "postgres is away", which the rollback on a closed connection would say
        async with asyncio.timeout(NEVER):
            assert await one(pool) == 1


async def test_a_time_limit_around_a_transaction_is_a_timeout(database: str) -> None:
    async with opened(database) as pool:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1), pool.acquire() as db, db.transaction():
                await db.fetchval("select pg_sleep(30)")
        assert await one(pool) == 1


async def test_a_time_limit_within_costs_the_connection_and_nothing_else(database: str) -> None:
    async with opened(database) as pool:
        for _ in range(6):
            with pytest.raises(TimeoutError):
                async with pool.acquire() as db, asyncio.timeout(0.05):
                    await db.fetchval("select pg_sleep(30)")
            with pytest.raises(Transient):
                await cut_short_in_a_transaction(pool)
        assert await one(pool) == 1


async def test_an_exhausted_pool_is_trouble_that_passes(database: str) -> None:
    async with opened(database) as pool:
        async with pool.acquire(), pool.acquire(), pool.acquire(), pool.acquire():
            with pytest.raises(Transient):
                await one(pool)
        assert await one(pool) == 1


async def test_a_silent_server_holds_nobody_up_and_is_used_again_when_it_speaks(own_postgres: PostgresServer) -> None:
    async with opened(own_postgres.address, command_seconds=1.0) as pool:
        assert await one(pool) == 1
        own_postgres.pause()
        try:
            failures = await asyncio.gather(*(failure_of(pool) for _ in range(12)))
            later = await failure_of(pool)
        finally:
            own_postgres.resume()
        assert all(isinstance(failure, Transient) or transient_db(failure) for failure in [*failures, later])
        await is_used_again(pool)


async def test_connections_of_a_time_without_writes_do_not_stay(database: str, postgres_dsn: str) -> None:
    name = database.rpartition("/")[2]
    admin = await asyncpg.connect(postgres_dsn)
    try:
        await admin.execute(f"alter database {name} set default_transaction_read_only = on")
        async with opened(database) as pool:
            with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
                await written(pool)
            await admin.execute(f"alter database {name} reset default_transaction_read_only")
            await written(pool)
    finally:
        await admin.close()


async def test_closing_while_the_server_is_silent_does_not_hang(own_postgres: PostgresServer) -> None:
    try:
        async with asyncio.timeout(NEVER), opened(own_postgres.address) as pool:
            await one(pool)
            own_postgres.pause()
    finally:
        own_postgres.resume()


async def test_a_server_that_was_killed_is_used_again_when_it_is_back(own_postgres: PostgresServer) -> None:
    async with opened(own_postgres.address) as pool:
        assert await one(pool) == 1
        told = pool.now()
        await asyncio.to_thread(own_postgres.kill)
        failure = await failure_of(pool)
        assert isinstance(failure, Transient) or transient_db(failure)
        assert pool.now() > told  # the server's clock goes on here
        await asyncio.to_thread(own_postgres.start)
        await is_used_again(pool)


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://someone:hush@127.0.0.1:1/transom",
        "postgresql://u:hush@/transom?host=/no/such/folder",
        "hush://x",
        "postgresql://u:hush@127.0.0.1:99999/transom",
    ],
)
async def test_a_server_that_cannot_be_reached_at_start_is_one_clear_line(dsn: str) -> None:
    with pytest.raises(ConfigurationError, match="TRANSOM_POSTGRES_DSN") as caught:
        async with opened(dsn):
            pass
    assert "hush" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("written", ["hush#1", "hush/1", "hush?1"])
async def test_a_password_whose_characters_are_not_encoded_is_not_taken_for_a_server_that_is_away(written: str) -> None:
    with pytest.raises(ConfigurationError, match="%2F") as caught:
        async with opened(f"postgresql://u:{written}@127.0.0.1:1/transom"):
            pass
    assert "start it" not in str(caught.value)
    assert "hush" not in str(caught.value)


async def test_a_server_that_accepts_and_never_answers_is_unreachable() -> None:
    async def swallow(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)

    held: list[asyncio.StreamWriter] = []
    async with await asyncio.start_server(swallow, "127.0.0.1", 0) as hole, asyncio.timeout(NEVER):
        port = hole.sockets[0].getsockname()[1]
        with pytest.raises(ConfigurationError):
            async with opened(f"postgresql://u@127.0.0.1:{port}/transom?sslmode=disable"):
                pass
        for writer in held:
            writer.close()


async def test_a_missing_database_is_named_by_its_state(postgres_dsn: str) -> None:
    with pytest.raises(ConfigurationError, match=r"3D000.*create it"):
        async with opened(postgres_dsn.rpartition("/")[0] + "/no_such_database"):
            pass


async def test_a_host_whose_name_does_not_resolve_is_said_in_words() -> None:
    with pytest.raises(ConfigurationError, match="its name does not resolve"):
        async with opened("postgresql://someone@no.such.host.invalid/transom"):
            pass


async def test_a_deadlock_passes_and_a_bug_does_not(database: str) -> None:
    async with opened(database) as pool, pool.acquire() as db:
        for statement in ("select 1/0", "select no_such_column", "insert into no_such_table values (1)"):
            with pytest.raises(asyncpg.PostgresError) as caught:
                await db.execute(statement)
            assert not transient_db(caught.value)
    assert transient_db(asyncpg.DeadlockDetectedError("deadlock"))
    assert transient_db(asyncpg.CannotConnectNowError("starting up"))


async def test_a_pool_knows_the_servers_clock(database: str) -> None:
    async with opened(database) as pool, pool.acquire() as db:
        before = await db.fetchval("select clock_timestamp()")
        told, bound = pool.now(), pool.now.bound
        after = await db.fetchval("select clock_timestamp()")
        assert before - bound <= told <= after + bound
