"""An SMS that Twilio's list shows otherwise than it was sent is unclear, never absent: no SMS goes twice."""

import asyncio
import secrets
from datetime import timedelta
from typing import Any

import pytest

from deploy.local.sandbox.client import SandboxClient
from libs.common.bridge.link_codes import LinkCodes
from libs.common.events.outbound import SmsCommand
from libs.common.ids import callback_data
from libs.common.phone import digits
from libs.common.sending.resend_rounds import FEW
from libs.common.sending.status_effects import receive_statuses
from libs.common.thread.message_status import ProviderStatus
from tests.support.sandbox import CUSTOMER, TWILIO_SID, ProviderCaller
from tests.support.sms_world import (
    GRACE,
    ORG,
    SETTLING,
    SMS_NUMBER,
    TIMINGS,
    WHATSAPP_NUMBER,
    SmsWorld,
    to_somebody_else,
)

MASKED = CUSTOMER[:-4] + "XXXX"
LONG = 4 * GRACE
PLAIN = "☂ Kim’s Golf is ready: https://garage.example/jobs/12345678"  # noqa: RUF001 -- smart encoding replaces it
SHOWN: list[dict[str, bool]] = [
    {"sms_redact_bodies": True},
    {"sms_redact_numbers": True},
    {"sms_redact_bodies": True, "sms_redact_numbers": True},
    {"sms_trial": True},
    {"sms_short_links": True},
    {"sms_smart_encoding": True},
]
BY_ITS_CODE = ({"sms_redact_numbers": True}, {"sms_smart_encoding": True})
"""A bridge is plain ASCII, and its code says whose it is."""


async def lose(world: SmsWorld, sandbox: SandboxClient, *, sent: bool = True, **changes: Any) -> Any:
    """A command is sent, and the answer is lost."""
    await sandbox.configure(sent_after=0)
    await sandbox.fault("twilio", "server_error", sent=sent, calls=1)
    command = await world.decided(**changes)
    await world.send(command)
    assert (await world.send_row(command))["state"] == "unknown"
    return command


async def state(world: SmsWorld, command: Any) -> tuple[str, int]:
    row = await world.send_row(command)
    return row["state"], row["resends"]


@pytest.mark.parametrize("rules", SHOWN, ids=str)
@pytest.mark.parametrize("route", ["bridge", "session"])
async def test_an_sms_that_the_list_shows_otherwise_is_not_sent_again(
    world: SmsWorld, sandbox: SandboxClient, route: Any, rules: dict[str, bool]
) -> None:
    await sandbox.configure(**rules)
    command = await lose(world, sandbox, route=route, text=PLAIN if route == "session" else None)
    for _ in range(3):
        await world.sweep(LONG)
        assert await world.send() == 0
    proved = route == "bridge" and rules in BY_ITS_CODE
    assert await state(world, command) == ("accepted" if proved else "unknown", 0)
    assert len(await sandbox.sms()) == 1


async def test_what_stays_unclear_ends_so_and_keeps_the_slot(world: SmsWorld, sandbox: SandboxClient) -> None:
    await sandbox.configure(sms_redact_bodies=True)
    command = await lose(world, sandbox, expires_at=world.clock() + timedelta(hours=1))
    await world.sweep(timedelta(hours=1) + TIMINGS.patience + TIMINGS.look)
    updates, _ = await world.published()
    assert [(u.message_id, u.status, u.reason) for u in updates] == [(command.message_id, "failed", "unknown_outcome")]
    assert (await world.slot())[1] == str(command.message_id)
    assert len(await sandbox.sms()) == 1


async def test_an_sms_of_another_program_between_the_same_numbers_is_neither_proof_nor_nothing(
    world: SmsWorld, sandbox: SandboxClient, providers: ProviderCaller
) -> None:
    command = await lose(world, sandbox, sent=False)
    await providers.sms({"From": SMS_NUMBER, "To": CUSTOMER, "Body": "Your invoice"})
    await world.sweep(LONG)
    assert await state(world, command) == ("unknown", 0)


async def test_sms_between_other_numbers_and_of_other_sends_speak_of_themselves(
    world: SmsWorld, sandbox: SandboxClient, providers: ProviderCaller
) -> None:
    neighbour = await world.decided(route="session", text="Hello")
    await world.send(neighbour)
    command = await lose(world, sandbox, sent=False, route="session", text="Your Golf is ready.")
    for sender, to in ((SMS_NUMBER, "+447700900555"), ("+447700900002", CUSTOMER)):
        await providers.sms({"From": sender, "To": to, "Body": "Your Golf is ready."})
    await world.sweep(LONG)
    assert await state(world, command) == ("pending", 1)


