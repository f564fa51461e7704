"""However much was said before: each step of a message, in or out, reads what belongs to it and nothing else."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest

from libs.common.bridge import queries as bridge
from libs.common.bridge.slot import Slot
from libs.common.db.pool import Pool
from libs.common.directory.address_marks import clear
from libs.common.directory.reports import SignOfLife
from libs.common.events.intents import decode_intent
from libs.common.events.outbound import DeliveryUpdate
from libs.common.sending import queries as sends
from libs.common.sending.rows import SendRow
from libs.common.sending.status_effects import receive_statuses
from libs.common.thread import messages
from libs.common.thread.message_status import ProviderStatus
from services.inbox import (
    context_queries,
    conversation_queries,
    message_queries,
    notice_queries,
    parked_queries,
    word_queries,
)
from services.ingest import identity_queries, portal_queries, staff
from services.ingest.items import CustomerMessage, GroupMessage, Sender, StaffEcho
from services.ingest.portal_queries import PortalText
from services.ingest.queries import Place, store_messages, store_of_groups
from services.ingest.sms_queries import IncomingSms, store_sms
from services.portal import queries as portal
from services.portal.rows import Thread
from services.router import queries as router
from services.router.decide import decide
from services.router.fact_queries import WindowRule, attempts_of
from services.router.recorded_decision import record_of
from services.sms_bridge import queries as sms
from services.whatsapp_sender import queries as whatsapp
from tests.support.growth import (
    CUSTOMERS,
    DAY,
    MINUTE,
    TAKEN,
    Work,
    let_indexes_lead,
    tell_the_planner_nothing,
    too_much,
)
from tests.support.ingest import ORG, now
from tests.support.webhooks import NUMBER

EACH = 10
"""Messages in a conversation: every second one is an answer."""

# $1: how many conversations
_SAID = (
    *CUSTOMERS,
    f"""
insert into conversations (conversation_id, org_id, customer_id, phone_number_id, wa_id, last_customer_at,
    last_inbound_channel, last_inbound_at)
select md5('conversation ' || n)::uuid, 'acme', md5('customer ' || n)::uuid, '{NUMBER}', '4477' || 10000000 + n,
    now() - interval '1 hour', 'whatsapp', now() - interval '1 hour'
  from generate_series(1, $1::int) n
""",
    f"""
insert into group_threads (org_id, phone_number_id, group_id)
select 'acme', '{NUMBER}', 'group ' || n from generate_series(1, $1::int) n
""",
    f"""
insert into messages (org_id, message_id, conversation_id, direction, channel, provider, account, provider_id, kind,
    content, actor, status, occurred_at, received_at)
select 'acme', md5('message ' || s)::uuid, md5('conversation ' || s % $1 + 1)::uuid,
       case when s / $1 % 2 = 1 then 'out' else 'in' end, 'whatsapp', 'meta', '{NUMBER}', 'wamid ' || s, 'text',
       '{{"kind": "text", "text": "x"}}', case when s / $1 % 2 = 1 then 'ai' end,
       case when s / $1 % 2 = 1 then 'sent' else 'received' end, now(), now()
  from generate_series(0, $1::int * {EACH} - 1) s
""",
    """
insert into decisions (org_id, intent_id, attempt, conversation_id, route, channel, reason, record, command, decided_at)
select org_id, message_id, 1, conversation_id, 'session', 'whatsapp', 'window_open', '{}', '{}',
    now() - sequence * interval '1 second'
  from messages where direction = 'out'
""",
    f"""
insert into sends (org_id, message_id, attempt, channel, provider, account, conversation_id, sequence, command, state,
    due_at, expires_at, tries, claim_id, claimed_at, lease_until, settled_at, published, created_at)
select org_id, message_id, 1, 'whatsapp', 'meta', account, conversation_id, sequence, '{{"to": "+447710000001"}}',
       case when recent then 'claimed' else 'accepted' end, now(), now() + interval '1 day', 1, uuidv7(), now(), now(),
       case when not recent then now() end, not recent, now()
  from (select *, row_number() over (order by sequence desc) <= 2 * {TAKEN} as recent
          from messages where direction = 'out') m
""",
    """
