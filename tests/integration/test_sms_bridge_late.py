"""What a late status of an SMS means for the message, for others and for the account, on real servers."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from deploy.local.sandbox.client import SandboxClient
from libs.common.events.outbound import SmsCommand
from libs.common.ids import bridge_message_id, callback_data
from libs.common.sending.rows import EVERY_ACCOUNT, at_account
from libs.common.sending.status_effects import StatusEvents, receive_statuses
from libs.common.thread.message_status import ProviderStatus
from tests.support import world as seeds
from tests.support.logs import LogLines
from tests.support.sandbox import CUSTOMER, NUMBER_ID, TWILIO_SID
from tests.support.sms_world import ORG, SMS_NUMBER, SmsWorld

SECOND = timedelta(seconds=1)
OTHER_NUMBER = "+447700900002"


async def sent(world: SmsWorld, sandbox: SandboxClient, **changes: Any) -> tuple[SmsCommand, str]:
    """A command that Twilio has taken, and its id there."""
    command = await world.decided(**changes)
    await world.send(command)
    return command, (await sandbox.sms())[-1]["sid"]


async def late(world: SmsWorld, sid: str, status: str, code: str | None = None) -> StatusEvents:
    late = ProviderStatus("sms", "twilio", TWILIO_SID, sid, status, world.clock(), code)
    async with world.pool.acquire() as db, db.transaction():
        return await receive_statuses(db, [late], world.clock())


async def resting(world: SmsWorld) -> list[tuple[str, str, str]]:
    async with world.pool.acquire() as db:
        rows = await db.fetch("select account, reason, proof from pauses where provider = 'twilio'")
    return [tuple(row) for row in rows]


@pytest.mark.parametrize(
    ("code", "reason", "rests"),
    [
        ("30002", "account", [(at_account(EVERY_ACCOUNT, "twilio", TWILIO_SID), "30002", "status")]),
        ("21661", "account", [(at_account(SMS_NUMBER, "twilio", TWILIO_SID), "21661", "status")]),
        ("30001", "transient", []),
        ("30022", "transient", []),
    ],
)
async def test_plain_text_that_a_late_status_burnt_is_decided_again(
    world: SmsWorld, sandbox: SandboxClient, code: str, reason: str, rests: list[tuple[str, str, str]]
) -> None:
    command, sid = await sent(world, sandbox, route="session", text="Hello")
    effects = await late(world, sid, "failed", code)
    assert [(r.intent_id, r.attempt, r.reason, r.provider_code) for r in effects.refusals] == [
        (command.message_id, 1, reason, code)
    ]
    assert effects.updates == []
    assert await resting(world) == rests


@pytest.mark.parametrize(("code", "reason"), [("30002", "account"), ("30001", "transient")])
async def test_plain_text_is_decided_again_also_where_its_status_overtook_the_answer(
    world: SmsWorld, sandbox: SandboxClient, code: str, reason: str
) -> None:
    await sandbox.fault("twilio", "server_error", sent=True, calls=1)
    command = await world.decided(route="session", text="Hello")
    await world.send(command)
    [sms] = await sandbox.sms()
    ref = callback_data(command.org_id, command.message_id, 1)
    early = ProviderStatus("sms", "twilio", TWILIO_SID, sms["sid"], "failed", world.clock(), code, ref)
    async with world.pool.acquire() as db, db.transaction():
        await receive_statuses(db, [early], world.clock())
    await world.sweep()
    updates, refusals = await world.published()
    assert updates == []
    assert [(r.intent_id, r.reason, r.provider_code) for r in refusals] == [(command.message_id, reason, code)]


@pytest.mark.parametrize("code", ["30002", "30001", "30003", "30007", "30008", "30410", "99999"])
async def test_a_bridge_that_was_taken_is_never_bought_again_whatever_a_late_status_says(
    world: SmsWorld, sandbox: SandboxClient, code: str
) -> None:
    command, sid = await sent(world, sandbox)
    silenced = await world.silenced(command)
    effects = await late(world, sid, "failed", code)
    bridge_id = bridge_message_id(command.message_id)
    assert [(u.message_id, u.status, u.provider_code) for u in effects.updates] == [(bridge_id, "failed", code)]
    assert effects.refusals == []
    assert (await world.message(silenced))["status"] == "failed"
    held_until, holder = await world.slot()
    assert held_until is not None
    assert (held_until > world.clock() + timedelta(hours=23), holder) == (True, str(command.message_id))


async def test_while_the_account_rests_messages_wait_and_one_that_goes_through_ends_it(
    world: SmsWorld, sandbox: SandboxClient
) -> None:
    _, sid = await sent(world, sandbox, route="session", text="first")
    await late(world, sid, "failed", "30002")
    waiting = await world.decided(route="session", text="second")
    assert await world.send(waiting) == 0
    world.clock.forward(timedelta(minutes=15))
    assert await world.send() == 1
    assert len(await resting(world)) == 1  # an acceptance was what it had before, too
    await late(world, (await sandbox.sms())[-1]["sid"], "delivered")
    assert await resting(world) == []


@pytest.mark.parametrize("code", ["30008", "30410", "30003"])
async def test_a_late_delivered_is_shown_and_clears_the_mark(
    world: SmsWorld, sandbox: SandboxClient, code: str
) -> None:
    command, sid = await sent(world, sandbox)
    await late(world, sid, "failed", code)
    world.clock.forward(SECOND)
    effects = await late(world, sid, "delivered")
    assert [(u.message_id, u.status) for u in effects.updates] == [(bridge_message_id(command.message_id), "delivered")]
    assert await world.value("select count(*) from address_marks where address = $1", CUSTOMER) == 0
    assert (await world.slot())[0] is not None


@pytest.mark.parametrize("code", ["30032", "30033", "30034", "30035"])
async def test_a_sender_that_is_not_registered_in_a_country_rests_there_and_marks_nobody(
    world: SmsWorld, sandbox: SandboxClient, log_lines: LogLines, code: str
) -> None:
    await world.execute("update orgs set policy = $2 where org_id = $1", ORG, {"sms_countries": ["GB", "US"]})
    americans = {phone: await a_customer_with(world, phone) for phone in ("+12125550100", "+12125550101")}
    plain: dict[str, Any] = {"route": "session", "text": "Ready."}
    sids = []
    for phone, conversation in americans.items():  # both are in flight when the first status comes
        sids.append((await sent(world, sandbox, to=phone, conversation_id=conversation, **plain))[1])
    for sid in sids:
        effects = await late(world, sid, "failed", code)
        assert [(u.status, u.provider_code) for u in effects.updates] == [("failed", code)]
        assert effects.refusals == []
    assert await world.value("select count(*) from address_marks") == 0
    assert await resting(world) == []
    [line] = log_lines.of("country.paused")
    assert (line["level"], line["org_id"], line["provider"], line["country"], line["provider_code"]) == (
        *("error", ORG, "twilio", "US"),
        code,
    )

    to_us = await world.decided(to="+12125550101", conversation_id=americans["+12125550101"], **plain)
    assert await world.send(to_us) == 0
    updates, _ = await world.published()
    assert (updates[-1].message_id, updates[-1].reason) == (to_us.message_id, "window_expired_country_not_allowed")
    assert await world.send(await world.decided(**plain)) == 1  # another country

    await world.execute("update orgs set sms_number = $2 where org_id = $1", ORG, OTHER_NUMBER)
    by_another = {"to": "+12125550101", "conversation_id": americans["+12125550101"], "from_number": OTHER_NUMBER}
    assert await world.send(await world.decided(**plain, **by_another)) == 1
    await world.execute("update orgs set sms_number = $2 where org_id = $1", ORG, SMS_NUMBER)
    world.clock.forward(timedelta(hours=1))
    assert len(await sandbox.sms()) == 4
    again = await world.decided(to="+12125550100", conversation_id=americans["+12125550100"], **plain)
    assert await world.send(again) == 1


async def a_customer_with(world: SmsWorld, phone: str) -> UUID:
    """A customer with this number who wrote two days ago; returns the conversation."""
    customer, conversation = uuid4(), uuid4()
    async with world.pool.acquire() as db:
        await seeds.a_customer(db, ORG, customer, phone)
        last = world.clock() - timedelta(days=2)
        await seeds.a_conversation(db, ORG, conversation, customer, NUMBER_ID, last_customer_at=last)
    return conversation


async def test_the_hour_of_a_country_counts_from_the_send(
    world: SmsWorld, sandbox: SandboxClient, log_lines: LogLines
) -> None:
    """Receipts may come after the number was registered, from sends of before."""
    await world.execute("update orgs set policy = $2 where org_id = $1", ORG, {"sms_countries": ["GB", "US"]})
    phone = "+12125550100"
    to_us: dict[str, Any] = {"to": phone, "conversation_id": await a_customer_with(world, phone)}
    plain: dict[str, Any] = {"route": "session", "text": "Ready."} | to_us
    sids = [(await sent(world, sandbox, **plain))[1] for _ in range(3)]
    for minutes, sid, paused in ((40, sids[0], 1), (19, sids[1], 1), (2, sids[2], 1)):
        world.clock.forward(timedelta(minutes=minutes))
        await late(world, sid, "failed", "30034")
        assert len(log_lines.of("country.paused")) == paused
    assert await world.send(await world.decided(**plain)) == 1  # 61 minutes after the sends