async def test_a_masked_number_that_cannot_be_the_customers_hides_nothing(
    world: SmsWorld, sandbox: SandboxClient, providers: ProviderCaller
) -> None:
    command = await lose(world, sandbox, sent=False)
    await sandbox.configure(sms_redact_numbers=True)
    await providers.sms({"From": SMS_NUMBER, "To": "+447711000555", "Body": "Hello"})
    await world.sweep(LONG)
    assert await state(world, command) == ("pending", 1)


@pytest.mark.parametrize("rules", [{"sms_redact_bodies": True}, {"sms_redact_numbers": True}], ids=str)
async def test_a_refused_creation_that_is_masked_is_not_asked_for_again(
    world: SmsWorld, sandbox: SandboxClient, rules: dict[str, bool]
) -> None:
    await sandbox.configure(**rules)
    await sandbox.sms_recipient(CUSTOMER, "opted_out")
    await sandbox.fault("twilio", "drop_answer", calls=1)
    command = await world.decided(route="session", text="Your Golf is ready.")
    await world.send(command)
    await world.sweep(LONG)
    assert await state(world, command) == ("unknown", 0)
    assert await world.send() == 0


async def test_a_refusal_of_an_earlier_call_is_not_taken_for_that_of_the_last(
    world: SmsWorld, sandbox: SandboxClient, providers: ProviderCaller
) -> None:
    await sandbox.fault("twilio", "fail", code=21606, calls=1)
    command = await world.decided(route="session", text="Your Golf is ready.")
    await world.send(command)  # the sender is not in order, and that was heard: the message waits
    assert await state(world, command) == ("pending", 0)
    await sandbox.sms_recipient(CUSTOMER, "landline")
    await providers.sms({"From": SMS_NUMBER, "To": CUSTOMER, "Body": "Your Golf is ready."})  # that call's record
    await sandbox.sms_recipient(CUSTOMER, "fine")
    await sandbox.fault("twilio", "server_error", calls=1)
    world.clock.forward(timedelta(minutes=1))
    await world.send()
    await world.sweep(LONG)
    assert await state(world, command) == ("unknown", 0)


async def test_an_sms_of_a_call_under_way_is_no_evidence_for_an_earlier_one_with_its_text(
    world: SmsWorld, sandbox: SandboxClient
) -> None:
    first = await lose(world, sandbox, sent=False, route="session", text="OK")
    second = await world.decided(route="session", text="OK")
    world.clock.forward(2 * GRACE)
    await sandbox.fault("twilio", "slow", seconds=60, calls=1)  # sent at once, answered later
    sending = asyncio.create_task(world.send(second))

    async def sent() -> bool:
        return bool(await sandbox.sms())

    await sandbox.until(sent)
    await world.sweep()
    assert await state(world, first) == ("unknown", 0)
    await sandbox.clear_faults()
    assert await sending == 1
    await world.sweep(LONG)
    assert (await state(world, second), await state(world, first)) == (("accepted", 0), ("pending", 1))


async def test_a_list_of_which_a_page_is_missing_proves_nothing(
    world: SmsWorld, sandbox: SandboxClient, providers: ProviderCaller
) -> None:
    command = await lose(world, sandbox, sent=False)
    await sandbox.fault("twilio", "server_error", endpoint="list", spares=1)  # the sender's own records
    await world.sweep(LONG)
    assert await state(world, command) == ("unknown", 0)
    assert [c["endpoint"] for c in await sandbox.calls()] == ["send", "list", "list"]


async def test_after_an_outage_of_the_list_its_silence_counts_anew_once_it_has_settled(
    world: SmsWorld, sandbox: SandboxClient
) -> None:
    command = await lose(world, sandbox, sent=False)
    await sandbox.fault("twilio", "page", endpoint="list", http_status=503)
    await world.sweep(LONG)
    await sandbox.clear_faults()
    await world.sweep(SETTLING + GRACE - timedelta(seconds=5))
    assert await state(world, command) == ("unknown", 0)
    await world.sweep(TIMINGS.look)
    assert await state(world, command) == ("pending", 1)


async def test_one_list_that_cannot_be_read_puts_off_nobody_elses_silence(
    world: SmsWorld, sandbox: SandboxClient
) -> None:
    lost = await many_lost(world, sandbox, 3, sent=False)
    await sandbox.fault("twilio", "server_error", endpoint="list", to=lost[0].to)
    await world.sweep(LONG)
    assert [await state(world, command) for command in lost] == [("unknown", 0), ("pending", 1), ("pending", 1)]


async def test_an_sms_that_the_list_shows_late_after_an_outage_is_not_sent_again(
    world: SmsWorld, sandbox: SandboxClient
) -> None:
    await sandbox.configure(sms_list_lag=3600)
    command = await lose(world, sandbox)
    await sandbox.fault("twilio", "page", endpoint="list", http_status=503)
    await world.sweep(LONG)
    await sandbox.clear_faults()
    await world.sweep(SETTLING)  # the list answers, and is late
    assert await state(world, command) == ("unknown", 0)
    await sandbox.configure(sms_list_lag=0)
    await world.sweep(GRACE)
    assert await state(world, command) == ("accepted", 0)
    assert len(await sandbox.sms()) == 1


