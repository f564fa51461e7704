"""A database of its own with so many stored conversations, each with its customer, three identities, an open window and
``each`` messages, every second of them an answer: decided, sent, accepted and read. Some have a session in the portal
and a longer thread.

Rows lie as they would have come: by time, all conversations in turn. Charges, prices and words are not stored.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg

from deploy.local import queries
from deploy.local.servers.postgres import ROLE
from libs.common.db.migrate import migrate
from tests.bench import traffic
from tests.bench.traffic import ORGS, READERS

_SECONDS = 600
_IN_A_HURRY = {"synchronous_commit": "off", "session_replication_role": "replica", "maintenance_work_mem": "'256MB'"}
RIGHTS = (
    f"alter role {ROLE} createdb",
    f"grant pg_checkpoint to {ROLE}",
    f"grant set on parameter session_replication_role to {ROLE}",
)
"""What seeding needs beyond a database of its own, from a server that the bench starts."""

_ORGS = f"""
insert into orgs (org_id, name, sms_number, sms_line, sms_spellings, sms_active, policy, upserted_at)
select 'org-' || i, 'Garage ' || i, n.number, n.number, array[n.number], true, '{{"sms_daily_segments": 1000000}}',
       now()
  from generate_series(0, {ORGS - 1}) i cross join lateral (select '+4478' || lpad(i::text, 8, '0') as number) n;
insert into whatsapp_numbers (phone_number_id, org_id, waba_id, display_number, upserted_at)
select '1064' || lpad(i::text, 11, '0'), 'org-' || i, '2064' || lpad(i::text, 11, '0'),
       '+4477' || lpad(i::text, 8, '0'), now()
  from generate_series(0, {ORGS - 1}) i;
"""

_CONVERSATION = "('01930000-0000-7000-8000-' || lpad(to_hex(i), 12, '0'))::uuid"
_CUSTOMER = "('01930000-0000-7000-9000-' || lpad(to_hex(i), 12, '0'))::uuid"
_ORG, _NUMBER = f"'org-' || (i % {ORGS})", f"'1064' || lpad((i % {ORGS})::text, 11, '0')"
_WA_ID, _BSUID = "'4474' || lpad(i::text, 8, '0')", "'GB.' || lpad(i::text, 20, '0')"
# $1 conversations, $2 messages in each: message number s is the r-th of conversation i
_MESSAGE = "('01930000-0000-7000-a000-' || lpad(to_hex(s), 12, '0'))::uuid"
_WAMID = f"'wamid.' || translate(encode(convert_to({_WA_ID} || md5(s::text), 'UTF8'), 'base64'), e'\\n', '')"
_ALL = "generate_series(0, $1::bigint * $2 - 1) s cross join lateral (select s % $1 as i, s / $1 as r) c"
_ANSWERS = f"{_ALL} where r % 2 = 1"
_AT = "now() - make_interval(secs => (($2 - r) * 3600)::integer)"
_TEXT = '\'{"kind": "text", "text": "Your Golf is ready. You can pick it up until six this evening."}\''

_COMMAND = f"""json_build_object('type', 'outbound.whatsapp.v1', 'message_id', {_MESSAGE}, 'attempt', 1,
       'org_id', {_ORG}, 'conversation_id', {_CONVERSATION}, 'sequence', s, 'route', 'session',
       'phone_number_id', {_NUMBER}, 'to', '+' || {_WA_ID}, 'recipient', {_BSUID}, 'content', {_TEXT}::json,
       'created_at', {_AT})"""

# Windows stay open throughout the bench: every customer wrote within the last hour.
_POPULATION = {
    "customers": f"""
insert into customers (customer_id, org_id, name, phone, origin)
select {_CUSTOMER}, {_ORG}, 'Kim', '+' || {_WA_ID}, 'inbound' from generate_series(0, $1::bigint - 1) i""",
    "customer_identities": f"""
insert into customer_identities (org_id, kind, value, customer_id)
select {_ORG}, k.kind, k.value, {_CUSTOMER}
  from generate_series(0, $1::bigint - 1) i
 cross join lateral (values ('wa_id', {_WA_ID}), ('phone', '+' || {_WA_ID}), ('bsuid', {_BSUID})) k (kind, value)""",
    "conversations": f"""
insert into conversations (conversation_id, org_id, customer_id, phone_number_id, wa_id, bsuid, last_customer_at,
    last_inbound_channel, last_inbound_at)
