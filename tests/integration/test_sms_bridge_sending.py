"""Bridges and plain text by SMS on real servers, in front of a Twilio that plays by its own rules."""

import asyncio
import hmac
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import pytest
import pytest_asyncio

from deploy.local.sandbox.client import SandboxClient
from libs.common.db.merge import Merge, merge_customers
from libs.common.db.statuses import ProviderStatus, receive_statuses
from libs.common.events.outbound import DeliveryUpdate
from libs.common.ids import bridge_message_id
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.producer import Producer
from libs.common.sending.line import Line
from services.sms_bridge.carrier import SmsCarrier
from services.sms_bridge.gsm7 import septets
from services.sms_bridge.links import LinkMint
from services.sms_bridge.providers import Listed
from services.sms_bridge.providers.twilio import Twilio
from services.sms_bridge.settle import Terms
from tests.support.bridging import (
    GRACE,
    HOLD,
    LINK_KEY,
    LINK_LIFE,
    ORG,
    SMS_NUMBER,
    TIMINGS,
    Bridging,
    bridging,
)
from tests.support.logs import LogLines
from tests.support.sandbox import CUSTOMER, NUMBER_ID, TWILIO_SID, TWILIO_TOKEN, HookInbox
from tests.support.topics import OwnTopics

PREFIX = "AcmeMotors: Update for you. WhatsApp: wa.me/447700900123 Portal: tflow.link/"


@pytest_asyncio.fixture
async def kafka(kafka_bootstrap: str, topics: OwnTopics) -> KafkaConnection:
    await topics.create()
    return KafkaConnection(kafka_bootstrap, topics.prefix)


@pytest_asyncio.fixture
async def world(
    database: str, redis_url: str, kafka: KafkaConnection, sandbox: SandboxClient, hook_inbox: HookInbox
) -> AsyncIterator[Bridging]:
    async with bridging(
        dsn=database, redis_url=redis_url, kafka=kafka, twilio_url=sandbox.url, public_url=hook_inbox.url
    ) as made:
        yield made


async def bodies(sandbox: SandboxClient) -> list[str]:
    return [sms["message"]["body"] for sms in await sandbox.sms()]


def ends(updates: list[DeliveryUpdate]) -> list[tuple[Any, str, str | None, str | None]]:
    return [(u.message_id, u.status, u.reason, u.provider_code) for u in updates]


async def test_a_bridge_goes_out_once_and_takes_the_original_with_it(
    world: Bridging, sandbox: SandboxClient, hook_inbox: HookInbox, log_lines: LogLines
) -> None:
    command = await world.decided()
    assert await world.send(command) == 1
    [sms] = await sandbox.sms()
    text, bridge_id = sms["message"]["body"], bridge_message_id(command.message_id)

    assert text.startswith(PREFIX)
    assert len(text) == len(PREFIX) + 8
    assert septets(text) <= 160
    assert (sms["message"]["from"], sms["message"]["to"]) == (SMS_NUMBER, CUSTOMER)
    assert sms["callback"] == f"{hook_inbox.url}/webhooks/twilio/status"

    bridge = await world.message(bridge_id)
    assert bridge["content"] == {"kind": "text", "text": PREFIX + "********"}
    assert {
        name: bridge[name]
        for name in ("channel", "direction", "notification_type", "ai_generated", "user_id", "parent_id")
    } == {
        "channel": "sms",
        "direction": "out",
        "notification_type": "bridge",
        "ai_generated": False,
        "user_id": None,
        "parent_id": command.message_id,
    }  # fmt: skip -- one row
    assert (bridge["status"], bridge["conversation_id"]) == ("pending", world.conversation_id)
    original = await world.message(command.message_id)
    assert (original["status"], original["reason"]) == ("failed", "window_expired_bridge_sent")
    assert original["content"] == {"kind": "text", "text": "Your Golf is ready."}

    updates, refusals = await world.told()
    assert ends(updates) == [(command.message_id, "failed", "window_expired_bridge_sent", None)]
    assert refusals == []
    row = await world.send_row(command)
    assert (row["state"], row["told"], row["tries"]) == ("accepted", True, 1)
    assert [line["message_id"] for line in log_lines.of("bridge.sent")] == [str(bridge_id)]
    assert CUSTOMER not in log_lines.raw
    assert text not in log_lines.raw


