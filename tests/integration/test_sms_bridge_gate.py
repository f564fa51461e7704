"""The gate of the SMS bridge, and what waits behind it, on real servers."""

from datetime import timedelta
from typing import Any

import pytest

from deploy.local.sandbox.client import SandboxClient
from libs.common.events.outbound import DeliveryUpdate
from tests.support import world as seeds
from tests.support.erased import erase
from tests.support.logs import LogLines
from tests.support.sms_world import (
    ORG,
    SmsWorld,
)


def ends(updates: list[DeliveryUpdate]) -> list[tuple[Any, str, str | None, str | None]]:
    return [(u.message_id, u.status, u.reason, u.provider_code) for u in updates]


GATE = {
    "sms_opted_out": "insert into consents values ($1, $2, 'sms', false, now())",
    "no_phone": """insert into address_marks
                   select org_id, 'sms', phone, 'no_phone', '21614', 'answer', now(), now() + interval '1 day'
                     from customers where org_id = $1 and customer_id = $2""",
    "sms_unavailable": "update orgs set sms_active = false where org_id = $1 and $2::uuid is not null",
    "whatsapp_consent_off": "insert into consents values ($1, $2, 'whatsapp', false, now())",
}


@pytest.mark.parametrize("reason", list(GATE))
async def test_what_was_withdrawn_meanwhile_counts(world: SmsWorld, sandbox: SandboxClient, reason: str) -> None:
    command = await world.decided()
    await world.execute(GATE[reason], ORG, world.customer_id)
    assert await world.send(command) == 0
    updates, _ = await world.published()
    expected = reason if reason == "whatsapp_consent_off" else f"window_expired_{reason}"
    assert ends(updates) == [(command.message_id, "failed", expected, None)]
    assert await world.slot() == (None, None)
    assert await sandbox.sms() == []


async def test_what_waits_for_a_customer_who_is_erased_is_not_sent(world: SmsWorld, sandbox: SandboxClient) -> None:
    command = await world.decided()
    await erase(world.pool, ORG, world.conversation_id)
    assert await world.send(command) == 0
    updates, _ = await world.published()
    assert ends(updates) == [(command.message_id, "failed", "window_expired_no_phone", None)]
    assert await sandbox.sms() == []


async def test_a_stop_holds_for_its_line_under_every_spelling(world: SmsWorld, sandbox: SandboxClient) -> None:
    await world.execute(
        "update customers set phone = $3 where org_id = $1 and customer_id = $2",
        ORG,
        world.customer_id,
        "+551187654321",
    )
    await world.execute(
        "insert into consents (org_id, customer_id, category, allowed, at, address)"
        " values ($1, $2, 'sms', false, now(), $3)",
        ORG,
        world.customer_id,
        "+5511987654321",
    )
    command = await world.decided(to="+5511987654321")
    assert await world.send(command) == 0
    updates, _ = await world.published()
    assert ends(updates) == [(command.message_id, "failed", "window_expired_sms_opted_out", None)]
    assert await sandbox.sms() == []


@pytest.mark.parametrize("theirs", ["+5511987654321", "+551187654321"])
async def test_no_sms_goes_to_another_organisations_line_under_any_spelling(
    world: SmsWorld, sandbox: SandboxClient, theirs: str
) -> None:
    async with world.pool.acquire() as db:
        await seeds.an_org(db, "other", "106400000000009", waba="206400000000009", sms_number=theirs)
    await world.execute("update customers set phone = '+551187654321' where customer_id = $1", world.customer_id)
    command = await world.decided(to="+5511987654321")
    assert await world.send(command) == 0
    updates, _ = await world.published()
    assert ends(updates) == [(command.message_id, "failed", "window_expired_no_phone", None)]
    assert await sandbox.sms() == []


@pytest.mark.parametrize("reason", ["sms_opted_out", "no_phone", "sms_unavailable"])
async def test_the_same_gate_stands_before_plain_text(world: SmsWorld, sandbox: SandboxClient, reason: str) -> None:
    command = await world.decided(route="session", text="Hello")
    await world.execute(GATE[reason], ORG, world.customer_id)
    assert await world.send(command) == 0
    updates, _ = await world.published()
    assert ends(updates) == [(command.message_id, "failed", f"window_expired_{reason}", None)]
    assert await sandbox.sms() == []


