"""Rows that wait, in every place of the database where rows wait: all of them due, most of them of one account."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any

import pytest_asyncio

from libs.common.db.pool import Connection, Pool, open_pool
from tests.support import world
from tests.support.explaining import Explaining
from tests.support.ingest import ORG
from tests.support.webhooks import NUMBER

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
TAKEN = 200
"""So many rows are taken at once, of whatever waits."""

Work = Callable[[Any], Awaitable[Any]]
"""What is done on a connection."""

# $1: how many
CUSTOMERS = (
    """
insert into customers (customer_id, org_id, phone, origin)
select md5('customer ' || n)::uuid, 'acme', '+4477' || 10000000 + n, 'inbound' from generate_series(1, $1::int) n
""",
    """
insert into customer_identities (org_id, kind, value, customer_id)
select 'acme', k.kind, k.value, md5('customer ' || n)::uuid
  from generate_series(1, $1::int) n
 cross join lateral (values ('wa_id', '4477' || 10000000 + n), ('phone', '+4477' || 10000000 + n)) k (kind, value)
""",
)

# $1: how many
_WAITING = (
    """
insert into sends (org_id, message_id, attempt, channel, provider, conversation_id, sequence, account, command, state,
    due_at, expires_at, created_at,
                   claim_id, claimed_at, lease_until, unknown_since, settled_at, deferred_until, outcome, published)
select 'acme', uuidv7(), 1, c, case when state <> 'pending' then p end, uuidv7(), n, case when n % 10 = 0
    then 'account ' || n else a end, '{"to": "+447700900999"}', state,
       now() - interval '2 hours', now() - interval '1 hour', now() - interval '2 hours',
       case state when 'claimed' then uuidv7() end, case when state in ('claimed', 'unknown')
           then now() - interval '1 hour' end,
       case state when 'claimed' then now() - interval '1 hour' end, case state when 'unknown'
           then now() - interval '1 hour' end,
       case state when 'accepted' then now() - interval '1 hour' end,
       case kind when 'behind' then now() - interval '1 minute' end, '{}', false
  from (values ('pending', ''), ('pending', 'behind'), ('claimed', ''), ('unknown', ''), ('accepted', '')) as k (state,
      kind),
       (values ('whatsapp', 'meta', '106400000000777', 4), ('sms', 'twilio', '+447700900555', 1)) as v (c, p, a,
           share), generate_series(1, $1::int * share / 5) n
 where state <> 'claimed' or n <= 300 -- in flight: as many as senders have places, however much waits
""",
    """
insert into send_claims (claim_id, channel, lease_until, accounts, org_ids, message_ids, attempts)
select claim_id, channel, lease_until, array[account], array[org_id], array[message_id], array[attempt]
  from sends where state = 'claimed'
""",
    """
insert into messages (org_id, message_id, conversation_id, direction, channel, kind, content, status, sequence,
    occurred_at, received_at)
select org_id, message_id, conversation_id, 'out', 'whatsapp', 'text', '{}', 'pending', sequence, created_at, created_at
  from sends where state = 'unknown'
""",
    """
insert into message_pricing (org_id, message_id, provider_id, attempt, type, category, at)
select 'acme', message_id, 'wamid', 1, 'regular', 'utility', now() - interval '1 hour' from messages
""",
    """
insert into charges (org_id, message_id, attempt, conversation_id, channel, provider, category, account, at,
    price_due_at)
select 'acme', message_id, 2, conversation_id, 'whatsapp', 'meta', 'utility', '106400000000777', now(),
       now() - interval '1 hour'
  from messages where conversation_id is not null
""",
    """
insert into decisions (org_id, intent_id, attempt, conversation_id, route, channel, reason, record, command, decided_at)
select org_id, message_id, 1, conversation_id, 'session', 'whatsapp', 'window_open', '{}', '{}',
    created_at + sequence * interval '1 microsecond'
  from sends where state = 'unknown'
""",
    """
insert into early_statuses (channel, provider, account, provider_id, status, callback, item, at, received_at)
select c, p, a, 'early ' || n, 'sent', case when n % 2 = 0 then 'acme:' || uuidv7() || ':1' end, '{}',
    now() - interval '9 days', now() - interval '9 days'
  from (values ('whatsapp', 'meta', '106400000000777'), ('sms', 'twilio', 'AC1')) as v (c, p, a), generate_series(1,
      $1::int) n
