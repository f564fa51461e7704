"""Bridges and plain text by SMS on real servers, in front of a Twilio that plays by its own rules."""

import secrets
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from deploy.local.sandbox.client import SandboxClient
from libs.common.bridge.link_codes import LinkCodes
from libs.common.events.outbound import DeliveryUpdate
from libs.common.gsm7 import septets
from libs.common.ids import bridge_message_id, callback_data
from tests.support.logs import LogLines
from tests.support.sandbox import CUSTOMER, HookInbox
from tests.support.sms_world import (
    HOLD,
    LINK_KEY,
    LINK_LIFE,
    ORG,
    SMS_NUMBER,
    SmsWorld,
)

PREFIX = "AcmeMotors: Update for you. WhatsApp: wa.me/447700900123 Portal: tflow.link/"


async def bodies(sandbox: SandboxClient) -> list[str]:
    return [sms["message"]["body"] for sms in await sandbox.sms()]


def ends(updates: list[DeliveryUpdate]) -> list[tuple[Any, str, str | None, str | None]]:
    return [(u.message_id, u.status, u.reason, u.provider_code) for u in updates]


async def test_a_bridge_goes_out_once_and_takes_the_original_with_it(
    world: SmsWorld, sandbox: SandboxClient, hook_inbox: HookInbox, log_lines: LogLines
) -> None:
    command = await world.decided()
    assert await world.send(command) == 1
    [sms] = await sandbox.sms()
    text, bridge_id = sms["message"]["body"], bridge_message_id(command.message_id)

    assert text.startswith(PREFIX)
    assert len(text) == len(PREFIX) + 11
    assert septets(text) <= 160
    assert (sms["message"]["from"], sms["message"]["to"]) == (SMS_NUMBER, CUSTOMER)
    assert (
        sms["callback"]
        == f"{hook_inbox.url}/webhooks/twilio/status?ref={callback_data(command.org_id, command.message_id, 1)}"
    )

    bridge = await world.message(bridge_id)
    assert bridge["content"] == {"kind": "text", "text": PREFIX + "*" * 11}
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

    updates, refusals = await world.published()
    assert ends(updates) == [(command.message_id, "failed", "window_expired_bridge_sent", None)]
    assert refusals == []
    row = await world.send_row(command)
    assert (row["state"], row["published"], row["tries"]) == ("accepted", True, 1)
    assert [line["message_id"] for line in log_lines.of("bridge.sent")] == [str(bridge_id)]
    assert CUSTOMER not in log_lines.raw
    assert text not in log_lines.raw


async def test_the_link_is_stored_as_a_keyed_hash_alone(world: SmsWorld, sandbox: SandboxClient) -> None:
    command = await world.decided()
    await world.send(command)
    code = (await bodies(sandbox))[0].removeprefix(PREFIX)
    link = await world.row("select * from portal_links where org_id = $1", ORG)
    assert link["code_hash"] == LinkCodes([LINK_KEY], secrets.choice).hashes(code)[0]
    assert (link["host"], link["phone"], link["used_at"]) == ("tflow.link", command.to, None)
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


async def test_the_hold_runs_from_the_acceptance_on_both_sides(world: SmsWorld) -> None:
    command = await world.decided()
    world.clock.forward(timedelta(hours=3))
    await world.send(command)
    held_until, holder = await world.slot()
    assert held_until is not None
    assert abs(held_until - (world.clock() + HOLD)) < timedelta(minutes=1)
    assert holder == str(command.message_id)


async def test_segments_and_the_price_of_the_day_are_charged(world: SmsWorld) -> None:
    command = await world.decided()
    await world.send(command)
    charge = await world.row("select * from charges where org_id = $1", ORG)
    assert (charge["message_id"], charge["segments"], charge["currency"], charge["price"]) == (
        bridge_message_id(command.message_id),
        1,
        "GBP",
        Decimal("0.04"),
    )


async def test_without_a_rate_card_the_charge_has_no_price(world: SmsWorld) -> None:
    await world.execute("delete from rate_card")
    command = await world.decided()
    await world.send(command)
    charge = await world.row("select segments, currency, price from charges where org_id = $1", ORG)
    assert tuple(charge) == (1, None, None)


async def test_plain_text_is_the_message_itself(world: SmsWorld, sandbox: SandboxClient) -> None:
    command = await world.decided(route="session", text="Gern, bis 17:00! ✓" + "x" * 70)
    await world.send(command)
    assert await bodies(sandbox) == [command.text]
    assert (await world.message(command.message_id))["status"] == "pending"
    assert await world.message(bridge_message_id(command.message_id)) == {}
    assert await world.published() == ([], [])
    charge = await world.row("select message_id, segments, price from charges where org_id = $1", ORG)
    assert tuple(charge) == (command.message_id, 2, Decimal("0.08"))


