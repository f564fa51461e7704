"""Whose fault a failure is, from outside: accounts, templates, recipients, passing troubles, and Meta's doubts about a
window.
"""

import asyncio
import base64
import hashlib
import hmac
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from libs.common.clock import utc_now
from tests.e2e.field import CLOSED, Field, opened, to, who_wrote
from tests.support.garages import FILLED, TEMPLATE, bridge_of
from tests.support.sandbox import TWILIO_SID, TWILIO_TOKEN
from tests.support.standin import Call, Meta, accepted, graph_error, taken, twilio_error


def more(*codes: int) -> list[Any]:
    """Further codes of the same class: the first of each is played with every change, these with the proofs."""
    return [pytest.param(code, marks=pytest.mark.proof) for code in codes]


@pytest_asyncio.fixture
async def at(field: Field) -> AsyncIterator[Meta]:
    yield await opened(field)


# ── Account ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("code", [131042, *more(131031, 368)])
async def test_messages_burnt_by_an_account_that_does_not_pay_go_out_when_it_pays(
    at: Meta, field: Field, code: int
) -> None:
    system = field.system
    customers = [await who_wrote(at) for _ in range(12)]
    ill = True

    async def status_of(call: Call) -> None:
        await asyncio.sleep(0.3)
        if ill:
            await at.status(call.id, "failed", code=code, recipient_id=(call.to or "").lstrip("+"))
        else:
            for rung in ("sent", "delivered"):
                await at.status(call.id, rung, recipient_id=(call.to or "").lstrip("+"))

    tasks = set()

    def graph(call: Call) -> Any:
        task = asyncio.ensure_future(status_of(call))
        tasks.add(task)
        return accepted(call)

    field.standin.graph = graph
    intents = [await kim.is_sent(f"Message {n}") for n, kim in enumerate(customers)]
    resting = "select from pauses where account = $1"
    await system.until(lambda: system.rows(resting, at.garage.phone_number_id), "the account rests")
    await asyncio.sleep(6)
    early = len(field.standin.to(*(kim.phone for kim in customers)))
    await asyncio.sleep(4)
    assert not [
        record
        for record in system.published.all("delivery.updates.v1", status="failed")
        if record.event["message_id"] in intents
    ]
    assert len(field.standin.to(*(kim.phone for kim in customers))) - early <= 8, "one probe at a time"
    ill = False
    for intent in intents:
        await system.reaches(intent, "delivered")
    await asyncio.gather(*tasks)
    assert (
        await system.value(
            "select count(*) from messages where notification_type = 'bridge' and org_id = $1", at.garage.org_id
        )
        == 0
    )


async def test_a_late_sender_of_twilio_that_is_not_ours_waits_and_loses_nothing(at: Meta, field: Field) -> None:
    for status, code in ((400, 21659), (401, 70051), (403, 20403), (401, 20006)):
        field.standin.twilio = twilio_error(status, code)
        lee = await who_wrote(at, CLOSED)
        intents = [await lee.is_sent()]
        await field.standin.receives(to(lee))
        intents.append(await (await who_wrote(at, CLOSED)).is_sent())  # the sender's fault holds this one too
        await asyncio.sleep(1)
        assert [field.system.published.all("delivery.updates.v1", message_id=one) for one in intents] == [[], []]
        field.standin.twilio = taken
        for intent in intents:
            assert await field.system.fails(intent) == "window_expired_bridge_sent"


# ── Templates ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("code", [132015, *more(132001, 132016)])
async def test_a_template_that_is_gone_says_so_late_and_the_others_are_refused_until_it_is_approved(
    at: Meta, field: Field, code: int
) -> None:
    system = field.system
    kim, lee = await who_wrote(at, CLOSED), await who_wrote(at, CLOSED)
    first = await kim.is_sent(fallback_template=FILLED)
    call = await field.standin.receives(lambda call: call.to == kim.phone)
    await at.status(call.id, "failed", code=code, recipient_id=kim.phone.lstrip("+"))
    assert await system.way(first, 2) == ("bridge", "sms", "window_expired")
    assert await system.fails(first) == "window_expired_bridge_sent"
    second = await lee.is_sent(actor="staff", content={"kind": "template", **FILLED})
    assert await system.way(second) == ("rejected", None, "template_not_approved")
    await at.post(
        {
            "event": "APPROVED",
            "message_template_id": 5,
            "message_template_name": TEMPLATE["name"],
            "message_template_language": TEMPLATE["language"],
            "reason": "NONE",
        },
        field="message_template_status_update",
    )
    await system.quiet()
    third = await lee.is_sent(actor="staff", content={"kind": "template", **FILLED})
    assert await system.way(third) == ("template", "whatsapp", "template_requested")