insert into provider_ids (channel, provider, account, provider_id, org_id, message_id, send_id, attempt, recorded_at)
select 'whatsapp', 'meta', account, provider_id, org_id, message_id, message_id, 1, now()
  from messages where direction = 'out'
""",
)

# A member has read every second conversation; an intent of each was silenced by a bridge, and a text waits in each.
_INBOX = (
    """
insert into conversation_heads (conversation_id, org_id, last_at, channel, last_sequence, inbound_sequence)
select conversation_id, org_id, now(), 'whatsapp', row_number() over () * 2, row_number() over () * 2
  from conversations
""",
    """
insert into members (org_id, user_id, first_seen_at, seen_at) values ('acme', 'kim', now() - interval '99 days', now())
""",
    """
insert into member_reads (org_id, user_id, conversation_id, read_sequence)
select org_id, 'kim', conversation_id, inbound_sequence - (inbound_sequence / 2 % 2) from conversation_heads
""",
    """
insert into parked_messages (org_id, message_id, conversation_id, kind, actor, content, written_at, expires_at)
select org_id, uuidv7(), conversation_id, 'kept', 'staff', '{}', now(), now() + interval '1 day' from conversations
""",
    """
insert into decisions (org_id, intent_id, attempt, conversation_id, route, channel, reason, slot_holder, record,
    decided_at)
select org_id, message_id, 2, conversation_id, 'silent', 'sms', 'bridge_already_sent', message_id, '{}', now()
  from messages where direction = 'out'
""",
    """
insert into inbox_notices (org_id, type, conversation_id, message_id, published)
select org_id, 'delivery.failed.v1', conversation_id, message_id, true from messages where direction = 'out'
""",
    """