@pytest.mark.parametrize(("state", "code"), [("opted_out", "21610"), ("landline", "21614")])
async def test_a_definite_failure_gives_the_slot_back_and_marks_the_recipient(
    world: SmsWorld, sandbox: SandboxClient, state: Any, code: str
) -> None:
    await sandbox.sms_recipient(CUSTOMER, state)
    command = await world.decided()
    older, newest = await world.silenced(command), await world.silenced(command)
    await world.send(command)

    assert await world.slot() == (None, None)
    updates, refusals = await world.published()
    assert ends(updates) == [(command.message_id, "failed", "window_expired_bridge_failed", code)]
    assert [(r.intent_id, r.attempt, r.reason) for r in refusals] == [(newest, 1, "slot_freed")]
    assert older != newest
    assert await world.message(bridge_message_id(command.message_id)) == {}
    assert await world.value("select count(*) from charges") == 0
    if state == "opted_out":
        consent = "select allowed from consents where org_id = $1 and customer_id = $2 and category = 'sms'"
        assert await world.value(consent, ORG, world.customer_id) is False
        assert await world.value("select count(*) from audit_log where org_id = $1 and action = 'consent'", ORG) == 1
    else:
        assert await world.value("select count(*) from consents") == 0
    mark = await world.row("select channel, address, code, source, at, until from address_marks where org_id = $1", ORG)
    assert tuple(mark)[:4] == ("sms", CUSTOMER, code, "answer")
    assert mark["at"] == world.clock() < mark["until"]


@pytest.mark.parametrize(("state", "reason"), [("opted_out", "sms_opted_out"), ("landline", "no_phone")])
async def test_the_number_a_customer_has_now_is_not_bound_by_what_was_said_of_the_one_before(
    world: SmsWorld, sandbox: SandboxClient, state: Any, reason: str
) -> None:
    await sandbox.sms_recipient(CUSTOMER, state)
    await world.send(await world.decided())
    again = await world.decided()
    assert await world.send(again) == 0
    assert (await world.message(again.message_id))["reason"] == f"window_expired_{reason}"
    await world.execute("update customers set phone = $1", "+447700900998")
    assert await world.send(await world.decided(to="+447700900998")) == 1
    assert [sms["message"]["to"] for sms in await sandbox.sms()] == ["+447700900998"]


async def test_a_consent_given_after_a_stop_opens_the_way_again(world: SmsWorld, sandbox: SandboxClient) -> None:
    await sandbox.sms_recipient(CUSTOMER, "opted_out")
    await world.send(await world.decided())
    await sandbox.sms_recipient(CUSTOMER, "fine")
    await world.execute(
        "update consents set allowed = true, address = null, at = $1", world.clock() + timedelta(seconds=1)
    )
    assert await world.send(await world.decided()) == 1
    assert len(await sandbox.sms()) == 1


@pytest.mark.parametrize(
    ("contacted", "consent", "calls"), [(True, None, 1), (False, None, 0), (False, True, 1), (False, False, 0)]
)
async def test_no_sms_goes_to_whoever_never_wrote_and_never_consented(
    world: SmsWorld,
    sandbox: SandboxClient,
    contacted: bool,  # noqa: FBT001 -- a table of cases
    consent: bool | None,  # noqa: FBT001 -- a table of cases
    calls: int,
) -> None:
    if not contacted:
        await world.execute("update conversations set last_customer_at = null")
    if consent is not None:
        await world.execute("insert into consents values ($1, $2, 'sms', $3, now())", ORG, world.customer_id, consent)
    bridge, plain = await world.decided(), await world.decided(route="session", text="Hello")
    assert await world.send(bridge, plain) + await world.send() == 2 * calls
    assert len(await sandbox.sms()) == 2 * calls
    if consent is None and not contacted:
        for command in (bridge, plain):
            assert (await world.message(command.message_id))["reason"] == "window_expired_never_contacted"


async def test_a_failure_that_is_nobodys_marks_nobody(world: SmsWorld, sandbox: SandboxClient) -> None:
    await sandbox.sms_recipient(CUSTOMER, "region_blocked")
    command = await world.decided()
    await world.send(command)
    updates, _ = await world.published()
    assert ends(updates) == [(command.message_id, "failed", "window_expired_bridge_failed", "21408")]
    assert await world.value("select count(*) from address_marks") == 0
    assert await world.value("select count(*) from consents") == 0


async def test_plain_text_that_is_refused_says_whose_refusal_it_was(world: SmsWorld, sandbox: SandboxClient) -> None:
    await sandbox.sms_recipient(CUSTOMER, "opted_out")
    command = await world.decided(route="session", text="Hello")
    await world.send(command)
    updates, refusals = await world.published()
    assert ends(updates) == [(command.message_id, "failed", "provider_refused", "21610")]
    assert refusals == []


async def test_an_organisation_without_a_usable_portal_host_is_refused_and_nothing_is_sent(
    world: SmsWorld, sandbox: SandboxClient
) -> None:
    command = await world.decided(portal_host="a" * 60 + "." + "b" * 60)
    await world.send(command)
    updates, _ = await world.published()
    assert ends(updates) == [(command.message_id, "failed", "window_expired_bridge_failed", None)]
    assert await world.slot() == (None, None)
    assert await sandbox.sms() == []
    assert await world.value("select count(*) from portal_links") == 0


async def test_a_garage_without_its_own_portal_host_uses_ours(world: SmsWorld, sandbox: SandboxClient) -> None:
    await world.send(await world.decided(portal_host=None))
    assert "Portal: portal.example/" in (await bodies(sandbox))[0]
