"""What becomes of an SMS whose answer was lost or came late, and of its conversation meanwhile, on real servers."""

import asyncio
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import pytest

from deploy.local.sandbox.client import SandboxClient
from libs.common.bridge.link_codes import LinkCodes
from libs.common.directory.merge import Merge, merge_customers
from libs.common.events.outbound import DeliveryUpdate, NewStatus
from libs.common.ids import bridge_message_id, callback_data
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.producer import Producer
from libs.common.sending import queries as sends
from libs.common.sending.engine import SendEngine
from libs.common.sending.outcomes import Accepted
from libs.common.sending.persisting import PUBLISH_LEASE, persist
from libs.common.sending.status_effects import receive_statuses
from libs.common.sending.transitions import settle
from libs.common.thread.message_status import ProviderStatus
from services.sms_bridge.adapter import SmsAdapter
from services.sms_bridge.effects import BridgeConfig
from services.sms_bridge.providers import ListedSms
from services.sms_bridge.providers.twilio import Twilio
from tests.support import world as seeds
from tests.support.sandbox import CUSTOMER, NUMBER_ID, TWILIO_SID, TWILIO_TOKEN
from tests.support.sms_world import (
    GRACE,
    HOLD,
    LINK_KEY,
    LINK_LIFE,
    ONE_ACCOUNT,
    ORG,
    SETTLING,
    TIMINGS,
    SmsWorld,
)

NOTHING = timedelta(0)


def ends(updates: Sequence[DeliveryUpdate | NewStatus]) -> list[tuple[Any, str, str | None, str | None]]:
    return [(u.message_id, u.status, u.reason, u.provider_code) for u in updates]


@pytest.mark.parametrize("mode", ["server_error", "drop_answer", "stall"])
async def test_an_sms_that_went_although_the_answer_was_lost_is_found_and_not_sent_again(
    world: SmsWorld, sandbox: SandboxClient, mode: Any
) -> None:
    await sandbox.configure(sent_after=3600)  # it is queued there
    await sandbox.fault("twilio", mode, sent=True, seconds=60, calls=1)
    command = await world.decided()
    await world.send(command)
    assert (await world.send_row(command))["state"] == "unknown"
    await world.sweep()
    updates, _ = await world.published()
    assert ends(updates) == [(command.message_id, "failed", "window_expired_bridge_sent", None)]
    assert (await world.send_row(command))["state"] == "accepted"
    assert (await world.message(bridge_message_id(command.message_id)))["status"] == "pending"
    assert (
        await world.value("select provider_id from provider_ids where org_id = $1", ORG)
        == (await sandbox.sms())[0]["sid"]
    )
    await world.sweep(GRACE)
    assert await world.send() == 0
    assert len(await sandbox.sms()) == 1


@pytest.mark.parametrize(
    ("recipient", "published"),
    [("fine", ("delivered", None, None)), ("unreachable", ("failed", "provider_refused", "30003"))],
)
async def test_a_record_in_the_list_says_what_became_of_the_sms(
    world: SmsWorld, sandbox: SandboxClient, recipient: Any, published: tuple[str, str | None, str | None]
) -> None:
    await sandbox.configure(sent_after=0)
    await sandbox.sms_recipient(CUSTOMER, recipient)
    await sandbox.fault("twilio", "drop_answer", sent=True, calls=1)
    command = await world.decided()
    await world.send(command)
    await world.sweep()
    updates, _ = await world.published()
    assert set(ends(updates)) == {
        (command.message_id, "failed", "window_expired_bridge_sent", None),
        (bridge_message_id(command.message_id), *published),
    }
    assert (await world.slot())[0] is not None


async def test_an_sms_that_never_went_is_sent_once_more_after_the_grace(
    world: SmsWorld, sandbox: SandboxClient
) -> None:
    await sandbox.fault("twilio", "server_error", calls=1)
    command = await world.decided()
    await world.send(command)
    await world.sweep(GRACE / 2)
    assert await world.send() == 0
    held_until, _ = await world.slot()
    assert held_until is not None
    await world.sweep(GRACE)
    assert await world.send() == 1
    assert len(await sandbox.sms()) == 1
    row = await world.send_row(command)
    assert (row["state"], row["resends"], row["tries"]) == ("accepted", 1, 2)
    assert await world.value("select count(*) from portal_links") == 2