async def test_the_link_is_stored_as_a_keyed_hash_alone(world: Bridging, sandbox: SandboxClient) -> None:
    command = await world.decided()
    await world.send(command)
    code = (await bodies(sandbox))[0].removeprefix(PREFIX)
    link = await world.row("select * from portal_links where org_id = $1", ORG)
    assert link["code_hash"] == hmac.digest(LINK_KEY, code.encode(), "sha256")
    assert (link["conversation_id"], link["message_id"]) == (
        world.conversation_id,
        bridge_message_id(command.message_id),
    )
    assert link["expires_at"] - link["created_at"] == LINK_LIFE
    assert (await world.send_row(command))["link_hash"] == link["code_hash"]
    everything = await world.value(
        "select string_agg(t::text, ' ') from (select s::text from sends s union all select m::text from messages m) t"
    )
    assert code not in everything


async def test_the_hold_runs_from_the_acceptance_on_both_sides(world: Bridging) -> None:
    command = await world.decided()
    world.clock.forward(timedelta(hours=3))
    await world.send(command)
    held_until, holder = await world.slot()
    assert held_until is not None
    assert abs(held_until - (world.clock() + HOLD)) < timedelta(minutes=1)
    assert holder == str(command.message_id)


async def test_segments_and_the_price_of_the_day_are_charged(world: Bridging) -> None:
    command = await world.decided()
    await world.send(command)
    charge = await world.row("select * from charges where org_id = $1", ORG)
    assert (charge["message_id"], charge["segments"], charge["currency"], charge["price"]) == (
        bridge_message_id(command.message_id),
        1,
        "GBP",
        Decimal("0.04"),
    )


async def test_without_a_rate_card_the_charge_has_no_price(world: Bridging) -> None:
    await world.execute("delete from rate_card")
    command = await world.decided()
    await world.send(command)
    charge = await world.row("select segments, currency, price from charges where org_id = $1", ORG)
    assert tuple(charge) == (1, None, None)


async def test_plain_text_is_the_message_itself(world: Bridging, sandbox: SandboxClient) -> None:
    command = await world.decided(route="session", text="Gern, bis 17:00! ✓" + "x" * 70)
    await world.send(command)
    assert await bodies(sandbox) == [command.text]
    assert (await world.message(command.message_id))["status"] == "pending"
    assert await world.message(bridge_message_id(command.message_id)) == {}
    assert await world.told() == ([], [])
    charge = await world.row("select message_id, segments, price from charges where org_id = $1", ORG)
    assert tuple(charge) == (command.message_id, 2, Decimal("0.08"))


@pytest.mark.parametrize(("state", "code"), [("opted_out", "21610"), ("landline", "21614")])
async def test_a_definite_failure_gives_the_slot_back_and_marks_the_recipient(
    world: Bridging, sandbox: SandboxClient, state: Any, code: str
) -> None:
    await sandbox.sms_recipient(CUSTOMER, state)
    command = await world.decided()
    older, newest = await world.silenced(command), await world.silenced(command)
    await world.send(command)

    assert await world.slot() == (None, None)
    updates, refusals = await world.told()
    assert ends(updates) == [(command.message_id, "failed", "window_expired_bridge_failed", code)]
    assert [(r.intent_id, r.attempt, r.reason) for r in refusals] == [(newest, 1, "slot_freed")]
    assert older != newest
    assert await world.message(bridge_message_id(command.message_id)) == {}
    assert await world.value("select count(*) from charges") == 0
    if state == "opted_out":
        consent = "select allowed from consents where org_id = $1 and customer_id = $2 and category = 'sms'"
        assert await world.value(consent, ORG, world.customer_id) is False
        assert await world.value("select count(*) from audit_log where org_id = $1", ORG) == 1
    else:
        dead = "select phone_dead from customers where org_id = $1 and customer_id = $2"
        assert await world.value(dead, ORG, world.customer_id) == CUSTOMER


async def test_a_failure_that_is_nobodys_marks_nobody(world: Bridging, sandbox: SandboxClient) -> None:
    await sandbox.sms_recipient(CUSTOMER, "region_blocked")
    command = await world.decided()
    await world.send(command)
    updates, _ = await world.told()
    assert ends(updates) == [(command.message_id, "failed", "window_expired_bridge_failed", "21408")]
    assert await world.value("select phone_dead from customers where org_id = $1", ORG) is None
    assert await world.value("select count(*) from consents") == 0


async def test_plain_text_that_is_refused_says_whose_refusal_it_was(world: Bridging, sandbox: SandboxClient) -> None:
    await sandbox.sms_recipient(CUSTOMER, "opted_out")
    command = await world.decided(route="session", text="Hello")
    await world.send(command)
    updates, refusals = await world.told()
    assert ends(updates) == [(command.message_id, "failed", "provider_refused", "21610")]
    assert refusals == []


