"""However many rows wait: the work of every second reads the rows that it takes, and none that wait behind them."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from libs.common.db.planner_statistics import forget_emptiness
from libs.common.db.pool import Pool
from libs.common.directory import consents, erased_identities, erasure, holds
from libs.common.directory.address_marks import purge_marks
from libs.common.directory.identity_queries import purge_notices
from libs.common.directory.organisations import forget_former_numbers
from libs.common.directory.sms_stops import stopped_lines
from libs.common.directory.touched import take, touch
from libs.common.kafka import parked
from libs.common.providers import WHATSAPP_BY_META
from libs.common.providers.accounts import AccountKey
from libs.common.sending import (
    claim_queries,
    conversation_order,
    pause_queries,
    refusals,
    resending,
    sms_caps,
    unanswered_calls,
    whatsapp_charges,
)
from libs.common.sending import coverage_queries as coverage
from libs.common.sending import queries as sends
from libs.common.sending.merge_slices import move_some
from libs.common.sending.rows import UnansweredCall
from libs.common.sending.status_effects import receive_statuses, store_provider_ids
from libs.common.sending.statuses import ProviderId, forget_early, forget_nameless
from libs.common.sending.waiting_queries import waiting
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
from services.ingest.queries import purge_links, purge_sessions
from services.router import portal_unread_queries, reconcile_queries
from services.sms_bridge import evidence_queries as sms_queries
from services.sms_bridge import missed_queries
from services.whatsapp_sender import queries as whatsapp_queries
from tests.support.growth import (
    DAY,
    MINUTE,
    TAKEN,
    Work,
    let_first_flood_wait,
    let_indexes_lead,
    let_wait,
    let_wait_unseen,
    too_much,
)
from tests.support.inbox_world import RULE
from tests.support.ingest import ORG, now

META, SMS = "106400000000777", "+447700900555"


async def _evidence(db: Any) -> None:
    look = {"soonest": MINUTE, "latest": MINUTE, "abandoned": DAY}
    rows = await sends.take_unknown(db, "whatsapp", ["meta"], now(), TAKEN, **look)
    await whatsapp_queries.evidence(db, [(row.key, row.account) for row in rows])
    rows = await sends.take_unknown(db, "sms", ["twilio"], now(), TAKEN, **look)
    await sms_queries.ids_of_sends(db, "twilio", "AC1", rows)


async def _news(db: Any) -> None:
    rows = await sends.take_unpublished(db.db, "whatsapp", now(), TAKEN, now() + MINUTE)
    assert len(rows) == TAKEN
    await sends.keep_pending_events(db, [(row.key, {}) for row in rows])
    await sends.mark_published(db, [row.key for row in rows])


async def _freed(db: Any) -> None:
    waiting = "select org_id, conversation_id from sends where deferred_until is not null limit $1"
    assert await conversation_order.release_blocked(db, [tuple(row) for row in await db.db.fetch(waiting, TAKEN)])


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
    keys = await reconcile_queries.take_due(db, now(), TAKEN, first=MINUTE, longest=DAY, ends=False)
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
    keys = [("vonage", SMS, f"part {n}") for n in range(1, TAKEN)]
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


async def _erased(db: Any) -> None:
    place = "select org_id, conversation_id from messages where channel = 'sms' and direction = 'in' limit 1"
    org_id, conversation_id = await db.db.fetchrow(place)
    whom = await erasure.find(db, org_id, conversation_id)
    assert whom is not None
    assert (await erasure.look(db, whom)).messages == 1
    await erasure.forget_person(db, whom, now())
    assert len((await erasure.erase_slice(db, whom, conversation_id, -1)).left) == 1


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


async def _touched(db: Any) -> None:
    assert await take(db, "", 5, TAKEN)
    await touch(
        db, [tuple(row) for row in await db.db.fetch("select org_id, customer_id from customers limit $1", TAKEN)]
    )


async def _read_marks(db: Any) -> None:
    (kim,) = await read_queries.members_after(db, ("", ""), TAKEN, TAKEN)
    assert kim.crowded
    await read_queries.move(db, ORG, "kim", 0, TAKEN)


async def _unanswered(db: Any) -> None:
    calls = [UnansweredCall("account 10", ORG, uuid4(), 1, 0) for _ in range(TAKEN)]
    assert await unanswered_calls.add(db, "whatsapp", calls, now()) == {"account 10": TAKEN}
    await unanswered_calls.end(db, "whatsapp", ["account 10"])


WORKS: dict[str, Work] = {
    "heads": _heads,
    "feed": _feed,
    "read marks": _read_marks,
    "touched": _touched,
    "account of templates": lambda db: template_sync_queries.claim(db, now(), MINUTE),
    "forget changes": lambda db: feed_queries.forget(db, now() - DAY, TAKEN),
    "forget sessions": lambda db: session_queries.purge_sessions(db, now() - DAY, TAKEN),
    "forget history of templates": lambda db: template_sync_queries.forget_history(db, now() - DAY, TAKEN),
    "forget months": lambda db: whatsapp_charges.forget_months(db, now() - DAY, TAKEN),
    "claim": lambda db: sends.candidates(db, WHATSAPP_BY_META, {META: TAKEN, "account 10": TAKEN}, now(), MINUTE),
    "accounts": lambda db: sends.accounts_after(db, WHATSAPP_BY_META, now(), "", TAKEN),
    "keep behind": lambda db: conversation_order.defer_blocked(db, "whatsapp", [META], now(), MINUTE, limit=TAKEN),
    "free": _freed,
    "free nobody": lambda db: conversation_order.release_blocked(db, [(ORG, uuid4()) for _ in range(TAKEN)]),
    "free in time": lambda db: conversation_order.release_due(db, "whatsapp", now(), TAKEN),
    "ended claims": lambda db: claim_queries.ended_claims(db, "whatsapp", now(), TAKEN),
    "forget claims": lambda db: claim_queries.forget_claims(db, "whatsapp", now(), TAKEN),
    "overdue": lambda db: sends.overdue(db, "whatsapp", now(), TAKEN),
    "unknown": _evidence,
    "unpublished": lambda db: sends.take_unpublished(db, "whatsapp", now(), TAKEN, now() + MINUTE),
    "news": _news,
    "waiting": lambda db: waiting(db, "whatsapp", now(), TAKEN),
    "pauses": _paused,
    "early statuses": _statuses,
    "reconcile": _reconciled,
    "overdue of nobody": lambda db: reconcile_queries.find_overdue(db, now(), now(), TAKEN),
    "unread in the portal": _unread_in_portal,
    "inbound sms": _sms,
    "cover": _covered,
    "charges": lambda db: whatsapp_charges.charge_some(db, now(), TAKEN),
    "consents": lambda db: consents.unpublished(db, TAKEN),
    "unanswered calls": _unanswered,
    "unheard": lambda db: sms_queries.take_unconfirmed(db, "AC1", now(), TAKEN),
    "missed sms": _missed,
    "merges": lambda db: move_some(db, TAKEN),
    "parked texts": _parked_texts,
    "notices": _notices,
    "erase a customer": _erased,
    "holds": lambda db: holds.unpublished(db, TAKEN),
    "sends of people": _sent_by_people,
    "forget sends of people": lambda db: sending_queries.forget(db, now() - DAY, TAKEN),
    "forget parked texts": lambda db: parked_queries.purge(db, now() - DAY, TAKEN),
    "forget told notices": lambda db: notice_queries.forget(db, now() - DAY, TAKEN),
    "forget early statuses": lambda db: forget_early(db, now() - DAY, TAKEN),
    "forget nameless statuses": lambda db: forget_nameless(db, now() - DAY, TAKEN),
    "forget erased identities": lambda db: erased_identities.purge(db, now() - DAY, TAKEN),
    "forget notices": lambda db: purge_notices(db, now() - DAY, TAKEN),
    "forget parts of sms": lambda db: inbound_queries.purge_joins(db, now() - DAY, TAKEN),
    "forget links": lambda db: purge_links(db, now() - DAY, TAKEN),
    "forget sessions of the portal": lambda db: purge_sessions(db, now() - DAY, TAKEN),
    "forget days": lambda db: sms_caps.forget_days(db, now() - DAY, TAKEN),
    "forget answers": lambda db: sms_caps.forget_answers(db, now() - DAY, TAKEN),
    "forget former numbers": lambda db: forget_former_numbers(db, now() - DAY, TAKEN),
    "forget marks": lambda db: purge_marks(db, now() - DAY, TAKEN),
    "forget parked records": lambda db: parked.forget_parked(db, now() - DAY, TAKEN),
    "forget edges": lambda db: coverage.forget_edges(db, now() - DAY, TAKEN),
    "forget refusals": lambda db: coverage.forget_refusals(db, now() - DAY, TAKEN),
    "forget resends": lambda db: resending.forget_resends(db, now() - DAY, TAKEN),
    "forget unanswered calls": lambda db: unanswered_calls.forget(db, now() - DAY, TAKEN),
}

SWEEPS = (
    *(
        "account of templates",
        "accounts",
        "charges",
        "consents",
        "cover",
        "ended claims",
        "free",
        "free in time",
        "free nobody",
    ),
    *(
        "holds",
        "keep behind",
        "merges",
        "missed sms",
        "overdue",
        "pauses",
        "unanswered calls",
        "unheard",
        "unknown",
        "unpublished",
    ),
    *(name for name in WORKS if name.startswith("forget")),
)
"""These take rows by their index, write them at their places, and look up by their keys what belongs to them."""

PER_MESSAGE = ("claim", "early statuses", "free nobody", "news")
"""Works with statements of connections that keep their plans."""


@pytest.mark.parametrize("rows", [5_000, pytest.param(100_000, marks=[pytest.mark.proof, pytest.mark.timeout(600)])])
async def test_what_is_done_all_the_time_reads_what_it_takes_however_much_waits(growing_pool: Pool, rows: int) -> None:
    found: list[str] = []
    async with growing_pool.acquire() as db:
        await let_wait(db, rows)
        await let_indexes_lead(db, rows)
        for believed in ("nothing", "what is so") if rows >= 100_000 else ("what is so",):
            if believed != "nothing":
                await db.execute("analyze")
            found += [f"{one}, while the planner believes {believed}" for one in await too_much(db, WORKS)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("rows", [5_000, pytest.param(100_000, marks=[pytest.mark.proof, pytest.mark.timeout(600)])])
async def test_a_sweep_writes_what_it_took_and_looks_for_nothing_else_though_its_table_is_believed_to_be_empty(
    growing_pool: Pool, rows: int
) -> None:
    await let_wait_unseen(growing_pool, rows)
    async with growing_pool.acquire() as db:
        found = await too_much(db, {name: WORKS[name] for name in SWEEPS})
    assert not found, "\n".join(found)


@pytest.mark.parametrize("rows", [5_000, pytest.param(100_000, marks=[pytest.mark.proof, pytest.mark.timeout(600)])])
async def test_tables_that_were_found_empty_while_they_filled_are_read_by_their_keys_soon_after(
    growing_pool: Pool, rows: int
) -> None:
    await let_wait_unseen(growing_pool, rows)
    await forget_emptiness(growing_pool)
    async with growing_pool.acquire(kept_plans=True) as db:
        found = await too_much(db, {name: WORKS[name] for name in PER_MESSAGE})
    if rows >= 100_000:  # a smaller one may be read as a whole
        async with growing_pool.acquire() as db:
            found += await too_much(db, WORKS)
    assert not found, "\n".join(found)


async def test_the_first_flood_of_an_installation_is_read_in_the_order_in_which_it_is_due(growing_pool: Pool) -> None:
    async with growing_pool.acquire() as db:
        await let_first_flood_wait(db, 250 * TAKEN)
        looks = ("claim", "accounts", "keep behind", "overdue", "waiting", "ended claims", "free in time")
        found = await too_much(db, {name: WORKS[name] for name in looks})
    assert not found, "\n".join(found)