async def test_an_outcome_that_stays_unknown_ends_so_and_keeps_the_slot(
    world: SmsWorld, sandbox: SandboxClient
) -> None:
    await sandbox.fault("twilio", "server_error")
    command = await world.decided()
    silenced = await world.silenced(command)
    await world.send(command)
    await world.sweep(GRACE + timedelta(seconds=1))
    await world.send()
    await world.sweep(GRACE + timedelta(seconds=1))
    updates, refusals = await world.published()
    assert ends(updates) == [(command.message_id, "failed", "unknown_outcome", None)]
    assert silenced not in [refusal.intent_id for refusal in refusals]
    held_until, holder = await world.slot()
    assert held_until is not None
    assert abs(held_until - (world.clock() + HOLD)) < timedelta(minutes=1)
    assert holder == str(command.message_id)


async def test_a_list_that_cannot_be_read_proves_nothing(world: SmsWorld, sandbox: SandboxClient) -> None:
    await sandbox.fault("twilio", "server_error", sent=True, calls=1)
    await sandbox.fault("twilio", "server_error", endpoint="list")
    command = await world.decided()
    await world.send(command)
    await world.sweep(2 * GRACE)
    assert (await world.send_row(command))["state"] == "unknown"
    assert await world.send() == 0
    await sandbox.clear_faults()
    await world.sweep(TIMINGS.look)
    assert (await world.send_row(command))["state"] == "accepted"
    assert len(await sandbox.sms()) == 1


async def test_the_same_plain_text_twice_is_two_messages_for_the_evidence_too(
    world: SmsWorld, sandbox: SandboxClient
) -> None:
    first = await world.decided(route="session", text="OK")
    second = await world.decided(route="session", text="OK")
    await world.send(first)
    await sandbox.fault("twilio", "server_error", calls=1)
    await world.send(second)
    await world.sweep(GRACE + timedelta(seconds=1))
    assert (await world.send_row(second))["resends"] == 1  # the first one's SMS is no evidence for the second
    await world.send()
    assert len(await sandbox.sms()) == 2


async def test_a_worker_that_died_after_sending_leaves_a_claim_that_evidence_settles(
    world: SmsWorld, sandbox: SandboxClient
) -> None:
    await sandbox.fault("twilio", "slow", seconds=0.5, calls=1)
    command = await world.decided()
    await world.send(command)  # the answer is in, but let it be lost with the worker
    await world.execute(
        "update sends set state = 'claimed', settled_at = null, published = false, outcome = null, lease_until = $1",
        world.clock() + TIMINGS.lease,
    )
    await world.execute(
        "insert into send_claims (claim_id, channel, lease_until, accounts, org_ids, message_ids, attempts)"
        " select claim_id, channel, lease_until, array[account], array[org_id], array[message_id], array[attempt]"
        " from sends"
    )
    await world.execute("delete from provider_ids")
    await world.sweep(TIMINGS.lease + timedelta(seconds=1))
    await world.sweep(timedelta(seconds=2))
    assert (await world.send_row(command))["state"] == "accepted"
    assert await world.send() == 0
    assert len(await sandbox.sms()) == 1


async def test_what_was_recorded_and_not_told_is_told_by_the_sweeper(world: SmsWorld, sandbox: SandboxClient) -> None:
    await sandbox.sms_recipient(CUSTOMER, "opted_out")
    command = await world.decided()
    newest = await world.silenced(command)
    await world.send(command)
    await world.execute("update sends set published = false")
    await world.sweep(PUBLISH_LEASE + timedelta(seconds=1))
    updates, refusals = await world.published()
    assert ends(updates) == [(command.message_id, "failed", "window_expired_bridge_failed", "21610")] * 2
    assert {update.seq for update in updates} == {1}
    assert [refusal.intent_id for refusal in refusals] == [newest, newest]


async def test_a_late_failure_marks_the_bridge_and_the_original_keeps_its_reason(
    world: SmsWorld, sandbox: SandboxClient
) -> None:
    command = await world.decided()
    await world.send(command)
    [sms] = await sandbox.sms()
    late = ProviderStatus("sms", "twilio", TWILIO_SID, sms["sid"], "failed", world.clock(), "30006")
    async with world.pool.acquire() as db, db.transaction():
        effects = await receive_statuses(db, [late], world.clock())
    bridge_id = bridge_message_id(command.message_id)
    assert ends(effects.updates) == [(bridge_id, "failed", "provider_refused", "30006")]
    assert (await world.message(command.message_id))["reason"] == "window_expired_bridge_sent"
    assert (await world.slot())[0] is not None  # the day's SMS was bought, whatever became of it
    mark = await world.row("select address, reason, code, source from address_marks where org_id = $1", ORG)
    assert tuple(mark) == (CUSTOMER, "no_phone", "30006", "status")


