"""Provider statuses and the ids they belong to, on a real PostgreSQL: whichever comes first, nothing is missed."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from libs.common.db.pool import Pool
from libs.common.ids import bridge_message_id
from libs.common.providers import WHATSAPP_BY_META, Transport
from libs.common.sending.status_effects import StatusEvents, receive_statuses, store_provider_ids
from libs.common.sending.statuses import forget_early, keep_provider_ids
from libs.common.thread.messages import LocalFailure, fail_locally
from services.ingest.tasks import purge
from tests.support.databases import somebody_waits
from tests.support.statuses import (
    CONVERSATION,
    NUMBER,
    OURS,
    PHONE,
    T0,
    a_message,
    a_status,
    an_id,
    receive,
    rungs,
    store,
    value,
)
from tests.support.waiting import DEADLINE_SECONDS


async def test_each_rung_is_told_once_with_a_growing_seq(status_pool: Pool) -> None:
    await store(status_pool, an_id(await a_message(status_pool)))
    effects = await receive(status_pool, a_status("sent"), a_status("delivered", after=1), a_status("read", after=2))
    assert rungs(effects) == [("sent", 1), ("delivered", 2), ("read", 3)]


async def test_a_template_that_was_delivered_and_read_opens_no_window(status_pool: Pool) -> None:
    await store(status_pool, an_id(await a_message(status_pool, kind="template")))
    read = await receive(status_pool, a_status("delivered", after=172_800), a_status("read", after=172_801))
    assert rungs(read) == [("delivered", 1), ("read", 2)]
    assert await value(status_pool, "select last_customer_at from conversations") == T0


async def test_a_repeat_tells_the_latest_rung_again(status_pool: Pool) -> None:
    await store(status_pool, an_id(await a_message(status_pool)))
    await receive(status_pool, a_status("sent"), a_status("delivered", after=1))
    assert rungs(await receive(status_pool, a_status("sent"), a_status("delivered", after=1))) == [
        ("delivered", 2),
        ("delivered", 2),
    ]


async def test_a_status_that_came_first_is_kept_and_applied_when_the_id_is_stored(status_pool: Pool) -> None:
    message_id = await a_message(status_pool)
    assert rungs(await receive(status_pool, a_status("delivered", after=1), a_status("sent"))) == []
    assert rungs(await store(status_pool, an_id(message_id))) == [("sent", 1), ("delivered", 2)]
    assert await value(status_pool, "select count(*) from early_statuses") == 0
    assert await value(status_pool, "select status from messages where message_id = $1", message_id) == "delivered"


async def test_early_statuses_of_one_second_are_applied_in_the_order_of_the_ladder(status_pool: Pool) -> None:
    message_id = await a_message(status_pool)
    await receive(status_pool, a_status("read"), a_status("delivered"), a_status("sent"))
    assert rungs(await store(status_pool, an_id(message_id))) == [("sent", 1), ("delivered", 2), ("read", 3)]


async def test_a_status_of_another_system_on_the_same_number_is_kept_nowhere(status_pool: Pool) -> None:
    others = [None, "", "order-7", "01932f70-11aa-7d2e-8f00-3b7c5d9e1a01", f"{OURS}:and more", "x" * 512]
    for by in (WHATSAPP_BY_META, Transport("sms", "twilio")):
        statuses = [
            a_status("sent", f"w{n}", callback=told, channel=by.channel, provider=by.provider)
            for n, told in enumerate(others)
        ]
        assert rungs(await receive(status_pool, *statuses)) == []
    assert await value(status_pool, "select count(*) from early_statuses") == 0
    message_id = await a_message(status_pool)  # what is ours needs no callback data once its id is stored
    await store(status_pool, an_id(message_id))
    assert rungs(await receive(status_pool, a_status("sent", callback=None))) == [("sent", 1)]


async def a_call_under_way(status_pool: Pool, message_id: UUID) -> None:
    async with status_pool.acquire() as db:
        await db.execute(
            """with claim as (
                   insert into send_claims (claim_id, channel, lease_until, accounts, org_ids, message_ids, attempts)
                   values ($1::uuid, 'whatsapp', $4, array[$3::text], '{acme}', array[$1::uuid], '{1}'))
               insert into sends (org_id, message_id, attempt, channel, provider, conversation_id, sequence, account,
                command, state, due_at, expires_at, claim_id, claimed_at, lease_until, created_at)
               values ('acme', $1::uuid, 1, 'whatsapp', 'meta', $2, 1, $3::text, '{}', 'claimed', $4, $4, $1, $4,
                $4, $4)""",
            message_id,
            CONVERSATION,
            NUMBER,
            T0,
        )  # fmt: skip -- one statement


async def an_accepted_sms(status_pool: Pool, message_id: UUID) -> None:
    async with status_pool.acquire() as db:
        await db.execute(
            """insert into sends (org_id, message_id, attempt, channel, provider, conversation_id, sequence, account,
                command, state, due_at, expires_at, settled_at, created_at)
               values ('acme', $1, 1, 'sms', 'twilio', $2, 1, '+447700900001', $3, 'accepted', $4, $4, $4, $4)""",
            message_id,
            CONVERSATION,
            {"to": PHONE},
            T0,
        )  # fmt: skip -- one statement


async def test_a_status_without_callback_data_waits_for_the_answer_of_a_call_under_way(status_pool: Pool) -> None:
    message_id = await a_message(status_pool)
    await a_call_under_way(status_pool, message_id)
    assert rungs(await receive(status_pool, a_status("sent", callback=None))) == []
    assert (
        rungs(await receive(status_pool, a_status("sent", "wamid.2", callback=None, account="106400000000002"))) == []
    )
    assert await value(status_pool, "select count(*) from early_statuses") == 1
    assert rungs(await store(status_pool, an_id(message_id))) == [("sent", 1)]
    for number in range(25):
        wamid = f"wamid.race{number}"
        message_id = await a_message(status_pool)
        await asyncio.gather(
            receive(status_pool, a_status("sent", wamid, callback=None)), store(status_pool, an_id(message_id, wamid))
        )
        assert await value(status_pool, "select status from messages where message_id = $1", message_id) == "sent"


async def test_a_call_whose_answer_is_recorded_between_the_two_looks_is_found(status_pool: Pool) -> None:
    message_id = await a_message(status_pool)
    await a_call_under_way(status_pool, message_id)
    async with status_pool.acquire() as db, db.transaction():
        await db.execute("lock table send_claims in access exclusive mode")
        await store_provider_ids(db, [an_id(message_id)], T0)
        await db.execute("delete from send_claims")
        receiving = asyncio.create_task(receive(status_pool, a_status("sent", callback=None)))
        await somebody_waits(db)
    assert rungs(await receiving) == [("sent", 1)]


async def test_a_status_without_callback_data_is_forgotten_after_an_hour(status_pool: Pool) -> None:
    await a_call_under_way(status_pool, await a_message(status_pool))
    await receive(status_pool, a_status("sent", callback=None), a_status("sent", "wamid.2"))
    await purge(status_pool, lambda: T0 + timedelta(minutes=59))
    assert await value(status_pool, "select count(*) from early_statuses") == 2
    await purge(status_pool, lambda: T0 + timedelta(minutes=61))
    assert await value(status_pool, "select provider_id from early_statuses") == "wamid.2"


async def test_statuses_that_nothing_is_kept_of_take_no_lock(status_pool: Pool) -> None:
    async with status_pool.acquire() as db, db.transaction():
        await receive_statuses(db, [a_status("sent", f"w{n}", callback=None) for n in range(500)], T0)
        held = "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()"
        assert await db.fetchval(held) == 0


async def test_links_are_forgotten_a_day_after_they_expired(status_pool: Pool) -> None:
    async with status_pool.acquire() as db:
        await db.executemany(
            "insert into portal_links values ($1, 'acme', $2, $3, 'x.link', '+447700900999', $4, $5)",
            [
                (f"hash{days}".encode(), CONVERSATION, uuid4(), T0 - timedelta(days=days), T0 - timedelta(days=9))
                for days in (-1, 0, 1, 2, 3)
            ],
        )
    await purge(status_pool, lambda: T0)
    assert await value(status_pool, "select array_agg(code_hash order by code_hash) from portal_links") == [
        b"hash-1",
        b"hash0",
        b"hash1",
    ]


async def test_a_status_and_the_storing_of_its_id_at_the_same_time_never_miss_each_other(status_pool: Pool) -> None:
    for number in range(25):
        wamid = f"wamid.race{number}"
        message_id = await a_message(status_pool)
        await asyncio.gather(
            receive(status_pool, a_status("sent", wamid)), store(status_pool, an_id(message_id, wamid))
        )
        assert await value(status_pool, "select status from messages where message_id = $1", message_id) == "sent"


async def test_an_id_that_came_late_is_evidence_and_takes_no_kept_status_with_it(status_pool: Pool) -> None:
    ours = an_id(await a_message(status_pool))
    await receive(status_pool, a_status("failed", code="131047"))
    async with status_pool.acquire() as db, db.transaction():
        await keep_provider_ids(db, [ours], T0)
    assert await value(status_pool, "select count(*) from early_statuses") == 1
    [refusal] = (await store(status_pool, ours)).refusals  # its send is settled by that evidence
    assert (refusal.reason, refusal.intent_id) == ("window_closed", ours.message_id)
    assert await value(status_pool, "select count(*) from early_statuses") == 0


async def test_a_status_that_comes_after_a_late_id_is_applied_where_the_message_stands(status_pool: Pool) -> None:
    async with status_pool.acquire() as db, db.transaction():
        await keep_provider_ids(db, [an_id(await a_message(status_pool))], T0)
    assert rungs(await receive(status_pool, a_status("delivered"))) == [("delivered", 1)]


async def test_a_status_of_a_bridge_that_is_not_in_its_thread_yet_waits_for_it(status_pool: Pool) -> None:
    original = await a_message(status_pool)
    bridge = bridge_message_id(original)
    ours = an_id(bridge, "SM1", channel="sms", provider="twilio", account="AC1", send_id=original)
    async with status_pool.acquire() as db, db.transaction():
        await keep_provider_ids(db, [ours], T0)
        await db.execute("insert into bridge_slots values ($1, 'acme', $2, 'infinity')", CONVERSATION, original)
    failed = a_status("failed", "SM1", channel="sms", provider="twilio", account="AC1", code="30003")
    assert await receive(status_pool, failed) == StatusEvents()
    await a_message(status_pool, message_id=bridge, channel="sms", notification_type="bridge", parent_id=original)
    effects = await store(status_pool, ours)
    assert [(update.message_id, update.status) for update in effects.updates] == [(bridge, "failed")]
    assert await value(status_pool, "select intent_id from bridge_slots") == original


async def test_a_late_status_of_an_earlier_attempt_says_nothing(status_pool: Pool) -> None:
    message_id = await a_message(status_pool, attempt=2)
    await store(status_pool, an_id(message_id, attempt=1))
    await receive(status_pool, a_status("failed", code="131026"))
    assert await value(status_pool, "select status from messages where message_id = $1", message_id) == "pending"


@pytest.mark.parametrize("order", ["failed first", "failed last"])
async def test_a_failure_told_beside_the_arrival_closes_and_marks_nothing(status_pool: Pool, order: str) -> None:
    session, sms = await a_message(status_pool), await a_message(status_pool, channel="sms")
    await an_accepted_sms(status_pool, sms)
    by_sms: dict[str, Any] = {"channel": "sms", "provider": "twilio", "account": "AC1"}
    await store(status_pool, an_id(session), an_id(sms, "SM1", **by_sms))
    failed = [a_status("failed", after=5, code="131047"), a_status("failed", "SM1", after=5, code="30003", **by_sms)]
    arrived = [a_status("read", after=4), a_status("delivered", "SM1", after=4, **by_sms)]
    effects = await receive(status_pool, *(failed + arrived if order == "failed first" else arrived + failed))
    assert effects.refusals == []
    assert await value(status_pool, "select array_agg(status order by channel) from messages") == ["delivered", "read"]
    assert await value(status_pool, "select last_refused_at from conversations") is None
    assert await value(status_pool, "select count(*) from address_marks") == 0


async def test_any_other_failure_of_the_provider_ends_the_message_with_its_code(status_pool: Pool) -> None:
    await store(status_pool, an_id(await a_message(status_pool)))
    [update] = (await receive(status_pool, a_status("failed", code="131051"))).updates
    assert (update.status, update.reason, update.provider_code) == ("failed", "provider_refused", "131051")


@pytest.mark.parametrize(
    ("code", "reason", "consent"),
    [
        ("30005", "no_phone", None),
        ("21610", "sms_opted_out", False),
        ("30003", "unreachable", None),
        ("30007", None, None),
        ("30008", None, None),
        (None, None, None),
    ],
)
async def test_a_bridge_that_fails_late_keeps_its_slot_and_marks_the_recipient_at_fault(
    status_pool: Pool,
    code: str | None,
    reason: str | None,
    consent: bool | None,  # noqa: FBT001 -- a table of cases
) -> None:
    original = await a_message(status_pool, status="failed")
    bridge = await a_message(
        status_pool,
        message_id=bridge_message_id(original),
        channel="sms",
        notification_type="bridge",
        parent_id=original,
    )
    async with status_pool.acquire() as db:
        await db.execute("insert into bridge_slots values ($1, 'acme', $2, 'infinity')", CONVERSATION, original)
    await an_accepted_sms(status_pool, original)
    await store(status_pool, an_id(bridge, "SM1", channel="sms", provider="twilio", account="AC1", send_id=original))
    effects = await receive(
        status_pool, a_status("failed", "SM1", channel="sms", provider="twilio", account="AC1", code=code)
    )
    assert [(u.message_id, u.status) for u in effects.updates] == [(bridge, "failed")]
    assert await value(status_pool, "select intent_id from bridge_slots") == original
    assert await value(status_pool, "select reason from address_marks where address = $1", PHONE) == reason
    assert await value(status_pool, "select allowed from consents where category = 'sms'") is consent
    assert await value(status_pool, "select count(*) from audit_log where action = 'consent'") == (consent is False)


async def test_an_sms_that_arrived_is_a_sign_of_life(status_pool: Pool) -> None:
    message_id = await a_message(status_pool, channel="sms")
    await an_accepted_sms(status_pool, message_id)
    await store(status_pool, an_id(message_id, "SM1", channel="sms", provider="twilio", account="AC1"))
    await receive(status_pool, a_status("failed", "SM1", channel="sms", provider="twilio", account="AC1", code="30003"))
    assert await value(status_pool, "select count(*) from address_marks") == 1
    await receive(status_pool, a_status("delivered", "SM1", after=1, channel="sms", provider="twilio", account="AC1"))
    assert await value(status_pool, "select count(*) from address_marks") == 0


async def test_a_local_failure_is_told_again_as_it_stands_and_never_overwritten(status_pool: Pool) -> None:
    message_id = await a_message(status_pool)
    await store(status_pool, an_id(message_id))
    failure = LocalFailure("acme", message_id, 1, "window_expired_bridge_sent", None, T0)
    for _ in range(2):
        async with status_pool.acquire() as db, db.transaction():
            [update] = await fail_locally(db, [failure])
        assert (update.status, update.reason, update.seq) == ("failed", "window_expired_bridge_sent", 1)
    await receive(status_pool, a_status("delivered"))
    assert (
        await value(status_pool, "select reason from messages where message_id = $1", message_id)
        == "window_expired_bridge_sent"
    )


async def test_two_batches_that_hold_the_same_messages_do_not_deadlock(status_pool: Pool) -> None:
    wamids = [f"wamid.{n}" for n in range(30)]
    await store(status_pool, *[an_id(await a_message(status_pool), wamid) for wamid in wamids])
    forth, back = [a_status("sent", w) for w in wamids], [a_status("delivered", w) for w in reversed(wamids)]
    await asyncio.gather(*(receive(status_pool, *order) for order in (forth, back) * 4))
    assert await value(status_pool, "select count(*) from messages where status = 'delivered' and seq <= 2") == len(
        wamids
    )


async def test_a_status_that_waited_for_another_one_is_written(status_pool: Pool) -> None:
    """The row has moved within its table meanwhile."""
    message_id = await a_message(status_pool)
    await store(status_pool, an_id(message_id))
    async with status_pool.acquire() as db:
        async with db.transaction():
            await receive_statuses(db, [a_status("sent")], T0)
            later = asyncio.create_task(receive(status_pool, a_status("delivered", after=1)))
            waits = "select from pg_stat_activity where datname = current_database() and wait_event = 'transactionid'"
            async with asyncio.timeout(DEADLINE_SECONDS):
                while not await value(status_pool, f"select exists ({waits})"):
                    pass
        assert rungs(await later) == [("delivered", 2)]
    found = "select (status, seq) = ('delivered', 2) from messages where message_id = $1"
    assert await value(status_pool, found, message_id)


async def test_a_status_that_found_no_send_in_eight_days_is_forgotten(status_pool: Pool) -> None:
    old = [a_status("sent", f"wamid.old{i}") for i in range(3)]
    async with status_pool.acquire() as db, db.transaction():
        await receive_statuses(db, old, T0 - timedelta(days=8, seconds=1))
        await receive_statuses(db, [a_status("sent", "wamid.new")], T0 - timedelta(days=8))
    await purge(status_pool, lambda: T0)
    assert await value(status_pool, "select array_agg(provider_id) from early_statuses") == ["wamid.new"]
    async with status_pool.acquire() as db:  # the bound of one statement
        assert [await forget_early(db, T0, limit=1), await forget_early(db, T0, limit=1)] == [1, 0]