async def many_lost(
    world: SmsWorld, sandbox: SandboxClient, count: int, *, sent: bool, first: int = 100
) -> list[SmsCommand]:
    """SMS to as many customers, whose answers are lost."""
    await sandbox.configure(sent_after=0)
    lost = [await to_somebody_else(world, first + number) for number in range(count)]
    for command in lost:
        await sandbox.fault("twilio", "server_error", sent=sent, calls=1, to=command.to)
    await world.send(*lost)
    return lost


async def resent(world: SmsWorld, commands: list[SmsCommand]) -> int:
    return sum([(await state(world, command))[1] for command in commands])


async def test_second_calls_are_made_a_few_at_a_time(world: SmsWorld, sandbox: SandboxClient) -> None:
    lost = await many_lost(world, sandbox, 3 * FEW, sent=False)
    await world.sweep(LONG)
    assert await resent(world, lost) == FEW
    await world.sweep(TIMINGS.look)
    assert await resent(world, lost) == FEW
    await world.sweep(SETTLING)
    assert await resent(world, lost) == 3 * FEW


async def test_second_calls_stop_when_the_list_shows_late_what_it_did_not_show(
    world: SmsWorld, sandbox: SandboxClient
) -> None:
    await sandbox.configure(sms_list_lag=3600)
    lost = await many_lost(world, sandbox, 3 * FEW, sent=True)
    await world.sweep(LONG)
    assert await resent(world, lost) == FEW
    world.goes_on_in_another_process()
    await sandbox.configure(sms_list_lag=0)
    gone = await many_lost(world, sandbox, 1, sent=False, first=200)
    await world.sweep(TIMINGS.look)
    states = [await state(world, command) for command in lost]
    assert (states.count(("accepted", 0)), await resent(world, lost)) == (2 * FEW, FEW)
    await world.sweep(GRACE)
    assert await resent(world, gone) == 0  # silence counts anew once the list has settled
    await world.sweep(SETTLING + TIMINGS.look)
    assert await resent(world, gone) == 1


async def test_a_link_key_that_was_taken_away_takes_no_evidence_along(world: SmsWorld, sandbox: SandboxClient) -> None:
    command = await lose(world, sandbox)
    [sms] = await sandbox.sms()
    assert digits(WHATSAPP_NUMBER) in sms["message"]["body"]
    await world.execute(
        "update sends set text_hash = $1", LinkCodes([b"gone"], secrets.choice).fingerprint(sms["message"]["body"])
    )
    await world.sweep(LONG)
    assert await state(world, command) == ("accepted", 0)


async def test_a_status_with_a_masked_number_is_heard_by_its_reference(world: SmsWorld, sandbox: SandboxClient) -> None:
    await sandbox.configure(sms_redact_bodies=True, sms_redact_numbers=True)
    command = await lose(world, sandbox)
    [sms] = await sandbox.sms()
    await world.sweep(LONG)
    assert await state(world, command) == ("unknown", 0)
    delivered = ProviderStatus(
        *("sms", "twilio", TWILIO_SID, sms["sid"], "delivered", world.clock()),
        callback=callback_data(ORG, command.message_id, 1),
        item={"From": SMS_NUMBER, "To": MASKED},
    )
    async with world.pool.acquire() as db, db.transaction():
        await receive_statuses(db, [delivered], world.clock())
    await world.sweep(TIMINGS.look)
    assert await state(world, command) == ("accepted", 0)


@pytest.mark.parametrize(("to", "is_heard"), [("+525512345678", True), ("+525512345679", False)])
async def test_a_status_in_another_spelling_of_the_line_is_heard_by_its_reference(
    world: SmsWorld,
    sandbox: SandboxClient,
    to: str,
    is_heard: bool,  # noqa: FBT001 -- a parameter
) -> None:
    await sandbox.configure(sms_redact_bodies=True, sms_redact_numbers=True)
    command = await lose(world, sandbox)
    [sms] = await sandbox.sms()
    await world.execute("""update sends set command = jsonb_set(command::jsonb, '{to}', '"+5215512345678"')""")
    delivered = ProviderStatus(
        *("sms", "twilio", TWILIO_SID, sms["sid"], "delivered", world.clock()),
        callback=callback_data(ORG, command.message_id, 1),
        item={"From": SMS_NUMBER, "To": to},
    )
    async with world.pool.acquire() as db, db.transaction():
        await receive_statuses(db, [delivered], world.clock())
    await world.sweep(LONG)
    assert (await state(world, command) == ("accepted", 0)) is is_heard