async def test_a_status_that_overtook_the_answer_is_applied_with_it(world: SmsWorld, sandbox: SandboxClient) -> None:
    await sandbox.fault("twilio", "server_error", sent=True, calls=1)
    command = await world.decided()
    await world.send(command)
    [sms] = await sandbox.sms()
    ref = callback_data(ORG, command.message_id, 1)
    early = ProviderStatus("sms", "twilio", TWILIO_SID, sms["sid"], "delivered", world.clock(), callback=ref)
    async with world.pool.acquire() as db, db.transaction():
        await receive_statuses(db, [early], world.clock())
    await world.sweep()
    updates, _ = await world.published()
    assert set(ends(updates)) == {
        (bridge_message_id(command.message_id), "delivered", None, None),
        (command.message_id, "failed", "window_expired_bridge_sent", None),
    }


@pytest.mark.parametrize("claimed", [False, True], ids=["new", "throttled before"])
async def test_a_bridge_whose_row_is_lost_and_whose_status_came_is_not_sent_again(
    world: SmsWorld, sandbox: SandboxClient, *, claimed: bool
) -> None:
    """A restored database has no row of the send, or one that waits, and ingest has read the callbacks once more."""
    command = await world.decided()
    if claimed:
        await sandbox.fault("twilio", "throttle", calls=1)
        assert await world.send(command) == 1
        world.clock.forward(timedelta(minutes=5))
    ref = callback_data(ORG, command.message_id, 1)
    early = ProviderStatus("sms", "twilio", TWILIO_SID, "SM-since", "delivered", world.clock(), callback=ref)
    async with world.pool.acquire() as db, db.transaction():
        await receive_statuses(db, [early], world.clock())

    assert await world.send(command) == 0

    assert await sandbox.sms() == []
    row = await world.send_row(command)
    assert (row["state"], row["provider"], row["provider_account"]) == ("accepted", "twilio", TWILIO_SID)
    assert await world.value("select provider_id from provider_ids where org_id = $1", ORG) == "SM-since"
    assert (await world.message(bridge_message_id(command.message_id)))["status"] == "delivered"
    held_until, holder = await world.slot()
    assert (held_until, holder) == (world.clock() + HOLD, str(command.message_id))


async def test_a_bridge_whose_acceptance_came_late_hears_of_its_failure_and_keeps_its_slot(
    world: SmsWorld, sandbox: SandboxClient
) -> None:
    await sandbox.fault("twilio", "server_error", sent=True, calls=1)
    command = await world.decided()
    await world.silenced(command)
    await world.send(command)
    [sms] = await sandbox.sms()
    async with world.pool.acquire() as db, db.transaction():
        [unknown] = await sends.take_unknown(
            db, "sms", ["twilio"], world.clock(), 1, soonest=NOTHING, latest=NOTHING, abandoned=timedelta(hours=1)
        )
        answered = unknown._replace(state="claimed")  # what a process still believes that stood still beyond its lease
        step = settle(answered, (Accepted(TWILIO_SID, sms["sid"]),), world.clock())
        assert (await persist(db, world.adapter, [step], world.clock())).pending == []
    ref = callback_data(ORG, command.message_id, 1)
    failed = ProviderStatus("sms", "twilio", TWILIO_SID, sms["sid"], "failed", world.clock(), "30003", callback=ref)
    async with world.pool.acquire() as db, db.transaction():
        await receive_statuses(db, [failed], world.clock())

    await world.sweep()
    assert (await world.message(bridge_message_id(command.message_id)))["status"] == "failed"
    held_until, holder = await world.slot()
    assert held_until is not None
    assert abs(held_until - (world.clock() + HOLD)) < timedelta(minutes=1)
    assert holder == str(command.message_id)
    _, refusals = await world.published()
    assert refusals == []


