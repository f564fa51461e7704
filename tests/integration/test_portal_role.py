"""What the role transom_portal may see and do, whatever statement it runs: row-level security and grants hold it."""

import asyncpg
import pytest
import pytest_asyncio

from libs.common.db.migrate import migrate
from services.portal import queries
from tests.support.portal_site import HOST, Person, PortalSite

READABLE = {
    *("orgs", "whatsapp_numbers", "customers", "customer_identities", "conversations", "conversation_aliases"),
    *(
        "messages",
        "decisions",
        "parked_messages",
        "portal_links",
        "portal_sessions",
        "portal_threads",
        "portal_messages",
    ),
    "schema_migrations",
}
WRITABLE = {
    ("portal_sessions", "INSERT", None),
    *(("portal_sessions", "UPDATE", name) for name in ("seen_at", "posted_at")),
    *(("portal_sessions", "UPDATE", name) for name in ("minute_began", "minute_count", "day_began", "day_count")),
    ("portal_sessions", "DELETE", None),
    ("portal_links", "UPDATE", "used_at"),
    ("customers", "UPDATE", "last_seen_at"),
}
_RELATIONS = """
select c.relname from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'v', 'm', 'p')
"""
_MAY_READ = "select has_any_column_privilege('transom_portal', $1::regclass, 'SELECT')"
_MAY_WRITE = """
select distinct c.relname, p.name, case when not has_table_privilege('transom_portal', c.oid, p.name) then a.attname end
  from pg_class c
  join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
 cross join (values ('INSERT'), ('UPDATE'), ('DELETE'), ('TRUNCATE')) p (name)
 where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'v', 'p')
   and (has_table_privilege('transom_portal', c.oid, p.name)
        or p.name in ('INSERT', 'UPDATE') and has_column_privilege('transom_portal', c.oid, a.attnum, p.name))
"""
TENANTS = ("orgs", "whatsapp_numbers", "customers", "customer_identities", "conversations", "messages", "decisions")


@pytest_asyncio.fixture
async def two(site: PortalSite) -> tuple[Person, Person]:
    """Two customers of two organisations, each with a message."""
    kim, lee = await site.a_person(), await site.a_person("bobs", "+447700900888", "106400000000002")
    for person in (kim, lee):
        await site.a_message(person, f"for {person.org_id}")
    return kim, lee


async def test_every_other_table_is_out_of_reach(site: PortalSite) -> None:
    async with site.pool.acquire() as db:
        relations = {row["relname"] for row in await db.fetch(_RELATIONS)}
        assert {name for name in relations if await db.fetchval(_MAY_READ, name)} == READABLE
    async with site.deps.pool.acquire() as db:
        assert await db.fetchval("select current_user") == "transom_portal"
        for name in sorted(relations - READABLE):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await db.fetch(f"select * from {name}")
        for secret in (
            "select name from customers",
            "select wa_id from conversations",
            "select bsuid from conversations",
            "select last_inbound_at from conversations",
            "select provider_id from messages",
            "select received_at from messages",
            "select reason from decisions",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await db.fetch(secret)


async def test_it_writes_the_counts_of_sessions_and_two_times_alone(site: PortalSite) -> None:
    async with site.pool.acquire() as db:
        assert {tuple(row) for row in await db.fetch(_MAY_WRITE)} == WRITABLE


async def test_without_what_a_browser_brings_no_row_is_visible(site: PortalSite, two: tuple[Person, Person]) -> None:
    await site.a_link(two[0])
    await site.signed_in(two[0])
    async with site.deps.pool.acquire() as db:
        for table in (*TENANTS, "portal_links", "portal_sessions", "portal_threads", "portal_messages"):
            assert await db.fetchval(f"select count(*) from {table}") == 0, table


async def test_a_session_shows_its_own_thread_to_any_statement(site: PortalSite, two: tuple[Person, Person]) -> None:
    kim, _ = two
    await site.signed_in(kim)
    await site.signed_in(two[1], "bobs.example")
    session = await site.value("select session_hash from portal_sessions where org_id = $1", kim.org_id)
    async with queries.scope(site.deps.pool, "nowhere.example", sessions=[session]) as db:
        for table in TENANTS:
            rows = await db.fetch(f"select distinct org_id from {table}")
            assert [row["org_id"] for row in rows] == ([] if table == "decisions" else [kim.org_id]), table
        assert await db.fetchval("select count(*) from messages") == 1
        assert await db.fetchval("select count(*) from portal_sessions") == 1
        assert await db.execute("update customers set last_seen_at = now()") == "UPDATE 1"
        assert await db.execute("delete from portal_sessions") == "DELETE 1"
    assert await site.value("select count(*) from portal_sessions") == 1


async def test_a_code_shows_its_link_and_no_message(site: PortalSite, two: tuple[Person, Person]) -> None:
    kim, _ = two
    code = await site.a_link(kim)
    await site.a_link(two[1], "bobs.example")
    async with queries.scope(site.deps.pool, "nowhere.example", codes=site.codes.hashes(code)) as db:
        assert await db.fetchval("select count(*) from portal_links") == 1
        assert await db.fetchval("select count(*) from conversations") == 1
        assert await db.fetchval("select count(*) from messages") == 0


async def test_a_host_shows_its_organisation_and_nobody_else(site: PortalSite, two: tuple[Person, Person]) -> None:
    async with queries.scope(site.deps.pool, HOST) as db:
        assert [row["org_id"] for row in await db.fetch("select org_id from orgs")] == ["acme"]
        for table in set(TENANTS) - {"orgs", "whatsapp_numbers"}:
            assert await db.fetchval(f"select count(*) from {table}") == 0, table


@pytest.mark.parametrize("forged", ["no link", "a used link", "another conversation"])
async def test_a_session_begins_with_an_unused_link_alone(
    site: PortalSite, two: tuple[Person, Person], forged: str
) -> None:
    kim, lee = two
    code = await site.a_link(kim)
    if forged == "a used link":
        await site.browser().open(code)
    person = lee if forged == "another conversation" else kim
    codes = () if forged == "no link" else site.codes.hashes(code)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with queries.scope(site.deps.pool, HOST, codes=codes, sessions=[b"s" * 32]) as db:
            await db.execute(
                "insert into portal_sessions (session_hash, org_id, conversation_id, host, phone, created_at, seen_at,"
                " ends_at) values ($1, $2, $3, $4, $5, now(), now(), now() + interval '1 day')",
                *(b"s" * 32, person.org_id, person.conversation_id, HOST, person.phone),
            )


FORGED = {
    "org_id": "'bobs'",
    "conversation_id": "gen_random_uuid()",
    "phone": "'+447700900888'",
    "host": "'bobs.example'",
    "ends_at": "now() + interval '9 years'",
    "created_at": "now()",
    "session_hash": "decode(repeat('00', 32), 'hex')",
}


@pytest.mark.parametrize("column", FORGED)
async def test_no_session_moves_even_where_an_earlier_release_let_it(
    site: PortalSite, two: tuple[Person, Person], column: str, database: str
) -> None:
    await site.signed_in(two[0])
    session = await site.value("select session_hash from portal_sessions")
    await site.run("grant update on portal_sessions to transom_portal")
    await migrate(database)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with queries.scope(site.deps.pool, HOST, sessions=[session, bytes(32)]) as db:
            await db.execute(f"update portal_sessions set {column} = {FORGED[column]}")