@pytest.mark.parametrize("asked", [{}, {"route": "session", "text": "Hello"}], ids=["bridge", "plain text"])
async def test_what_waits_while_the_organisation_takes_another_sms_number_is_decided_again(
    world: SmsWorld, sandbox: SandboxClient, asked: dict[str, str]
) -> None:
    command = await world.decided(**asked)
    await world.execute("update orgs set sms_number = '+447700900002' where org_id = $1", ORG)
    assert await world.send(command) == 0
    updates, refusals = await world.published()
    assert updates == []
    assert [(one.intent_id, one.attempt, one.reason) for one in refusals] == [
        (command.message_id, 1, "address_changed")
    ]
    assert await world.slot() == (None, None)
    assert await sandbox.sms() == []


async def test_what_no_provider_saw_is_refused_without_a_providers_code(
    world: SmsWorld, sandbox: SandboxClient, log_lines: LogLines
) -> None:
    command = await world.decided(route="session", text="Hello")
    await world.accept(command)
    await world.execute("update sends set command = jsonb_set(command, '{text}', '\"\"')")
    assert await world.send() == 0
    updates, _ = await world.published()
    assert ends(updates) == [(command.message_id, "failed", "provider_refused", None)]
    [line] = log_lines.of("send.refused")
    assert (line["message_id"], line["reason"]) == (str(command.message_id), "empty_text")
    assert await sandbox.sms() == []


async def test_a_row_that_another_release_stored_waits_for_one_that_reads_it_and_its_neighbours_go(
    world: SmsWorld, sandbox: SandboxClient, log_lines: LogLines
) -> None:
    command = await world.decided(route="session", text="Hello")
    await world.accept(command)
    await world.execute("""update sends set command = command || '{"route": "carrier_pigeon"}'""")
    assert await world.send() == 0
    assert await world.send() == 0
    assert (await world.published())[0] == []
    [line] = log_lines.of("row.set_aside")
    assert (line["level"], line["reason"], line["records"]) == ("error", "unknown_value", 1)
    await world.execute("""update sends set command = command || '{"route": "session"}'""")  # a release that knows it
    world.clock.forward(timedelta(seconds=31))
    assert await world.send() == 1
    assert len(await sandbox.sms()) == 1


async def test_a_customer_who_wrote_meanwhile_is_answered_where_he_wrote(
    world: SmsWorld, sandbox: SandboxClient
) -> None:
    command = await world.decided()
    await world.execute("update conversations set last_customer_at = $1", world.clock())
    assert await world.send(command) == 0
    updates, refusals = await world.published()
    assert updates == []
    assert [(r.intent_id, r.attempt, r.reason) for r in refusals] == [(command.message_id, 1, "window_open")]
    kept = await world.value("select event ->> 'reason' from refusals where intent_id = $1", command.message_id)
    assert kept == "window_open"  # until the router has decided
    assert await world.slot() == (None, None)
    assert (await world.message(command.message_id))["status"] == "pending"
    assert await sandbox.sms() == []


async def test_a_command_past_its_deadline_ends_and_frees_the_slot(world: SmsWorld, sandbox: SandboxClient) -> None:
    command = await world.decided(expires_at=world.clock() + timedelta(seconds=10))
    await world.accept(command)
    await world.sweep(timedelta(seconds=11))
    updates, _ = await world.published()
    assert ends(updates) == [(command.message_id, "failed", "intent_expired", None)]
    assert await world.slot() == (None, None)
    assert await sandbox.sms() == []


async def test_a_command_told_twice_is_sent_once(world: SmsWorld, sandbox: SandboxClient) -> None:
    command = await world.decided()
    assert await world.send(command, command) == 1
    assert await world.send(command) == 0
    assert len(await sandbox.sms()) == 1


async def test_a_throttled_account_waits_and_its_links_do_not_pile_up(world: SmsWorld, sandbox: SandboxClient) -> None:
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


async def test_wrong_credentials_make_messages_wait_and_fail_none(world: SmsWorld, sandbox: SandboxClient) -> None:
    await sandbox.fault("twilio", "fail", code=20003, http_status=401, calls=1)
    command = await world.decided()
    await world.send(command)
    assert (await world.send_row(command))["state"] == "pending"
    assert await world.published() == ([], [])
    world.clock.forward(timedelta(minutes=15))
    await world.send()
    assert len(await sandbox.sms()) == 1