select {_CONVERSATION}, {_ORG}, {_CUSTOMER}, {_NUMBER}, {_WA_ID}, {_BSUID}, at, 'whatsapp', at
  from (select i, now() - make_interval(secs => i % 3600) as at from generate_series(0, $1::bigint - 1) i) s""",
}
_TRAFFIC = {
    "messages": f"""
insert into messages (org_id, message_id, conversation_id, direction, channel, provider, account, provider_id, kind,
    content, actor, ai_generated, status, seq, sent_at, delivered_at, read_at, occurred_at, received_at)
select {_ORG}, {_MESSAGE}, {_CONVERSATION}, case when out then 'out' else 'in' end, 'whatsapp',
       case when not out then 'meta' end, case when not out then {_NUMBER} end, case when not out then {_WAMID} end,
       'text', {_TEXT}, case when out then 'ai' end, out, case when out then 'read' else 'received' end,
       case when out then 3 else 0 end, case when out then at end, case when out then at end, case when out then at end,
       at, at
  from {_ALL} cross join lateral (select r % 2 = 1 as out, {_AT} as at) o""",
    "decisions": f"""
insert into decisions (org_id, intent_id, attempt, conversation_id, route, channel, reason, window_state, record,
    command, decided_at)
select {_ORG}, {_MESSAGE}, 1, {_CONVERSATION}, 'session', 'whatsapp', 'window_open',
       '{{"opened_at": "2026-11-22T10:00:00Z", "closes_at": "2026-11-23T10:00:00Z", "open": true}}',
       json_build_object('facts', repeat(md5(s::text), 20)), {_COMMAND}, {_AT}
  from {_ANSWERS}""",
    "sends": f"""
insert into sends (org_id, message_id, attempt, channel, provider, account, conversation_id, sequence, command, state,
    due_at, expires_at, tries, claim_id, claimed_at, settled_at, published, created_at)
select {_ORG}, {_MESSAGE}, 1, 'whatsapp', 'meta', {_NUMBER}, {_CONVERSATION}, s, {_COMMAND}, 'accepted', {_AT},
       {_AT} + interval '1 day', 1, {_MESSAGE}, {_AT}, {_AT}, true, {_AT}
  from {_ANSWERS}""",
    "provider_ids": f"""
insert into provider_ids (channel, provider, account, provider_id, org_id, message_id, send_id, attempt, recorded_at)
select 'whatsapp', 'meta', {_NUMBER}, {_WAMID}, {_ORG}, {_MESSAGE}, {_MESSAGE}, 1, {_AT} from {_ANSWERS}""",
}

# The sessions that a redeemed link begins. What is said comes from both sides by turns.
_SESSIONS = f"""
insert into portal_sessions (session_hash, org_id, conversation_id, host, phone, created_at, seen_at, ends_at)
select u.hash, {_ORG}, {_CONVERSATION}, $3, '+' || {_WA_ID}, now(), now(), now() + interval '7 days'
  from unnest($1::bigint[], $2::bytea[]) u (i, hash)"""
_THREADS = f"""
insert into messages (org_id, conversation_id, direction, channel, kind, content, actor, status, occurred_at,
    received_at, read_at)
select {_ORG}, {_CONVERSATION}, s.direction, 'portal', 'text', jsonb_build_object('kind', 'text', 'text', s.said),
       s.actor, s.status, s.at, s.at, s.at
  from unnest($1::bigint[]) i
 cross join lateral (
       select case m % 2 when 0 then 'out' else 'in' end as direction,
              case m % 2 when 0 then 'ai' end as actor,
              case m % 2 when 0 then 'read' else 'received' end as status,
              case m % 2 when 0 then 'The pads are below the limit. With new discs it is £284.00, ready by six.'
                         else 'Thank you. How long will it take, and do you need the key again?' end as said,
              now() + make_interval(secs => m - $2::integer) as at
         from generate_series(1, $2::integer) m) s"""
THREAD_MESSAGES = 30
LARGE = 100_000
# decisions that old have been looked at
_LOOKED_AT = "update reconcile_progress set upto = now()"

# An index is built several times faster over all rows than row by row. Those that a foreign key needs stay.
_INDEXES = """
select coalesce('alter table ' || i.indrelid::regclass || ' drop constraint ' || quote_ident(c.conname),
                'drop index ' || i.indexrelid::regclass),
       coalesce('alter table ' || i.indrelid::regclass || ' add constraint ' || quote_ident(c.conname)
                || ' ' || pg_get_constraintdef(c.oid),
                pg_get_indexdef(i.indexrelid))
  from pg_index i
  left join pg_constraint c on c.conindid = i.indexrelid and c.contype in ('p', 'u')
 where i.indrelid = $1::regclass
   and not exists (select from pg_constraint f where f.conindid = i.indexrelid and f.contype = 'f')