async def test_an_organisation_without_a_usable_portal_host_is_refused_and_nothing_is_sent(
    world: Bridging, sandbox: SandboxClient
) -> None:
    command = await world.decided(portal_host="a" * 60 + "." + "b" * 60)
    await world.send(command)
    updates, _ = await world.told()
    assert ends(updates) == [(command.message_id, "failed", "window_expired_bridge_failed", None)]
    assert await world.slot() == (None, None)
    assert await sandbox.sms() == []
    assert await world.value("select count(*) from portal_links") == 0


async def test_a_garage_without_its_own_portal_host_uses_ours(world: Bridging, sandbox: SandboxClient) -> None:
    await world.send(await world.decided(portal_host=None))
    assert "Portal: portal.example/" in (await bodies(sandbox))[0]


GATE = {
    "sms_opted_out": "insert into consents values ($1, $2, 'sms', false, now())",
    "no_phone": "update customers set phone_dead = phone where org_id = $1 and customer_id = $2",
    "sms_unavailable": "update orgs set sms_active = false where org_id = $1 and $2::uuid is not null",
    "whatsapp_consent_off": "insert into consents values ($1, $2, 'whatsapp', false, now())",
}


@pytest.mark.parametrize("reason", list(GATE))
async def test_what_was_withdrawn_meanwhile_counts(world: Bridging, sandbox: SandboxClient, reason: str) -> None:
    command = await world.decided()
    await world.execute(GATE[reason], ORG, world.customer_id)
    assert await world.send(command) == 0
    updates, _ = await world.told()
    assert ends(updates) == [(command.message_id, "failed", f"window_expired_{reason}", None)]
    assert await world.slot() == (None, None)
    assert await sandbox.sms() == []


@pytest.mark.parametrize("reason", ["sms_opted_out", "no_phone", "sms_unavailable"])
async def test_the_same_gate_stands_before_plain_text(world: Bridging, sandbox: SandboxClient, reason: str) -> None:
    command = await world.decided(route="session", text="Hello")
    await world.execute(GATE[reason], ORG, world.customer_id)
    assert await world.send(command) == 0
    updates, _ = await world.told()
    assert ends(updates) == [(command.message_id, "failed", f"window_expired_{reason}", None)]
    assert await sandbox.sms() == []


async def test_a_customer_who_wrote_meanwhile_is_answered_where_he_wrote(
    world: Bridging, sandbox: SandboxClient
) -> None:
    command = await world.decided()
    await world.execute("update conversations set last_customer_at = $1", world.clock())
    assert await world.send(command) == 0
    updates, refusals = await world.told()
    assert updates == []
    assert [(r.intent_id, r.attempt, r.reason) for r in refusals] == [(command.message_id, 1, "window_open")]
    assert await world.slot() == (None, None)
    assert (await world.message(command.message_id))["status"] == "pending"
    assert await sandbox.sms() == []


async def test_a_command_past_its_deadline_ends_and_frees_the_slot(world: Bridging, sandbox: SandboxClient) -> None:
    command = await world.decided(expires_at=world.clock() + timedelta(seconds=10))
    await world.accept(command)
    await world.sweep(timedelta(seconds=11))
    updates, _ = await world.told()
    assert ends(updates) == [(command.message_id, "failed", "intent_expired", None)]
    assert await world.slot() == (None, None)
    assert await sandbox.sms() == []


async def test_a_command_told_twice_is_sent_once(world: Bridging, sandbox: SandboxClient) -> None:
    command = await world.decided()
    assert await world.send(command, command) == 1
    assert await world.send(command) == 0
    assert len(await sandbox.sms()) == 1


async def test_a_throttled_account_waits_and_its_links_do_not_pile_up(world: Bridging, sandbox: SandboxClient) -> None:
    await sandbox.fault("twilio", "throttle", calls=2)
    command = await world.decided()
    assert await world.send(command) == 1
    assert (await world.send_row(command))["state"] == "pending"
    assert await world.send() == 0
    for _ in range(2):
        world.clock.forward(timedelta(minutes=1))
        assert await world.send() == 1
    assert (await world.send_row(command))["state"] == "accepted"
    assert len(await sandbox.sms()) == 1
    assert await world.value("select count(*) from portal_links") == 1
    held_until, _ = await world.slot()
    assert held_until is not None