insert into address_marks (org_id, channel, address, reason, source, at, until)
select org_id, 'sms', phone, 'no_phone', 'status', now(), now() + interval '9 days' from customers
""",
)

_CONVERSATIONS = "select org_id, conversation_id, wa_id from conversations order by conversation_id limit $1"


async def _in(db: Any) -> None:
    rows = await db.db.fetch(_CONVERSATIONS, TAKEN)
    found = await identity_queries.find_senders(db, [(NUMBER, row["wa_id"], None) for row in rows])
    assert await identity_queries.fixed_places(db, [(ORG, "meta", NUMBER, f"wamid {n}") for n in range(TAKEN)])
    at = now() + MINUTE  # of a clock that is fast: its copies are looked for
    placed = [
        (
            CustomerMessage(
                NUMBER,
                Sender(row["wa_id"], None),
                f"new {n}",
                {"kind": "text"},
                f"wamid {n}",
                at,
                now(),
                opens=True,
            ),
            Place(ORG, one.conversation_id or UUID(int=0), one.identity_version or 0),
        )
        for n, (row, one) in enumerate(zip(rows, found, strict=True))
    ]
    assert all(one.fresh and one.quoted for one in await store_messages(db, placed))
    assert not any(one.fresh for one in await store_messages(db, placed))


async def _echoed(db: Any) -> None:
    rows = await db.db.fetch(_CONVERSATIONS, TAKEN)
    found = await identity_queries.find_senders(db, [(NUMBER, row["wa_id"], None) for row in rows])
    placed = [
        (
            StaffEcho(NUMBER, Sender(row["wa_id"], None), f"echo {n}", {"kind": "text"}, f"wamid {n}", now(), now()),
            Place(ORG, one.conversation_id or UUID(int=0), one.identity_version or 0),
        )
        for n, (row, one) in enumerate(zip(rows, found, strict=True))
    ]
    async with db.db.transaction():
        stored = await staff.store_placed(db, placed, now())
        assert len(stored.messages) == len(stored.fresh) == len(stored.held) == TAKEN
        assert not (await staff.store_placed(db, placed, now())).fresh


async def _in_groups(db: Any) -> None:
    rows = await db.db.fetch(_CONVERSATIONS, TAKEN)
    said = [
        GroupMessage(
            NUMBER, f"group {n}", Sender(row["wa_id"], None), f"said {n}", {"kind": "text"}, None, now(), now()
        )
        for n, row in enumerate(rows)
    ]
    assert all(one.fresh for one in await store_of_groups(db, said))
    assert not any(one.fresh for one in await store_of_groups(db, said))


async def _decided(db: Any) -> None:
    intents = [
        decode_intent(
            orjson.dumps(
                {
                    "type": "outbound.intent.v1",
                    "intent_id": str(uuid4()),
                    "org_id": ORG,
                    "conversation_id": str(row["conversation_id"]),
                    "actor": {"kind": "ai"},
                    "content": {"kind": "text", "text": "x"},
                    "created_at": now().isoformat(),
                }
            )
        )
        for row in await db.db.fetch(_CONVERSATIONS, TAKEN)
    ]
    at, rule = now(), WindowRule(DAY, timedelta(0), MINUTE)
    attempts = await attempts_of(db, [(intent, 1) for intent in intents], rule, at)
    rows = [record_of(one, decide(one.intent, one.facts, at), at) for one in attempts]
    assert len(await router.record_first(db, rows)) == TAKEN
    assert len(await router.recorded(db, [row.attempt_key for row in rows])) == TAKEN
    await router.lock_refused(db, [row.key for row in rows])
    assert len(await router.record_again(db, [row._replace(attempt=2) for row in rows])) == TAKEN


async def _claimed(db: Any, most: int) -> list[SendRow]:
    asked = f"select {sends.COLUMNS} from sends s where s.settled_at is null order by s.sequence limit $1"
    return [sends.row_of(row) for row in await db.db.fetch(asked, most)]


async def _judged(db: Any) -> None:
    rows = await _claimed(db, 10)  # so many are counted on where a plan is kept
    assert len(await whatsapp.facts(db, rows, (DAY, MINUTE), now())) == len(rows)
    assert await whatsapp.evidence(db, [(row.key, row.account) for row in rows])
    await sms.facts_of(db, rows, window_length=DAY, window_doubt=MINUTE, now=now())


async def _ended(db: Any) -> None:
    rows = await _claimed(db, 2 * TAKEN)
    accepted = [(row, row._replace(state="accepted", outcome={}, settled_at=now())) for row in rows[:TAKEN]]
    later = [(row, row._replace(state="pending", claim_id=None, lease_until=None)) for row in rows[TAKEN:]]
    assert len(await sends.write(db, [*accepted, *later])) == 2 * TAKEN


async def _told(db: Any) -> None:
    ids = await db.db.fetch("select provider_id, org_id, message_id from provider_ids limit $1", TAKEN)
    told = [ProviderStatus("whatsapp", "meta", NUMBER, row["provider_id"], "delivered", now()) for row in ids]
    assert len((await receive_statuses(db, told, now())).updates) == TAKEN
    await messages.lock_messages(db, {(row["org_id"], row["message_id"]) for row in ids})


async def _shown(db: Any) -> None:
    for row in await db.db.fetch(_CONVERSATIONS, 3):
        id_ = row["conversation_id"]
        assert await conversation_queries.one(db, ORG, "kim", id_, now())
        assert (thread := await message_queries.thread(db, ORG, id_, now()))
        assert len(await message_queries.page(db, ORG, thread, message_queries.NEWEST, 50)) == EACH
        assert await context_queries.newest(db, ORG, id_, 30)


async def _in_inbox(db: Any) -> None:
    rows = await db.db.fetch(_CONVERSATIONS, TAKEN)
    keys = [(row["org_id"], row["conversation_id"]) for row in rows]
    await word_queries.write_customers(db, keys)
    assert len(await parked_queries.openings(db, keys, now(), {})) == TAKEN
    unread = await conversation_queries.unread_of(db, ORG, ["kim", "lee"], [id_ for _, id_ in keys])
    assert 0 < len(unread["kim"]) < TAKEN


async def _failed(db: Any) -> None:
    asked = "select message_id, conversation_id from messages where direction = 'out' limit $1"
    told = [
        DeliveryUpdate(**row, org_id=ORG, channel="whatsapp", seq=1, status="failed", reason="x", at=now())
        for row in await db.db.fetch(asked, TAKEN)
    ]
    assert await notice_queries.store_failures(db, told, now()) == []


async def _listed(db: Any) -> None:
    views: tuple[conversation_queries.View, ...] = ("unread", "closing", "failed")
    for view in views:
        query = conversation_queries.ListQuery(ORG, "kim", view, now() - DAY, now(), now(), EACH)
        assert len(await conversation_queries.page(db, query)) == (EACH if view == "unread" else 0)


async def _freed(db: Any) -> None:
    held = await db.db.fetch(
        "select org_id, conversation_id, slot_holder from decisions where attempt = 2 limit $1", 50
    )
    assert len(await bridge.newest_silenced(db, [Slot(*row) for row in held])) == 50


async def _alive(db: Any) -> None:
    signs = [SignOfLife(org_id, "sms", "+447710000001", now()) for org_id in (ORG, "without marks")]
    await clear(db, signs)


async def _in_portal(db: Any) -> None:
    at = now()
    threads = [
        Thread(b"", uuid4(), ORG, row["conversation_id"], "x.link", "+44", at, None, "Acme", None)
        for row in await db.db.fetch(_CONVERSATIONS, TAKEN // 2)
    ]
    assert all(await portal.digests_of(db, threads, 50))
    assert all(await portal.newest_of(db, threads, 50))
    assert await portal.messages_of(db, threads[0], None, 50)


async def _in_other_ways(db: Any) -> None:
    ids = [row["conversation_id"] for row in await db.db.fetch(_CONVERSATIONS, TAKEN)]
    assert all(await portal_queries.places(db, [(ORG, id_) for id_ in ids]))
    texts = [PortalText(ORG, id_, 0, f"form {n}", {"kind": "text"}, now()) for n, id_ in enumerate(ids)]
    assert all(one.fresh for one in await portal_queries.store_texts(db, texts, now()))
    assert not any(one.fresh for one in await portal_queries.store_texts(db, texts, now()))
    told = [
        IncomingSms(ORG, id_, 0, "twilio", "+44", f"SM{n}", "text", {"kind": "text"}, now(), now(), None)
        for n, id_ in enumerate(ids)
    ]
    assert all(one.fresh for one in await store_sms(db, told))
    assert not any(one.fresh for one in await store_sms(db, told))


KEPT: dict[str, Work] = {"an intent is decided": _decided, "a send is judged": _judged, "a send ends": _ended}
"""Works of connections that keep their plans."""

WORKS: dict[str, Work] = {
    "a message comes in": _in,
    "staff write on the phone": _echoed,
    "a message to a group comes in": _in_groups,
    "a text of the portal or an SMS comes in": _in_other_ways,
    "a status comes": _told,
    "the inbox hears of messages": _in_inbox,
    "the inbox hears of failures": _failed,
    "the portal shows threads": _in_portal,
    "a bridge gives its slot back": _freed,
    "somebody is alive": _alive,
}

LISTS: dict[str, Work] = {"staff see a list": _listed}
"""Without statistics each head is read once."""

ALONE: dict[str, Work] = {"staff see a thread": _shown}
"""Works on one conversation. Where tables are small, all customers of an organisation may be read."""


@pytest.mark.parametrize("said", [5_000, pytest.param(100_000, marks=[pytest.mark.proof, pytest.mark.timeout(600)])])
async def test_a_message_costs_the_same_however_much_was_said_before(growing_pool: Pool, said: int) -> None:
    found: list[str] = []
    async with growing_pool.acquire() as db:
        await tell_the_planner_nothing(db)
        for place in (*_SAID, *_INBOX):
            await db.execute(place, *([said // EACH] if "$1" in place else []))
        await let_indexes_lead(db, said)
        for believed in ("nothing", "what is so"):
            if believed != "nothing":
                await db.execute("analyze")
            async with growing_pool.acquire(kept_plans=True) as keeping:
                # some steps look at a dozen tables for each message
                lines = await too_much(db, WORKS, 2 * TAKEN) + await too_much(keeping, KEPT, 2 * TAKEN)
                if said >= 100_000:
                    lines += await too_much(db, ALONE, EACH)
                    lines += await too_much(db, LISTS, EACH if believed == "what is so" else said // EACH)
            found += [f"{one}, while the planner believes {believed}" for one in lines]
    assert not found, "\n".join(found)
