"""An SMS that Twilio refused to take, and whose answer got lost: its record is the refusal, on real servers."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from deploy.local.sandbox.client import SandboxClient
from libs.common.events.outbound import DeliveryUpdate, SmsCommand
from libs.common.ids import bridge_message_id, callback_data
from libs.common.sending.status_effects import receive_statuses
from libs.common.thread.message_status import ProviderStatus
from tests.support import world as seeds
from tests.support.sandbox import CUSTOMER, NUMBER_ID, TWILIO_SID
from tests.support.sms_world import GRACE, ORG, SMS_NUMBER, TIMINGS, SmsWorld

OTHER_ORG, OTHER_NUMBER, OTHER_CUSTOMER = "bravo", "+447700900002", "+447700900888"


def ends(updates: list[DeliveryUpdate]) -> list[tuple[Any, str, str | None, str | None]]:
    return [(u.message_id, u.status, u.reason, u.provider_code) for u in updates]


@pytest.mark.parametrize(
    ("state", "mark"), [("opted_out", ("21610", "sms_opted_out")), ("landline", ("21614", "no_phone"))]
)
@pytest.mark.parametrize("mode", ["drop_answer", "stall"])
async def test_a_record_of_a_refused_creation_is_no_acceptance(
    world: SmsWorld, sandbox: SandboxClient, mode: Any, state: Any, mark: tuple[str, str]
) -> None:
    code, _ = mark
    await sandbox.sms_recipient(CUSTOMER, state)
    await sandbox.fault("twilio", mode, sent=True, seconds=60, calls=1)
    command = await world.decided()
    newest = await world.silenced(command)
    await world.send(command)
    assert (await world.send_row(command))["state"] == "unknown"
    await world.sweep()
    updates, refusals = await world.published()
    assert ends(updates) == [(command.message_id, "failed", "window_expired_bridge_failed", code)]
    assert [(r.intent_id, r.reason) for r in refusals] == [(newest, "slot_freed")]
    assert await world.slot() == (None, None)
    assert await world.message(bridge_message_id(command.message_id)) == {}
    assert await world.value("select count(*) from charges") == 0
    assert await world.value("select count(*) from provider_ids") == 0
    kept = await world.row("select code, reason, source from address_marks where address = $1", CUSTOMER)
    assert tuple(kept) == (*mark, "list")
    off = await world.value(
        "select allowed from consents where customer_id = $1 and category = 'sms'", world.customer_id
    )
    assert off is (False if state == "opted_out" else None)
    assert await sandbox.sms() == []


async def test_plain_text_whose_creation_was_refused_says_whose_refusal_it_was(
    world: SmsWorld, sandbox: SandboxClient
) -> None:
    await sandbox.sms_recipient(CUSTOMER, "landline")
    await sandbox.fault("twilio", "drop_answer", calls=1)
    command = await world.decided(route="session", text="Your Golf is ready.")
    await world.send(command)
    await world.sweep()
    updates, _ = await world.published()
    assert ends(updates) == [(command.message_id, "failed", "provider_refused", "21614")]


async def test_a_text_that_was_taken_counts_before_the_same_text_that_was_refused(
    world: SmsWorld, sandbox: SandboxClient
) -> None:
    await sandbox.sms_recipient(CUSTOMER, "landline")
    refused = await world.decided(route="session", text="OK")
    await world.send(refused)
    await sandbox.sms_recipient(CUSTOMER, "fine")
    await world.execute("delete from address_marks")
    await sandbox.fault("twilio", "drop_answer", calls=1)
    taken = await world.decided(route="session", text="OK")
    await world.send(taken)
    await world.sweep()
    assert (await world.send_row(taken))["state"] == "accepted"


async def test_a_sender_that_was_refused_makes_the_message_wait_and_uses_up_no_call(
    world: SmsWorld, sandbox: SandboxClient
) -> None:
    await sandbox.fault("twilio", "server_error", endpoint="send", calls=1)
    await sandbox.fault("twilio", "server_error", endpoint="list")
    command = await world.decided()
    await world.send(command)
    refused = ProviderStatus(
        *("sms", "twilio", TWILIO_SID, "SM-refused", "failed", world.clock(), "21660"),
        callback=callback_data(ORG, command.message_id, 1),
    )
    async with world.pool.acquire() as db, db.transaction():
        await receive_statuses(db, [refused], world.clock())
    await world.sweep()
    row = await world.send_row(command)
    assert (row["state"], row["resends"]) == ("pending", 0)
    assert await world.published() == ([], [])
    world.clock.forward(timedelta(minutes=1))
    assert await world.send() == 1
    assert (await world.send_row(command))["state"] == "accepted"


async def test_a_refusal_that_a_status_tells_before_the_second_send_ends_it(
    world: SmsWorld, sandbox: SandboxClient
) -> None:
    await sandbox.fault("twilio", "server_error", calls=1)
    command = await world.decided()
    await world.send(command)
    await world.sweep(GRACE)
    assert (await world.send_row(command))["resends"] == 1
    late = ProviderStatus(
        *("sms", "twilio", TWILIO_SID, "SM-refused", "failed", world.clock(), "21610"),
        callback=callback_data(ORG, command.message_id, 1),
        item={"From": SMS_NUMBER, "To": CUSTOMER},
    )
    async with world.pool.acquire() as db, db.transaction():
        await receive_statuses(db, [late], world.clock())
    assert await world.send() == 0
    updates, _ = await world.published()
    assert ends(updates) == [(command.message_id, "failed", "window_expired_bridge_failed", "21610")]
    assert await world.slot() == (None, None)


async def a_neighbour(world: SmsWorld) -> SmsCommand:
    """Another organisation on the same Twilio account uses the same intent id for a text of its own."""
    theirs = await world.decided(route="session", text="Bravo")
    conversation, customer = uuid4(), uuid4()
    async with world.pool.acquire() as db:
        number = NUMBER_ID + "9"
        await seeds.an_org(db, OTHER_ORG, number, waba="206400000000002", sms_number=OTHER_NUMBER)
        await seeds.a_customer(db, OTHER_ORG, customer, OTHER_CUSTOMER)
        await seeds.a_conversation(db, OTHER_ORG, conversation, customer, number, last_customer_at=world.clock())
    await world.execute(
        """insert into messages (org_id, message_id, conversation_id, direction, channel, kind, content, actor, status,
            occurred_at, received_at)
           values ($1, $2, $3, 'out', 'sms', 'text', '{}', 'ai', 'pending', now(), now())""",
        OTHER_ORG,
        theirs.message_id,
        conversation,
    )
    return theirs.model_copy(
        update={
            "org_id": OTHER_ORG,
            "conversation_id": conversation,
            "from_number": OTHER_NUMBER,
            "to": OTHER_CUSTOMER,
        }
    )


async def test_two_organisations_with_one_intent_id_each_get_the_sms_that_is_theirs(
    world: SmsWorld, sandbox: SandboxClient
) -> None:
    theirs = await a_neighbour(world)
    ours = theirs.model_copy(
        update={"org_id": ORG, "conversation_id": world.conversation_id, "from_number": SMS_NUMBER, "to": CUSTOMER}
    )
    await sandbox.fault("twilio", "server_error", sent=True, calls=2)
    await sandbox.fault("twilio", "server_error", endpoint="list")
    await world.send(ours, theirs)
    sids = {sms["message"]["to"]: sms["sid"] for sms in await sandbox.sms()}

    def status(of: SmsCommand) -> ProviderStatus:
        ref = callback_data(of.org_id, of.message_id, 1)
        item = {"From": of.from_number, "To": of.to}
        return ProviderStatus(
            "sms", "twilio", TWILIO_SID, sids[of.to], "delivered", world.clock(), callback=ref, item=item
        )

    async with world.pool.acquire() as db, db.transaction():
        await receive_statuses(db, [status(theirs)], world.clock())
    await world.sweep()
    async with world.pool.acquire() as db, db.transaction():
        await receive_statuses(db, [status(ours)], world.clock())
    await world.sweep(TIMINGS.look)
    async with world.pool.acquire() as db:
        got = {
            row["org_id"]: row["provider_id"] for row in await db.fetch("select org_id, provider_id from provider_ids")
        }
        charged = await db.fetchval("select count(*) from charges")
    assert got == {ORG: sids[CUSTOMER], OTHER_ORG: sids[OTHER_CUSTOMER]}
    assert charged == 2
