"""However many rows wait: the work of every second reads the rows that it takes, and none that wait behind them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from libs.common.db.pool import Pool, open_pool
from libs.common.directory import consents, holds
from libs.common.directory.address_marks import purge_marks
from libs.common.directory.identity_queries import purge_notices
from libs.common.directory.merge import Merge, merge_customers
from libs.common.directory.organisations import forget_former_numbers
from libs.common.directory.sms_stops import stopped_lines
from libs.common.kafka import parked
from libs.common.providers import WHATSAPP_BY_META
from libs.common.providers.accounts import AccountKey
from libs.common.sending import (
    claim_queries,
    conversation_order,
    pause_queries,
    refusals,
    resending,
    whatsapp_charges,
)
from libs.common.sending import coverage_queries as coverage
from libs.common.sending import queries as sends
from libs.common.sending.merge_slices import move_some
from libs.common.sending.status_effects import receive_statuses, store_provider_ids
from libs.common.sending.statuses import ProviderId, forget_early, forget_nameless
from libs.common.sending.waiting_queries import waiting
from libs.common.thread import conversations
from libs.common.thread.conversations import SenderFilter
from libs.common.thread.message_status import ProviderStatus
from services.inbox import (
    feed_queries,
    head_queries,
    heads,
    notice_queries,
    parked_queries,
    read_queries,
    sending_queries,
    session_queries,
    template_sync_queries,
    word_queries,
)
from services.inbox.feed import Change
from services.inbox.notices import NEWEST
from services.ingest import sms_queries as inbound_queries
from services.ingest.queries import purge_links
from services.router import portal_unread_queries, reconcile_queries
from services.sms_bridge import evidence_queries as sms_queries
from services.sms_bridge import missed_queries
from services.whatsapp_sender import queries as whatsapp_queries
from tests.support import world
from tests.support.explaining import Explaining
from tests.support.inbox_world import RULE
from tests.support.ingest import ORG, now
from tests.support.threads import Threads
from tests.support.webhooks import NUMBER

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
TAKEN = 200
"""So many rows are taken at once, of whatever waits."""
META, SMS = "106400000000777", "+447700900555"

# So many rows ($1) in each place where rows wait: all of them due, most of them of one account.
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

Work = Callable[[Any], Awaitable[Any]]


async def _evidence(db: Any) -> None:
    look = {"soonest": MINUTE, "latest": MINUTE, "abandoned": DAY}
    rows = await sends.take_unknown(db, "whatsapp", ["meta"], now(), TAKEN, **look)
    await whatsapp_queries.evidence(db, [(row.key, row.account) for row in rows])
    rows = await sends.take_unknown(db, "sms", ["twilio"], now(), TAKEN, **look)
    await sms_queries.ids_of_sends(db, "twilio", "AC1", rows)


async def _news(db: Any) -> None:
    rows = await sends.take_unpublished(db, "whatsapp", now(), TAKEN, now() + MINUTE)
    await sends.keep_pending_events(db, [(row.key, {}) for row in rows])
    await sends.mark_published(db, [row.key for row in rows])


async def _statuses(db: Any) -> None:
    told = [
        ProviderStatus("whatsapp", "meta", META, f"id {n}", "delivered", now(), None, None, {}) for n in range(1, TAKEN)
    ]
    await receive_statuses(db, told, now())
    given = [ProviderId("whatsapp", "meta", META, f"early {n}", ORG, uuid4(), uuid4(), 1) for n in range(1, TAKEN)]
    await store_provider_ids(db, given, now())


async def _reconciled(db: Any) -> None:
    passes: tuple[reconcile_queries.Pass, ...] = ("unsent", "unheard")
    for what in passes:
        await reconcile_queries.look_through(db, what, None, now(), now(), lifetime=DAY, limit=TAKEN)
    keys = await reconcile_queries.take_due(db, now(), TAKEN, first=MINUTE, longest=DAY)
    await reconcile_queries.look(db, keys)
    await refusals.take(db, now(), now(), TAKEN)


async def _unread_in_portal(db: Any) -> None:
    keys = [answer.key for answer in await portal_unread_queries.take(db, now(), TAKEN)]
    await portal_unread_queries.postpone(db, [(key, now()) for key in keys])
    await portal_unread_queries.forget(db, keys)


async def _sms(db: Any) -> None:
    numbers = [f"+4477{n}" for n in range(TAKEN)]
    await inbound_queries.called_numbers(db, numbers)
    await inbound_queries.find_places(db, [inbound_queries.Writer(ORG, "phone", one, now()) for one in numbers])
    await stopped_lines(db, {(ORG, one) for one in numbers})
    keys = [(ORG, "vonage", SMS, f"part {n}") for n in range(1, TAKEN)]
    concats = [inbound_queries.Concat(ORG, "vonage", SMS, f"+4478{n}", "1", 2) for n in range(TAKEN)]
    await inbound_queries.joins_of(db, concats, keys)
    await inbound_queries.close_overdue(db, MINUTE, TAKEN)


async def _missed(db: Any) -> None:
    routes: list[tuple[str | None, str | None]] = [(None, None), ("twilio", None)]
    (found,) = await missed_queries.take_due(db, "AC1", routes, now(), back=DAY, lease=MINUTE, limit=TAKEN)
    await missed_queries.stored_ids(db, AccountKey("twilio", "AC1"), found.number, [f"SM{n}" for n in range(TAKEN)])
    await missed_queries.move(db, "AC1", [found.number], now(), now())


async def _paused(db: Any) -> None:
    await pause_queries.take_due_for_log(db, WHATSAPP_BY_META, now())
    await pause_queries.lock_unresponsive(db, WHATSAPP_BY_META, [f"account {n}" for n in range(TAKEN)], now())
    await pause_queries.prove(db, "meta", [(ORG, uuid4(), 1) for _ in range(TAKEN)])


async def _covered(db: Any) -> None:
    await coverage.cover(db, "meta", now() - DAY)
    await resending.lately_released(db, "meta", now() - DAY, TAKEN)


async def _parked_texts(db: Any) -> None:
    places = "select org_id, conversation_id from parked_messages where state = 'waiting' limit $1"
    keys = [tuple(row) for row in await db.db.fetch(places, TAKEN)]
    assert len(keys) == TAKEN
    await parked_queries.openings(db, keys, now(), {})
    await parked_queries.waiting(db, keys, now() - 9 * DAY)
    await parked_queries.failed(db, [(ORG, uuid4()) for _ in range(TAKEN)])
    await parked_queries.unpublished(db, now(), TAKEN)


async def _notices(db: Any) -> None:
    found = await notice_queries.organisations_after(db, "", TAKEN)
    assert ORG in {one.org_id for one in found}
    await notice_queries.overdue(db, {one.org_id: now() for one in found}, 1)
    await notice_queries.left(db, now(), TAKEN)
    await notice_queries.new_of(db, ORG, "kim")
    assert len(await notice_queries.bell(db, ORG, "kim", NEWEST, 50)) == 50
    await notice_queries.seen(db, ORG, "kim", NEWEST)


async def _sent_by_people(db: Any) -> None:
    note = sending_queries.Note(ORG, uuid4(), "kim", b"", now())
    assert (await sending_queries.note(db, note, MINUTE, TAKEN)).too_many
    await sending_queries.before(db, ORG, note.intent_id)


async def _heads(db: Any) -> None:
    found = await head_queries.conversations_after(db, UUID(int=0), TAKEN)
    assert len(found) == TAKEN
    keys = [(org_id, id_) for id_, org_id, _missing in found]
    assert len(await heads.refresh(db, keys, RULE)) == TAKEN
    messages = "select org_id, message_id from messages where direction = 'in' limit $1"
    await word_queries.write_words(db, [tuple(row) for row in await db.db.fetch(messages, TAKEN)])
    await word_queries.write_customers(db, keys)


async def _feed(db: Any) -> None:
    assert (await feed_queries.since(db, [(ORG, 10)], TAKEN))[ORG, 10].changes
    await feed_queries.add(db, [Change(ORG, uuid4(), None, "conversation") for _ in range(TAKEN)])
    await feed_queries.newest_mark(db, ORG)
    await feed_queries.stored_at(db, ORG, 10)
    await feed_queries.turned(db, [(ORG, now() + DAY)], now() + DAY + MINUTE, length=DAY, closing_soon=MINUTE)


async def _read_marks(db: Any) -> None:
    (kim,) = await read_queries.members_after(db, ("", ""), TAKEN, TAKEN)
    assert kim.crowded
    await read_queries.fold(db, ORG, "kim", 0)


WORKS: dict[str, Work] = {
    "heads": _heads,
    "feed": _feed,
    "read marks": _read_marks,
    "account of templates": lambda db: template_sync_queries.claim(db, now(), MINUTE),
    "forget changes": lambda db: feed_queries.forget(db, now() - DAY, TAKEN),
    "forget sessions": lambda db: session_queries.purge_sessions(db, now() - DAY, TAKEN),
    "forget history of templates": lambda db: template_sync_queries.forget_history(db, now() - DAY, TAKEN),
    "forget months": lambda db: whatsapp_charges.forget_months(db, now() - DAY, TAKEN),
    "claim": lambda db: sends.candidates(db, WHATSAPP_BY_META, {META: TAKEN, "account 10": TAKEN}, now(), MINUTE),
    "accounts": lambda db: sends.accounts_after(db, WHATSAPP_BY_META, now(), "", TAKEN),
    "keep behind": lambda db: conversation_order.defer_blocked(db, "whatsapp", [META], now(), MINUTE, limit=TAKEN),
    "free": lambda db: conversation_order.release_blocked(db, [(ORG, uuid4()) for _ in range(TAKEN)]),
    "free in time": lambda db: conversation_order.release_due(db, "whatsapp", now(), TAKEN),
    "ended claims": lambda db: claim_queries.ended_claims(db, "whatsapp", now(), TAKEN),
    "forget claims": lambda db: claim_queries.forget_claims(db, "whatsapp", now(), TAKEN),
    "overdue": lambda db: sends.overdue(db, "whatsapp", now(), TAKEN),
    "unknown": _evidence,
    "unpublished": _news,
    "waiting": lambda db: waiting(db, "whatsapp", now(), TAKEN),
    "pauses": _paused,
    "early statuses": _statuses,
    "reconcile": _reconciled,
    "unread in the portal": _unread_in_portal,
    "inbound sms": _sms,
    "cover": _covered,
    "charges": lambda db: whatsapp_charges.charge_some(db, now(), TAKEN),
    "consents": lambda db: consents.unpublished(db, TAKEN),
    "unheard": lambda db: sms_queries.take_unconfirmed(db, "AC1", now(), TAKEN),
    "missed sms": _missed,
    "merges": lambda db: move_some(db, TAKEN),
    "parked texts": _parked_texts,
    "notices": _notices,
    "holds": lambda db: holds.unpublished(db, TAKEN),
    "sends of people": _sent_by_people,
    "forget sends of people": lambda db: sending_queries.forget(db, now() - DAY, TAKEN),
    "forget parked texts": lambda db: parked_queries.purge(db, now() - DAY, TAKEN),
    "forget told notices": lambda db: notice_queries.forget(db, now() - DAY, TAKEN),
    "forget early statuses": lambda db: forget_early(db, now() - DAY, TAKEN),
    "forget nameless statuses": lambda db: forget_nameless(db, now() - DAY, TAKEN),
    "forget notices": lambda db: purge_notices(db, now() - DAY, TAKEN),
    "forget parts of sms": lambda db: inbound_queries.purge_joins(db, now() - DAY, TAKEN),
    "forget links": lambda db: purge_links(db, now() - DAY, TAKEN),
    "forget former numbers": lambda db: forget_former_numbers(db, now() - DAY, TAKEN),
    "forget marks": lambda db: purge_marks(db, now() - DAY, TAKEN),
    "forget parked records": lambda db: parked.forget_parked(db, now() - DAY, TAKEN),
    "forget edges": lambda db: coverage.forget_edges(db, now() - DAY, TAKEN),
    "forget refusals": lambda db: coverage.forget_refusals(db, now() - DAY, TAKEN),
    "forget resends": lambda db: resending.forget_resends(db, now() - DAY, TAKEN),
}


@pytest_asyncio.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with open_pool(database, application_name="test", size=2, command_seconds=300) as pool:
        async with pool.acquire() as db:
            await world.an_org(db, ORG, NUMBER)
        yield pool


@pytest.mark.parametrize("rows", [5_000, pytest.param(100_000, marks=[pytest.mark.proof, pytest.mark.timeout(600)])])
async def test_what_is_done_all_the_time_reads_what_it_takes_however_much_waits(pool: Pool, rows: int) -> None:
    many = rows >= 100_000
    too_much: dict[str, list[str]] = {}
    async with pool.acquire() as db:
        await db.execute(_NO_AUTOVACUUM)  # or it teaches the planner something in the middle
        for place in _WAITING:
            await db.execute(place, *([rows] if "$1" in place else []))
        for way in ("seqscan", "mergejoin", "hashjoin"):
            await db.execute(f"set enable_{way} = {many}")  # tables as small as the others may be read as a whole
        for believed in ("nothing", "what is so") if many else ("what is so",):
            if believed != "nothing":
                await db.execute("analyze")
            for name, work in WORKS.items():
                explaining = Explaining(db)
                undone = db.transaction()
                await undone.start()
                await work(explaining)
                await undone.rollback()
                assert explaining.plans
                if found := explaining.too_much(TAKEN):
                    too_much[f"{name}, while the planner believes {believed}"] = found
    assert not too_much, "\n".join(f"{name}: {one}" for name, found in too_much.items() for one in found)


_NO_AUTOVACUUM = """
do $$ declare name text;
begin
    for name in select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
                 where c.relkind = 'r' and n.nspname = current_schema() loop
        execute format('alter table %s set (autovacuum_enabled = false)', name);
    end loop;