@pytest.mark.parametrize("code", [132000, 131009, *more(132005, 132012, 132018, 131008, 100, 132068, 131058, 139999)])
async def test_a_template_out_of_step_fails_when_asked_for_and_bridges_as_a_fallback(
    at: Meta, field: Field, code: int
) -> None:
    system = field.system
    field.standin.graph = graph_error(400, code)
    kim, lee = await who_wrote(at, CLOSED), await who_wrote(at, CLOSED)
    requested = await kim.is_sent(actor="staff", content={"kind": "template", **FILLED})
    failed = await system.reaches(requested, "failed")
    assert (failed["reason"], failed["provider_code"]) == ("provider_refused", str(code))
    fallback = await lee.is_sent(fallback_template=FILLED)
    assert await system.way(fallback) == ("template", "whatsapp", "fallback_template")
    assert await system.way(fallback, 2) == ("bridge", "sms", "window_expired")
    assert await system.fails(fallback) == "window_expired_bridge_sent"


# ── Recipients ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("code", [131026, *more(130403)])
@pytest.mark.parametrize("late", [True, False])
async def test_an_address_that_meta_cannot_reach_is_bridged_and_known_until_a_sign_of_life(
    at: Meta, field: Field, code: int, *, late: bool
) -> None:
    system = field.system
    kim = await who_wrote(at)
    if not late:
        field.standin.graph = graph_error(400, code)
    first = await kim.is_sent("The first.")
    call = await field.standin.receives(to(kim, "The first."))
    if late:
        await at.status(call.id, "failed", code=code, recipient_id=kim.phone.lstrip("+"))
    assert await system.way(first, 2) == ("bridge", "sms", "whatsapp_unreachable")
    assert await system.fails(first) == "whatsapp_unreachable_bridge_sent"
    field.standin.graph = accepted
    second = await kim.is_sent("The second.")
    assert await system.way(second) == ("silent", None, "bridge_already_sent")
    assert await system.fails(second) == "whatsapp_unreachable_bridge_already_sent"
    await at.writes("I am here", sender={"from": kim.phone.lstrip("+")})
    third = await kim.is_sent("The third.")
    assert await system.way(third) == ("session", "whatsapp", "window_open")


@pytest.mark.parametrize("code", [21635, *more(21614, 21211)])
async def test_a_line_that_takes_no_sms_is_asked_once(at: Meta, field: Field, code: int) -> None:
    system = field.system
    kim = await who_wrote(at, CLOSED)
    field.standin.twilio = twilio_error(400, code)
    first = await kim.is_sent()
    assert await system.fails(first) == "window_expired_bridge_failed"
    field.standin.twilio = taken
    second = await kim.is_sent()
    assert await system.way(second) == ("silent", None, "no_phone")
    assert len(field.standin.to(kim.phone)) == 1


# ── Passing ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_certain_passing_failure_is_sent_once_more(at: Meta, field: Field) -> None:
    system = field.system
    kim = await who_wrote(at)
    intent = await kim.is_sent("Again?")
    first = await field.standin.receives(to(kim, "Again?"))
    await at.status(first.id, "failed", code=131000, recipient_id=kim.phone.lstrip("+"))
    second = await field.standin.receives(to(kim, "Again?"), times=2)
    assert await system.way(intent, 2) == ("session", "whatsapp", "window_open")
    await at.status(second.id, "failed", code=131000, recipient_id=kim.phone.lstrip("+"))
    failed = await system.reaches(intent, "failed")
    assert (failed["reason"], failed["provider_code"]) == ("provider_refused", "131000")
    assert len(field.standin.to(kim.phone)) == 2