async def test_wrong_credentials_make_messages_wait_and_fail_none(world: Bridging, sandbox: SandboxClient) -> None:
    await sandbox.fault("twilio", "fail", code=20003, http_status=401, calls=1)
    command = await world.decided()
    await world.send(command)
    assert (await world.send_row(command))["state"] == "pending"
    assert await world.told() == ([], [])
    world.clock.forward(timedelta(minutes=15))
    await world.send()
    assert len(await sandbox.sms()) == 1


@pytest.mark.parametrize("mode", ["server_error", "drop_answer", "stall"])
async def test_an_sms_that_went_although_the_answer_was_lost_is_found_and_not_sent_again(
    world: Bridging, sandbox: SandboxClient, mode: Any
) -> None:
    await sandbox.fault("twilio", mode, sent=True, seconds=3, calls=1)
    command = await world.decided()
    await world.send(command)
    assert (await world.send_row(command))["state"] == "unknown"
    await world.sweep()
    updates, _ = await world.told()
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


async def test_an_sms_that_never_went_is_sent_once_more_after_the_grace(
    world: Bridging, sandbox: SandboxClient
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
    world: Bridging, sandbox: SandboxClient
) -> None:
    await sandbox.fault("twilio", "server_error")
    command = await world.decided()
    silenced = await world.silenced(command)
    await world.send(command)
    await world.sweep(GRACE + timedelta(seconds=1))
    await world.send()
    await world.sweep(GRACE + timedelta(seconds=1))
    updates, refusals = await world.told()
    assert ends(updates) == [(command.message_id, "failed", "unknown_outcome", None)]
    assert silenced not in [refusal.intent_id for refusal in refusals]
    held_until, holder = await world.slot()
    assert held_until is not None
    assert abs(held_until - (world.clock() + HOLD)) < timedelta(minutes=1)
    assert holder == str(command.message_id)


async def test_a_list_that_cannot_be_read_proves_nothing(world: Bridging, sandbox: SandboxClient) -> None:
    await sandbox.fault("twilio", "server_error", sent=True, calls=1)
    await sandbox.fault("twilio", "server_error", endpoint="list")
    command = await world.decided()
    await world.send(command)
    await world.sweep(2 * GRACE)
    assert (await world.send_row(command))["state"] == "unknown"
    assert await world.send() == 0
    await sandbox.clear_faults()
    await world.sweep(timedelta(seconds=2))
    assert (await world.send_row(command))["state"] == "accepted"
    assert len(await sandbox.sms()) == 1


async def test_the_same_plain_text_twice_is_two_messages_for_the_evidence_too(
    world: Bridging, sandbox: SandboxClient
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
    world: Bridging, sandbox: SandboxClient
) -> None:
    await sandbox.fault("twilio", "slow", seconds=0.5, calls=1)
    command = await world.decided()
    await world.send(command)  # the answer is in, but let it be lost with the worker
    await world.execute(
        """update sends set state = 'claimed', settled_at = null, told = false, outcome = null, lease_until = $1""",
        world.clock() + TIMINGS.lease,
    )
    await world.execute("delete from provider_ids")
    await world.sweep(TIMINGS.lease + timedelta(seconds=1))
    await world.sweep(timedelta(seconds=2))
    assert (await world.send_row(command))["state"] == "accepted"
    assert await world.send() == 0
    assert len(await sandbox.sms()) == 1


async def test_what_was_recorded_and_not_told_is_told_by_the_sweeper(world: Bridging, sandbox: SandboxClient) -> None:
    await sandbox.sms_recipient(CUSTOMER, "opted_out")
    command = await world.decided()
    newest = await world.silenced(command)
    await world.send(command)
    await world.execute("update sends set told = false")
    await world.sweep(TIMINGS.untold + timedelta(seconds=1))
    updates, refusals = await world.told()
    assert ends(updates) == [(command.message_id, "failed", "window_expired_bridge_failed", "21610")] * 2
    assert {update.seq for update in updates} == {1}
    assert [refusal.intent_id for refusal in refusals] == [newest, newest]


async def test_a_late_failure_marks_the_bridge_and_the_original_keeps_its_reason(
    world: Bridging, sandbox: SandboxClient
) -> None:
    command = await world.decided()
    await world.send(command)
    [sms] = await sandbox.sms()
    late = ProviderStatus("sms", TWILIO_SID, sms["sid"], "failed", world.clock(), "30006")
    async with world.pool.acquire() as db, db.transaction():
        effects = await receive_statuses(db, [late], world.clock())
    bridge_id = bridge_message_id(command.message_id)
    assert ends(effects.updates) == [(bridge_id, "failed", "provider_refused", "30006")]
    assert (await world.message(command.message_id))["reason"] == "window_expired_bridge_sent"
    assert (await world.slot())[0] is None
    assert await world.value("select phone_dead from customers where org_id = $1", ORG) == CUSTOMER