end $$
"""


_THREAD = """
insert into messages (org_id, message_id, conversation_id, direction, channel, provider, account, provider_id, kind,
    content, status, occurred_at, received_at,
                      from_wa_id)
select 'acme', uuidv7(interval '-30 days' + n * interval '1 second'), $1::uuid, 'in', 'whatsapp', 'meta',
    '106400000000777', 'wamid ' || n, 'text', '{}', 'received',
       now() - interval '30 days' + n * interval '1 second', now() - interval '30 days' + n * interval '1 second',
           '447700900999'
  from generate_series(1, $2::int) n
"""
_QUEUE = """
insert into sends (org_id, message_id, attempt, channel, conversation_id, sequence, account, command, due_at,
    expires_at, created_at)
select 'acme', uuidv7(), 1, 'whatsapp', $1::uuid, n, '106400000000777', '{}', now(), now() + interval '1 day',
    now() from generate_series(1, $2::int) n
"""


@pytest.mark.parametrize("rows", [5_000, pytest.param(100_000, marks=[pytest.mark.proof, pytest.mark.timeout(600)])])
async def test_a_thread_of_any_length_is_merged_and_reconcile_progress_for_strangers_at_the_same_cost(
    pool: Pool, rows: int
) -> None:
    async with pool.acquire() as db:
        threads = Threads(db)
        await threads.opened(2)
        await db.execute(_THREAD, threads.conversations[0], rows)
        await db.execute(_QUEUE, threads.conversations[0], rows)
        await db.execute("analyze")
        undone = db.transaction()
        await undone.start()
        explaining = Explaining(db)
        asked = SenderFilter(ORG, threads.customers, ["447700900999"], [], now() - DAY)
        assert await conversations.messages_from(explaining, asked) == []  # type: ignore[arg-type]  # it is used like one
        assert explaining.too_much(5 * TAKEN) == []  # a page of the thread
        explaining = Explaining(db)
        await merge_customers(explaining, [Merge(ORG, *threads.customers)])  # type: ignore[arg-type]  # it is used like one
        assert explaining.too_much(10) == []
        for _ in range(4):
            await db.execute("update conversation_merges set due_at = now()")  # which stands still in a transaction
            explaining = Explaining(db)
            assert await move_some(explaining, TAKEN)  # type: ignore[arg-type]  # it is used like one
            assert explaining.too_much(TAKEN) == []
        await undone.rollback()