""",
    """
insert into provider_ids (channel, provider, account, provider_id, org_id, message_id, send_id, attempt, recorded_at)
select 'whatsapp', 'meta', account, 'id ' || n, org_id, message_id, message_id, 1, now()
  from (select *, row_number() over () as n from sends where state = 'accepted' and provider = 'meta' limit $1::int) s
""",
    """
insert into pauses (channel, provider, account, scope, until_at, reason, kind, proof, logged_at)
select 'whatsapp', 'meta', 'account ' || n, 'all', now() + interval '1 hour', '131042', case when n % 2 = 0
    then 'fault' else 'throttle' end, 'answer',
       case when n % 4 = 0 then now() - interval '1 hour' end
  from generate_series(1, $1::int) n
""",
    """
insert into conversation_holds (conversation_id, org_id, user_id, at, until_at, published)
select uuidv7(), 'acme', 'kim', now() - n * interval '1 second', now(), n % 10 = 0 from generate_series(1, $1::int) n
""",
    """
insert into inbox_sends (org_id, intent_id, user_id, body_hash, sent_at)
select 'acme', uuidv7(), 'kim', '', now() + interval '1 hour' - interval '9 days' * (n % 2)
  from generate_series(1, $1::int) n
""",
    """
insert into customers (org_id, phone, origin) select 'acme', '+4477' || n, 'inbound' from generate_series(1, $1::int) n
""",
    """
insert into consents (org_id, customer_id, category, allowed, at, source, cause, published)
select 'acme', customer_id, 'marketing', false, now() - interval '1 hour', 'whatsapp', 'keyword', false from customers
""",
    """
insert into identity_notices (org_id, old_line, old_bsuid, new_line, new_bsuid, new_number, at, received_at)
select 'acme', '+4478' || n, '', '+4479' || n, '', '+4479' || n, now() - interval '9 days',
    now() - interval '9 days' from generate_series(1, $1::int) n
""",
    """
insert into erased_identities (org_id, identity, at)
select org_id, sha256(convert_to(org_id || ' ' || phone, 'UTF8')), now() - interval '9 days' from customers
""",
    """
insert into address_marks (org_id, channel, address, reason, source, at, until)
select 'acme', 'sms', '+4477' || n, 'no_phone', 'status', now() - interval '99 days', now() - interval '9 days'
    from generate_series(1, $1::int) n
""",
    """
insert into portal_links (code_hash, org_id, conversation_id, message_id, host, phone, expires_at, created_at)
select sha256(n::text::bytea), 'acme', uuidv7(), uuidv7(), 'x.link', '+4477', now() - interval '9 days',
       now() - interval '10 days'
    from generate_series(1, $1::int) n
""",
    """
insert into unconfirmed_sms (account, provider_id, org_id, message_id, send_id, attempt, accepted_at, due_at)
select case when n % 2 = 0 then 'AC1' else 'AC2' end, 'unheard ' || n, 'acme', uuidv7(), uuidv7(), 1,
    now() - interval '1 hour',
       now() - interval '1 minute' * (n % 2 + 1)
  from generate_series(1, $1::int) n
""",
    """
insert into stale_attempts (org_id, message_id, attempt, deadline, due_at)
select 'acme', uuidv7(), 1, now(), now() - interval '1 minute' from generate_series(1, $1::int) n
""",
    """
insert into portal_answers (org_id, message_id, attempt, due_at)
select 'acme', uuidv7(), 1, now() - interval '1 minute' from generate_series(1, $1::int) n
""",
    """
insert into refusals (org_id, intent_id, attempt, event, waits_since)
select 'acme', uuidv7(), 1, '{}', now() - interval '1 hour' from generate_series(1, $1::int) n
""",
    """
insert into parked_records (topic, partition, record_offset, org_id, message_id, reason, parked_at)
select 'outbound.intents.v1', 0, n, 'acme', uuidv7(), 'unknown_version', now() - interval '99 days'
    from generate_series(1, $1::int) n
""",
    """