@pytest.mark.parametrize("order", [("failed", "delivered", "read"), ("read", "delivered", "failed")])
async def test_a_read_proves_that_a_failed_message_arrived(at: Meta, field: Field, order: tuple[str, ...]) -> None:
    system = field.system
    kim = await who_wrote(at)
    intent = await kim.is_sent("Did you get it?")
    call = await field.standin.receives(to(kim, "Did you get it?"))
    now = utc_now()
    statuses = []
    for step, status in enumerate(order):
        told: dict[str, Any] = {"id": call.id, "status": status, "timestamp": str(int(now.timestamp()) + step)}
        if status == "failed":
            told["errors"] = [{"code": 131051, "title": "Something"}]
        statuses.append(told | {"recipient_id": kim.phone.lstrip("+")})
    await at.value(statuses=statuses)
    await system.reaches(intent, "read")
    await system.quiet()
    rows = await system.rows("select status from messages where message_id = $1::uuid", intent)
    assert [row["status"] for row in rows] == ["read"]


async def test_a_template_that_meta_chokes_on_stops_nobody_elses_messages(at: Meta, field: Field) -> None:
    def graph(call: Call) -> Any:
        if call.body["type"] == "template":
            return 500, {"error": {"message": "(#131000)", "type": "OAuthException", "code": 131000}}
        return accepted(call)

    field.standin.graph = graph
    choked = [await who_wrote(at) for _ in range(8)]
    for kim in choked:
        await kim.is_sent(actor="staff", content={"kind": "template", **FILLED})
    await field.standin.receives(lambda call: call.to == choked[-1].phone)
    lee = await who_wrote(at)
    await lee.is_sent("Hello Lee.")
    await field.standin.receives(to(lee, "Hello Lee."), seconds=8)


# ── The window in doubt ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_refusal_of_a_send_from_before_the_customer_wrote_closes_nothing(at: Meta, field: Field) -> None:
    system = field.system
    kim = await who_wrote(at, timedelta(hours=23))
    first = await kim.is_sent("From before.")
    call = await field.standin.receives(to(kim, "From before."))
    await system.until(
        lambda: system.value("select 1 from sends where message_id = $1::uuid and state = 'accepted'", first),
        "accepted",
    )
    await asyncio.sleep(1.1)
    await at.writes("I am still here", sender={"from": kim.phone.lstrip("+")})
    await asyncio.sleep(1.1)
    await at.status(call.id, "failed", code=131047, recipient_id=kim.phone.lstrip("+"))
    assert await system.way(first, 2) == ("session", "whatsapp", "window_open")
    second = await kim.is_sent("And now?")
    assert await system.way(second) == ("session", "whatsapp", "window_open")
    await system.quiet()
    assert [call for call in field.standin.to(kim.phone) if "Body" in call.body] == []


async def test_a_doubtful_refusal_is_answered_with_one_more_session_send_and_then_a_bridge(
    at: Meta, field: Field
) -> None:
    system = field.system
    kim = await who_wrote(at, timedelta(seconds=40))
    intent = await kim.is_sent("In doubt.")
    first = await field.standin.receives(to(kim, "In doubt."))
    await at.status(first.id, "failed", code=131047, recipient_id=kim.phone.lstrip("+"))
    assert await system.way(intent, 2) == ("session", "whatsapp", "window_open")
    await asyncio.sleep(5)
    assert len(field.standin.to(kim.phone)) == 1, "the second send comes 15 s later"
    second = await field.standin.receives(to(kim, "In doubt."), times=2)
    await at.status(second.id, "failed", code=131047, recipient_id=kim.phone.lstrip("+"))
    assert await system.way(intent, 3) == ("bridge", "sms", "window_expired")
    assert await system.fails(intent) == "window_expired_bridge_sent"


async def test_a_refusal_of_a_message_that_was_read_after_all_closes_the_window_no_longer(
    at: Meta, field: Field
) -> None:
    system = field.system
    kim = await who_wrote(at, timedelta(hours=2))
    first = await kim.is_sent("Read after all.")
    call = await field.standin.receives(to(kim, "Read after all."))
    await at.status(call.id, "failed", code=131047, recipient_id=kim.phone.lstrip("+"))
    assert await system.way(first, 2) == ("bridge", "sms", "window_expired")
    await at.status(call.id, "read", recipient_id=kim.phone.lstrip("+"))
    await system.reaches(first, "read")
    assert await system.way(await kim.is_sent("And now?")) == ("session", "whatsapp", "window_open")


