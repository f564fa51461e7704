"""How a sent SMS is found again at the provider: by what, since when, and how often. On real servers."""

import hashlib
import secrets
from datetime import timedelta

import pytest

from deploy.local.sandbox.client import SandboxClient
from libs.common.bridge.link_codes import LinkCodes
from libs.common.events.outbound import SmsCommand
from libs.common.ids import bridge_message_id, callback_data
from libs.common.sending.status_effects import receive_statuses
from libs.common.thread.message_status import ProviderStatus
from tests.support.sandbox import TWILIO_SID
from tests.support.sms_world import GRACE, LINK_KEY, ORG, TIMINGS, SmsWorld


async def test_what_is_stored_of_a_text_does_not_give_its_code_away(world: SmsWorld, sandbox: SandboxClient) -> None:
    command = await world.decided()
    await world.send(command)
    [sms] = await sandbox.sms()
    text = sms["message"]["body"]
    stored = (await world.send_row(command))["text_hash"]
    assert stored == LinkCodes([LINK_KEY], secrets.choice).fingerprint(text)
    assert stored != hashlib.sha256(text.encode()).digest()


@pytest.mark.parametrize(
    ("age", "pause"),
    [(0, TIMINGS.poll), (60, timedelta(seconds=3)), (300, timedelta(seconds=15)), (7200, TIMINGS.look)],
)
async def test_a_list_that_cannot_be_read_is_asked_for_ever_more_rarely(
    world: SmsWorld, sandbox: SandboxClient, age: int, pause: timedelta
) -> None:
    await sandbox.fault("twilio", "server_error")
    await sandbox.fault("twilio", "server_error", endpoint="list")
    command = await world.decided()
    await world.send(command)
    world.clock.forward(timedelta(seconds=age))
    before = world.clock()
    await world.sweep()
    passed = world.clock() - before
    row = await world.send_row(command)
    assert (row["state"], [c["endpoint"] for c in await sandbox.calls()]) == ("unknown", ["send", "list"])
    assert before + pause <= row["due_at"] <= before + pause + 2 * passed + (before - row["unknown_since"]) / 20


async def status(world: SmsWorld, of: SmsCommand, sid: str, account: str = TWILIO_SID) -> None:
    """A status callback that echoes the reference of a send."""
    sent = ProviderStatus(
        "sms",
        "twilio",
        account,
        sid,
        "sent",
        world.clock(),
        callback=callback_data(of.org_id, of.message_id, of.attempt),
    )
    async with world.pool.acquire() as db, db.transaction():
        await receive_statuses(db, [sent], world.clock())


async def test_a_status_that_echoes_the_reference_is_evidence_though_the_list_says_nothing(
    world: SmsWorld, sandbox: SandboxClient
) -> None:
    await sandbox.fault("twilio", "server_error", sent=True, calls=1)
    await sandbox.fault("twilio", "server_error", endpoint="list")
    command = await world.decided()
    await world.send(command)
    [sms] = await sandbox.sms()
    await status(world, command, sms["sid"], account="AC-of-somebody-else")
    await world.sweep()
    assert (await world.send_row(command))["state"] == "unknown"
    await status(world, command, sms["sid"])
    await world.sweep(TIMINGS.look)
    assert (await world.send_row(command))["state"] == "accepted"
    assert (await world.message(bridge_message_id(command.message_id)))["status"] == "sent"
    assert await world.value("select provider_id from provider_ids where org_id = $1", ORG) == sms["sid"]


async def test_a_status_that_comes_before_the_second_send_keeps_it_from_going(
    world: SmsWorld, sandbox: SandboxClient
) -> None:
    await sandbox.fault("twilio", "server_error", calls=1)
    command = await world.decided()
    await world.send(command)
    await world.sweep(GRACE)
    assert (await world.send_row(command))["resends"] == 1
    await status(world, command, "SM-that-the-list-did-not-show")
    assert await world.send() == 0
    assert (await world.send_row(command))["state"] == "accepted"
    assert await sandbox.sms() == []


async def test_an_sms_that_a_status_tells_apart_is_no_evidence_for_another_with_its_text(
    world: SmsWorld, sandbox: SandboxClient
) -> None:
    commands = [await world.decided(route="session", text="OK") for _ in range(2)]
    await sandbox.fault("twilio", "server_error", sent=True, calls=1)
    await world.send(commands[1])
    await sandbox.fault("twilio", "server_error", calls=1)
    await world.send(commands[0])
    [sms] = await sandbox.sms()
    await status(world, commands[1], sms["sid"])
    await world.sweep(GRACE)
    assert [(await world.send_row(c))["state"] for c in commands] == ["pending", "accepted"]