insert into webhook_edges (edge_id, serves_since, known_until)
select uuidv7(), now() - interval '10 days', now() - interval '9 days' from generate_series(1, $1::int) n
""",
    """
insert into webhook_refusals (edge_id, number, kind, reason, began_at, ended_at, times)
select uuidv7(), 1, case when n % 2 = 0 then 'refused' else 'doubtful' end, 'kafka_away', now() - interval '9 days',
    now() - interval '9 days', 1
  from generate_series(1, $1::int) n
""",
    """
insert into resends (provider, org_id, message_id, attempt, released_at)
select 'meta', org_id, message_id, attempt, now() - interval '9 days' from sends where state = 'accepted' limit $1::int
""",
    """
insert into unanswered_calls (channel, account, org_id, message_id, attempt, resends, called_at)
select 'whatsapp', 'account ' || n, 'acme', uuidv7(), 1, 0, now() - interval '9 days' from generate_series(1, $1::int) n
""",
    """
insert into sms_joins (org_id, provider, account, sender, ref, total, opened_at, published)
select 'acme', 'vonage', '+447700900555', '+4477' || n % 100, n::text, 2, now() - interval '9 days', n % 2 = 0
  from generate_series(1, $1::int) n
""",
    """
insert into sms_parts (provider, account, provider_id, org_id, join_id, number, text, at, received_at)
select j.provider, j.account, 'part ' || j.ref, j.org_id, j.join_id, 1, 'x', now(), now() from sms_joins j
""",
    """
insert into conversation_heads (conversation_id, org_id, last_at, channel, unread_since)
select uuidv7(), case when n % 100 = 0 then 'org ' || n else 'acme' end, now(), 'whatsapp',
    now() - interval '1 hour' from generate_series(1, $1::int) n
""",
    """
insert into parked_messages (org_id, message_id, conversation_id, kind, actor, content, written_at, expires_at, state,
                             intent_id)
select 'acme', uuidv7(), conversation_id, 'kept', 'staff', '{}', now() - interval '9 days', now() - interval '8 days',
       case when random() < 0.5 then 'waiting' else 'sent' end, uuidv7()
  from conversation_heads where org_id = 'acme'
""",
    """
insert into parked_releases (org_id, intent_id, conversation_id, intent, released_at)
select org_id, intent_id, conversation_id, '{}', now() - interval '1 hour' from parked_messages
""",
    """
insert into inbox_notices (org_id, type, conversation_id, message_id, since, at, published)
select 'acme', case when n % 2 = 0 then 'delivery.failed.v1' else 'conversation.unread.v1' end, uuidv7(),
       case when n % 2 = 0 then uuidv7() end, case when n % 2 = 1 then now() end, now() - interval '9 days', n % 3 > 0
    from generate_series(1, $1::int) n
""",
    """
insert into members (org_id, user_id, first_seen_at, seen_at) values ('acme', 'kim', now() - interval '99 days', now())
""",
    """
insert into member_reads (org_id, user_id, conversation_id, read_sequence)
select 'acme', 'kim', conversation_id, 9 from conversation_heads
""",
    """
insert into inbox_feeds (org_id, last) select 'acme', $1::int
""",
    """
insert into inbox_changes (org_id, change, conversation_id, kind, at)
select 'acme', n, uuidv7(), 'conversation', now() - interval '9 days' from generate_series(1, $1::int) n
""",
    """
insert into inbox_sessions (session_hash, org_id, user_id, capabilities, created_at, seen_at, ends_at)
select sha256(n::text::bytea), 'acme', 'kim', '{}', now(), now(), now() - interval '9 days'
  from generate_series(1, $1::int) n
""",
    """
insert into template_history (org_id, template_id, event, source, at)
select 'acme', uuidv7(), 'drafted', 'person', now() - interval '9 days' from generate_series(1, $1::int) n
""",
    """
insert into template_syncs (org_id, waba_id, due_at)
select 'acme', 100000 + n, now() - interval '1 hour' from generate_series(1, $1::int) n
""",
    """
insert into service_months (org_id, phone_number_id, month, delivered)
select 'acme', 100000 + n, '2020-01-01', 1 from generate_series(1, $1::int) n
""",
    """
insert into sms_days (org_id, day, segments) select 'acme', date '2020-01-01' - n, 1 from generate_series(1, $1::int) n
""",
    """