# ── The bridge's day ────────────────────────────────────────────────────────────────────────────────────────────────


async def callback(field: Field, call: Call, status: str, code: int | None = None) -> None:
    """Twilio's status callback for an SMS, signed, at the address that the send named."""
    url = call.body["StatusCallback"]
    form = {
        "MessageSid": call.id,
        "MessageStatus": status,
        "AccountSid": TWILIO_SID,
        "To": call.to or "",
        "From": call.sender,
    }
    if code is not None:
        form["ErrorCode"] = str(code)
    text = url + "".join(name + form[name] for name in sorted(form))
    signature = base64.b64encode(hmac.new(TWILIO_TOKEN.encode(), text.encode(), hashlib.sha1).digest()).decode()
    async with (
        aiohttp.ClientSession() as http,
        http.post(url, data=form, headers={"X-Twilio-Signature": signature}) as answer,
    ):
        assert answer.status == 200


@pytest.mark.parametrize("code", [30007, 30008, *more(30003, 30410)])
async def test_a_bridge_that_was_taken_has_used_the_day_whatever_becomes_of_it(
    at: Meta, field: Field, code: int
) -> None:
    system = field.system
    kim = await who_wrote(at, CLOSED)
    first = await kim.is_sent("The first.")
    assert await system.fails(first) == "window_expired_bridge_sent"
    (call,) = field.standin.to(kim.phone)
    await callback(field, call, "undelivered", code)
    await system.reaches(bridge_of(first), "failed")
    for number in range(3):
        later = await kim.is_sent(f"Later {number}")
        route, _, reason = await system.way(later)
        assert route == "silent"
        assert reason in ("bridge_already_sent", "no_phone")
    await callback(field, call, "delivered")
    await system.reaches(bridge_of(first), "delivered")
    await system.quiet()
    assert len(field.standin.to(kim.phone)) == 1


@pytest.mark.parametrize(("code", "reason"), [(21610, "sms_opted_out"), (21614, "no_phone")])
async def test_a_creation_that_twilio_refused_and_lists_is_no_acceptance(
    at: Meta, field: Field, code: int, reason: str
) -> None:
    system = field.system
    kim = await who_wrote(at, CLOSED)

    def twilio(call: Call) -> Any:
        now = utc_now()
        record: dict[str, Any] = {
            "sid": call.id,
            "body": call.text,
            "from": call.sender,
            "to": call.to,
            "status": "failed",
        }
        record |= {"error_code": code, "error_message": "refused", "direction": "outbound-api", "price": None}
        stamp = now.strftime("%a, %d %b %Y %H:%M:%S +0000")
        field.standin.listed.append(record | {"date_created": stamp, "date_updated": stamp, "date_sent": None})
        return 0, None

    field.standin.twilio = twilio
    first = await kim.is_sent()
    assert await system.fails(first) == "window_expired_bridge_failed"
    field.standin.twilio = taken
    second = await kim.is_sent()
    assert await system.way(second) == ("silent", None, reason)
    assert await system.value("select count(*) from charges where org_id = $1", at.garage.org_id) == 0


async def test_long_sms_are_refused_at_the_router(at: Meta, field: Field) -> None:
    system = field.system
    kim = await who_wrote(at, CLOSED)
    for text in ("x" * 460, "“" + "ж" * 210, "y" * 1700):
        intent = await kim.is_sent(text, channel="sms")
        assert await system.way(intent) == ("rejected", None, "unsupported_content")
    fits = await kim.is_sent("z" * 459, channel="sms")
    assert await system.way(fits) == ("session", "sms", "live_channel")


async def test_no_sms_goes_to_a_number_that_never_wrote_and_never_agreed(at: Meta, field: Field) -> None:
    system = field.system
    stranger = at.garage.customer()
    for channel in ("sms", "auto"):
        (intent,) = await system.intend(stranger.first_contact(channel=channel))
        assert (await system.way(intent))[::2] == ("silent", "never_contacted")
    assert field.standin.to(stranger.phone) == []
