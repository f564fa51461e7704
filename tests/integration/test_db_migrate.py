import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from libs.common.db.migrate import migrate, pending
from libs.common.db.pool import open_pool
from libs.common.db.schema import migrations, require_schema, schema_check
from libs.common.errors import ConfigurationError, Transient
from tests.support import databases


@pytest_asyncio.fixture
async def empty(postgres_dsn: str) -> AsyncIterator[str]:
    dsn = await databases.make_database(postgres_dsn, "template0")
    yield dsn
    await databases.drop_database(postgres_dsn, dsn)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, "0001_pre_things.sql", "create table things (id int primary key); create index on things (id);")
    write(tmp_path, "0002_post_fill.sql", "insert into things values (1);")
    return tmp_path


def write(folder: Path, name: str, sql: str) -> None:
    (folder / name).write_text(sql, encoding="utf-8")


async def fetch(dsn: str, query: str) -> list[object]:
    db = await asyncpg.connect(dsn)
    try:
        return [row[0] for row in await db.fetch(query)]
    finally:
        await db.close()


async def test_every_migration_applies_once_and_in_order(empty: str, folder: Path) -> None:
    assert await pending(empty, folder) == ["0001_pre_things.sql", "0002_post_fill.sql"]
    assert await migrate(empty, folder) == ["0001_pre_things.sql", "0002_post_fill.sql"]
    assert await migrate(empty, folder) == []
    assert await pending(empty, folder) == []
    assert await fetch(empty, "select id from things") == [1]


async def test_a_new_file_applies_alone(empty: str, folder: Path) -> None:
    await migrate(empty, folder)
    write(folder, "0003_pre_more.sql", "insert into things values (3);")
    assert await migrate(empty, folder) == ["0003_pre_more.sql"]


async def test_runners_that_start_together_apply_everything_once(empty: str, folder: Path) -> None:
    applied = await asyncio.gather(*(migrate(empty, folder) for _ in range(6)))
    assert sorted(map(len, applied)) == [0, 0, 0, 0, 0, 2]
    assert await fetch(empty, "select id from things") == [1]


async def test_a_failing_file_leaves_nothing_of_itself_and_keeps_what_came_before(empty: str, folder: Path) -> None:
    write(folder, "0002_post_fill.sql", "insert into things values (1); insert into things values (1);")
    with pytest.raises(ConfigurationError, match=r"0002_post_fill\.sql failed \(23505\)"):
        await migrate(empty, folder)
    assert await fetch(empty, "select id from things") == []
    assert await pending(empty, folder) == ["0002_post_fill.sql"]
    write(folder, "0002_post_fill.sql", "insert into things values (2);")
    assert await migrate(empty, folder) == ["0002_post_fill.sql"]


async def test_a_file_changed_after_it_was_applied_is_refused(empty: str, folder: Path) -> None:
    await migrate(empty, folder)
    write(folder, "0001_pre_things.sql", "create table others ();")
    for ask in (migrate, pending):
        with pytest.raises(ConfigurationError, match=r"0001_pre_things\.sql was changed after it was applied"):
            await ask(empty, folder)


async def test_line_endings_of_a_checkout_are_no_change(empty: str, folder: Path) -> None:
    write(folder, "0003_pre_lines.sql", "select 1;\nselect 2;\n")
    await migrate(empty, folder)
    (folder / "0003_pre_lines.sql").write_bytes(b"select 1;\r\nselect 2;\r\n")
    assert await pending(empty, folder) == []


async def test_a_migration_may_not_end_its_own_transaction(empty: str, folder: Path) -> None:
    write(folder, "0003_pre_commits.sql", "insert into things values (3); commit;")
    with pytest.raises(ConfigurationError, match=r"0003_pre_commits\.sql ends its own transaction"):
        await migrate(empty, folder)


async def test_a_newer_schema_than_the_files_is_fine(empty: str, folder: Path) -> None:
    await migrate(empty, folder)
    (folder / "0002_post_fill.sql").unlink()
    assert await pending(empty, folder) == []


@pytest.mark.parametrize("name", ["1_pre_short.sql", "0003-pre-dashes.sql", "0003_things.sql", "0002_pre_again.sql"])
def test_a_wrong_name_or_a_number_used_twice_is_refused(folder: Path, name: str) -> None:
    write(folder, name, "select 1")
    with pytest.raises(ConfigurationError, match=f"migration {name[:4]}"):
        migrations(folder)


async def test_readiness_and_start_ask_whether_the_schema_is_current(empty: str) -> None:
    async with open_pool(empty, application_name="transom-test") as pool:
        with pytest.raises(Transient, match="run transom migrate"):
            await schema_check(pool)()
        with pytest.raises(ConfigurationError, match="run transom migrate"):
            await require_schema(pool)
        await migrate(empty)
        await schema_check(pool)()
        await require_schema(pool)


async def test_an_unreachable_server_is_one_clear_line() -> None:
    with pytest.raises(ConfigurationError, match="TRANSOM_POSTGRES_DSN"):
        await migrate("postgresql://someone:hush@127.0.0.1:1/transom")