"""

# What the floors write instead of Transom's tables.
_FLOORS = """
create table floor_rows (id uuid primary key default uuidv7(), key text not null, value jsonb not null);
create table floor_sends (id uuid primary key, value jsonb not null, state text not null,
    provider_id text, settled_at timestamptz);
create table floor_statuses (id text primary key, status text not null);
"""


def each(population: int) -> int:
    """How many messages each of so many conversations has: where there are many, they are longer too."""
    return 10 if population >= LARGE else 1


def messages(population: int) -> int:
    """How many messages a database of this population has, the readers' threads included."""
    return population * each(population) + READERS * THREAD_MESSAGES


@asynccontextmanager
async def database(server_dsn: str, population: int) -> AsyncIterator[str]:
    """The DSN of a seeded database on this server; dropped afterwards.

    ``server_dsn`` names a database to connect to meanwhile.
    """
    async with empty_database(server_dsn) as dsn:
        await _fill(dsn, population)
        yield dsn


@asynccontextmanager
async def of_a_run(server_dsn: str, dsn: str, population: int) -> AsyncIterator[str]:
    """The DSN of a copy of this seeded database for one run, dropped afterwards; the database itself from ``LARGE`` on.

    What a run leaves behind, such as calls without an answer, would be work for the services of the next one.
    """
    if population >= LARGE:
        yield dsn
        return
    name = f"transom_bench_{uuid4().hex[:12]}"
    async with AsyncExitStack() as done:
        await execute(server_dsn, f"create database {name} template {urlsplit(dsn).path.lstrip('/')}")
        done.push_async_callback(_drop, server_dsn, name)
        yield urlsplit(dsn)._replace(path=f"/{name}").geturl()


@asynccontextmanager
async def empty_database(server_dsn: str) -> AsyncIterator[str]:
    """The DSN of a database with every migration and no row; dropped afterwards."""
    name = f"transom_bench_{uuid4().hex[:12]}"
    async with AsyncExitStack() as done:
        await execute(server_dsn, f"create database {name}")
        done.push_async_callback(_drop, server_dsn, name)
        dsn = urlsplit(server_dsn)._replace(path=f"/{name}").geturl()
        await migrate(dsn)
        yield dsn


async def _fill(dsn: str, population: int) -> None:
    await execute(dsn, _ORGS)
    await execute(dsn, _FLOORS)
    async with asyncio.TaskGroup() as tables:
        for table, statement in _POPULATION.items():
            tables.create_task(fill_table(dsn, table, statement, population))
        for table, statement in _TRAFFIC.items():
            tables.create_task(fill_table(dsn, table, statement, population, each(population)))
    await _fill_portal(dsn, population)
    await execute(dsn, _LOOKED_AT)
    await execute(dsn, "checkpoint")


async def fill_table(dsn: str, table: str, statement: str, *values: int) -> None:
    """Fill a table without fsync and foreign keys: the rows are right by construction, and no other session reads."""
    db = await asyncpg.connect(dsn, timeout=10, command_timeout=_SECONDS)
    try:
        for name, value in _IN_A_HURRY.items():
            await db.execute(f"set {name} = {value}")
        indexes = await db.fetch(_INDEXES, table)
        for drop, _ in indexes:
            await db.execute(drop)
        await db.execute(statement, *values)
        for _, create in indexes:
            await db.execute(create)
        await db.execute(f"vacuum (analyze) {table}")
    finally:
        await db.close()


async def _fill_portal(dsn: str, population: int) -> None:
    """The sessions of the readers, and what they read."""
    places = [traffic.reader(r, population) for r in range(READERS)]
    hashes = [traffic.session_hash(r) for r in range(READERS)]
    db = await asyncpg.connect(dsn, timeout=10, command_timeout=_SECONDS)
    try:
        await db.execute(_SESSIONS, places, hashes, traffic.PORTAL.host)
        await db.execute(_THREADS, places, THREAD_MESSAGES)
        await db.execute("vacuum (analyze) portal_sessions, messages")
    finally:
        await db.close()


async def _drop(server_dsn: str, name: str) -> None:
    db = await asyncpg.connect(server_dsn, timeout=10, command_timeout=_SECONDS)
    try:
        await queries.drop_database(db, name)
    finally:
        await db.close()


async def execute(dsn: str, statement: str) -> None:
    db = await asyncpg.connect(dsn, timeout=10, command_timeout=_SECONDS)
    try:
        await db.execute(statement)
    finally:
        await db.close()