async def test_a_status_that_overtook_the_answer_is_applied_with_it(world: Bridging, sandbox: SandboxClient) -> None:
    await sandbox.fault("twilio", "server_error", sent=True, calls=1)
    command = await world.decided()
    await world.send(command)
    [sms] = await sandbox.sms()
    early = ProviderStatus("sms", TWILIO_SID, sms["sid"], "delivered", world.clock())
    async with world.pool.acquire() as db, db.transaction():
        await receive_statuses(db, [early], world.clock())
    await world.sweep()
    updates, _ = await world.told()
    assert set(ends(updates)) == {
        (bridge_message_id(command.message_id), "delivered", None, None),
        (command.message_id, "failed", "window_expired_bridge_sent", None),
    }


async def test_redis_away_changes_nothing_but_redis(world: Bridging, sandbox: SandboxClient) -> None:
    command = await world.decided()
    await world.redis.close()
    await world.send(command)
    assert len(await sandbox.sms()) == 1
    held = await world.value("select held_until from bridge_slots where org_id = $1", ORG)
    assert abs(held - (world.clock() + HOLD)) < timedelta(minutes=1)


async def merge(world: Bridging) -> UUID:
    """The customer turns out to be another one, who has a conversation with the same number; returns that conversation."""
    customer_id, conversation_id = uuid4(), uuid4()
    await world.execute(
        "insert into customers (customer_id, org_id, phone, origin) values ($1, $2, $3, 'directory')",
        customer_id,
        ORG,
        CUSTOMER,
    )
    await world.execute(
        "insert into conversations (conversation_id, org_id, customer_id, phone_number_id) values ($1, $2, $3, $4)",
        conversation_id,
        ORG,
        customer_id,
        NUMBER_ID,
    )
    async with world.pool.acquire() as db, db.transaction():
        await merge_customers(db, [Merge(ORG, world.customer_id, customer_id)])
    return conversation_id


async def test_a_bridge_under_way_follows_its_conversation_into_another_one(
    world: Bridging, sandbox: SandboxClient
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


async def test_two_conversations_that_became_one_get_one_bridge(world: Bridging, sandbox: SandboxClient) -> None:
    first = await world.decided()
    await world.send(first)
    late = await world.decided(conversation_id=await merge(world))
    await world.send(late)
    updates, _ = await world.told()
    assert ends(updates)[-1] == (late.message_id, "failed", "window_expired_bridge_already_sent", None)
    assert len(await sandbox.sms()) == 1


class SilentTwilio(Twilio):
    """Never says what it has sent."""

    def __init__(self, http: aiohttp.ClientSession, **settings: Any) -> None:
        super().__init__(http, **settings)
        self.asked = asyncio.Event()

    async def listed(self, *, sender: str, to: str, since: datetime) -> Sequence[Listed]:
        self.asked.set()
        await asyncio.Event().wait()
        return []


async def test_a_provider_that_does_not_say_what_it_sent_holds_up_no_other_sweeping(
    world: Bridging, kafka: KafkaConnection, sandbox: SandboxClient
) -> None:
    lost = await world.decided(route="session", text="one")
    behind = await world.decided(route="session", text="two", expires_at=world.clock() + timedelta(minutes=1))
    await world.accept(lost, behind)
    await world.execute(
        "update sends set state = 'unknown', claimed_at = due_at, unknown_since = due_at where message_id = $1",
        lost.message_id,
    )
    async with aiohttp.ClientSession() as http, Producer(kafka) as producer:
        provider = SilentTwilio(
            http,
            base_url=sandbox.url,
            account_sid=TWILIO_SID,
            auth_token=TWILIO_TOKEN,
            status_callback=None,
            timeout_seconds=1,
        )
        carrier = SmsCarrier(
            provider=provider,
            pool=world.pool,
            slots=world.redis_slots,
            mint=LinkMint([LINK_KEY]),
            terms=Terms(timedelta(hours=24), HOLD, LINK_LIFE, None),
            grace=GRACE,
        )
        async with Line(carrier, world.pool, producer, TIMINGS, now=world.clock):
            await provider.asked.wait()
            world.clock.forward(timedelta(minutes=2))

            async def ended() -> bool:
                return bool((await world.send_row(behind))["state"] == "failed")

            await sandbox.until(ended, 30.0)