async def test_redis_away_changes_nothing_but_redis(world: SmsWorld, sandbox: SandboxClient) -> None:
    command = await world.decided()
    await world.redis.close()
    await world.send(command)
    assert len(await sandbox.sms()) == 1
    held = await world.value("select held_until from bridge_slots where org_id = $1", ORG)
    assert abs(held - (world.clock() + HOLD)) < timedelta(minutes=1)


async def merge(world: SmsWorld) -> UUID:
    """The customer turns out to be another one, with a conversation of the same number. Returns that conversation."""
    customer_id, conversation_id = uuid4(), uuid4()
    async with world.pool.acquire() as db:
        await seeds.a_customer(db, ORG, customer_id, None)
        await seeds.a_conversation(db, ORG, conversation_id, customer_id, NUMBER_ID)
    async with world.pool.acquire() as db, db.transaction():
        await merge_customers(db, [Merge(ORG, world.customer_id, customer_id)])
    return conversation_id


async def test_a_bridge_under_way_follows_its_conversation_into_another_one(
    world: SmsWorld, sandbox: SandboxClient
) -> None:
    await sandbox.fault("twilio", "server_error", sent=True, calls=1)
    command = await world.decided()
    await world.send(command)
    row = await world.send_row(command)
    merged = await merge(world)
    # as if the answer had come after the merge, to a process that read the row before it
    await world.execute("update sends set conversation_id = $1", row["conversation_id"])
    await world.sweep()
    assert (await world.send_row(command))["state"] == "accepted"
    assert (await world.message(bridge_message_id(command.message_id)))["conversation_id"] == merged
    held_until = await world.value("select held_until from bridge_slots where conversation_id = $1", merged)
    assert abs(held_until - (world.clock() + HOLD)) < timedelta(minutes=1)


async def test_two_conversations_that_became_one_get_one_bridge(world: SmsWorld, sandbox: SandboxClient) -> None:
    first = await world.decided()
    await world.send(first)
    late = await world.decided(conversation_id=await merge(world))
    await world.send(late)
    updates, _ = await world.published()
    assert ends(updates)[-1] == (late.message_id, "failed", "window_expired_bridge_already_sent", None)
    assert len(await sandbox.sms()) == 1


class SilentTwilio(Twilio):
    """Never says what it has sent."""

    def __init__(self, http: aiohttp.ClientSession, **settings: Any) -> None:
        super().__init__(http, **settings)
        self.asked = asyncio.Event()

    async def list_sent(self, *, sender: str, to: str, since: datetime) -> Sequence[ListedSms]:
        self.asked.set()
        await asyncio.Event().wait()
        return []


async def test_a_provider_that_does_not_say_what_it_sent_holds_up_no_other_sweeping(
    world: SmsWorld, kafka_of_senders: KafkaConnection, sandbox: SandboxClient
) -> None:
    lost = await world.decided(route="session", text="one")
    behind = await world.decided(route="session", text="two", expires_at=world.clock() + timedelta(minutes=1))
    await world.accept(lost, behind)
    await world.execute(
        "update sends set state = 'unknown', provider = 'twilio', provider_account = $2, claimed_at = due_at,"
        " unknown_since = due_at"
        " where message_id = $1",
        lost.message_id,
        TWILIO_SID,
    )
    async with aiohttp.ClientSession() as http, Producer(kafka_of_senders) as producer:
        provider = SilentTwilio(
            http,
            base_url=sandbox.url,
            account_sid=TWILIO_SID,
            auth_token=TWILIO_TOKEN,
            public_url=None,
            timeout_seconds=1,
            now=world.clock,
        )
        adapter = SmsAdapter(
            accounts=ONE_ACCOUNT,
            providers={provider.key: provider},
            pool=world.pool,
            redis_gate=world.redis_gate,
            link_codes=LinkCodes([LINK_KEY], secrets.choice),
            config=BridgeConfig(timedelta(hours=24), timedelta(minutes=5), HOLD, LINK_LIFE, None),
            grace=GRACE,
            settling=SETTLING,
        )
        async with SendEngine(adapter, world.pool, producer, TIMINGS, now=world.clock, concurrency=64):
            await provider.asked.wait()
            world.clock.forward(timedelta(minutes=2))

            async def ended() -> bool:
                return bool((await world.send_row(behind))["state"] == "failed")

            await sandbox.until(ended, 30.0)