insert into sms_answers (conversation_id, org_id, decided_at, last_at)
select uuidv7(), 'acme', '{}', now() - interval '9 days' from generate_series(1, $1::int) n
""",
    """
insert into portal_sessions (session_hash, org_id, conversation_id, host, phone, created_at, seen_at, ends_at)
select sha256(n::text::bytea), 'acme', uuidv7(), 'x.link', '+4477', now(), now(), now() - interval '9 days'
  from generate_series(1, $1::int) n
""",
    """
insert into touched_customers (org_id, customer_id) select 'acme', customer_id from customers
""",
    """
insert into conversations (org_id, customer_id) select 'acme', customer_id from customers
""",
    """
insert into messages (org_id, message_id, conversation_id, direction, channel, kind, content, status, occurred_at,
    received_at)
select 'acme', uuidv7(), conversation_id, 'in', 'sms', 'text', '{"kind": "text", "text": "x"}', 'received', now(), now()
  from conversations
""",
    """
insert into conversation_merges (loser, org_id, winner, since) select uuidv7(), 'acme', uuidv7(), 0
    from generate_series(1, $1::int) n
""",
)

_NO_AUTOVACUUM = """
do $$ declare name text;
begin
    for name in select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
                 where c.relkind = 'r' and n.nspname = current_schema() loop
        execute format('alter table %s set (autovacuum_enabled = false)', name);
    end loop;
end $$
"""


_FIRST_FLOOD = """
insert into sends (org_id, message_id, attempt, channel, conversation_id, sequence, account, command, due_at,
    expires_at, created_at)
select 'acme', uuidv7(), 1, 'whatsapp', uuidv7(), n, '106400000000777', '{}',
    now() - interval '1 hour' + n * interval '1 microsecond',
    now() + interval '1 day', now() from generate_series(1, $1::int) n
"""


@pytest_asyncio.fixture
async def growing_pool(database: str) -> AsyncIterator[Pool]:
    """A pool of two on a database with one organisation."""
    async with open_pool(database, application_name="test", size=2, command_seconds=300) as pool:
        async with pool.acquire() as db:
            await world.an_org(db, ORG, NUMBER)
        yield pool


async def tell_the_planner_nothing(db: Connection) -> None:
    """Turn autovacuum off for every table, or it teaches the planner something in the middle."""
    await db.execute(_NO_AUTOVACUUM)


async def let_wait(db: Connection, rows: int) -> None:
    """So many rows in each place. Nobody tells the planner of them."""
    await tell_the_planner_nothing(db)
    for place in _WAITING:
        await db.execute(place, *([rows] if "$1" in place else []))


async def let_wait_unseen(pool: Pool, rows: int) -> None:
    """As ``let_wait``, and the planner takes every table for empty: it was told so before the rows were committed."""
    async with pool.acquire() as db, pool.acquire() as other, db.transaction():
        async with other.transaction():
            await tell_the_planner_nothing(other)
        for place in _WAITING:
            await db.execute(place, *([rows] if "$1" in place else []))
        for table in {name for place in _WAITING for name in re.findall(r"insert into (\w+)", place)}:
            await other.execute(f"analyze {table}")


async def let_first_flood_wait(db: Connection, rows: int) -> None:
    """So many sends of one account, the first ones ever: nothing was analysed yet."""
    await tell_the_planner_nothing(db)
    await db.execute(_FIRST_FLOOD, rows)


async def let_indexes_lead(db: Connection, rows: int) -> None:
    """A small table may be read as a whole, and says nothing of a large one. From 100,000 rows on any plan goes."""
    for way in ("seqscan", "mergejoin", "hashjoin"):
        await db.execute(f"set enable_{way} = {rows >= 100_000}")


async def too_much(db: Connection, works: Mapping[str, Work], rows: int = TAKEN) -> list[str]:
    """Of each work: its statements that read more than belongs to so many rows. Nothing of it stays."""
    found: list[str] = []
    for name, work in works.items():
        explaining = Explaining(db)
        undone = db.transaction()
        await undone.start()
        await work(explaining)
        await undone.rollback()
        assert explaining.plans
        found += [f"{name}: {one}" for one in explaining.too_much(rows)]
    return found
