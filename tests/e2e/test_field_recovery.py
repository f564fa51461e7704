"""How soon what waited goes once what was wrong is well again, and what is told late or twice of what is over, from
outside.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from libs.common.clock import utc_now
from tests.e2e.field import CLOSED, Field, opened, to, who_wrote
from tests.support.garages import Customer, a_phone, bridge_of
from tests.support.standin import Call, Meta, accepted, graph_error, taken, twilio_error


@pytest_asyncio.fixture
async def at(field: Field) -> AsyncIterator[Meta]:
    yield await opened(field)


async def all_are(state: str, field: Field, *intents: str) -> None:
    """Return when a send of each is in this state: ``accepted`` when the provider has taken it."""

    async def they_are() -> bool:
        rows = await field.system.rows(
            "select distinct message_id from sends where message_id = any($1::uuid[]) and state = $2",
            *(list(intents), state),
        )
        return len(rows) == len(intents)

    await field.system.until(they_are, f"all {state}")


async def test_a_number_of_which_meta_says_outside_of_any_status_that_it_cannot_send_rests_until_one_is_sent(
    at: Meta, field: Field
) -> None:
    system = field.system
    customers = [await who_wrote(at) for _ in range(4)]
    await at.value(errors=[{"code": 131042, "title": "Business eligibility payment issue"}])
    resting = "select from pauses where account = $1"
    await system.until(lambda: system.rows(resting, at.garage.phone_number_id), "the number rests")
    for kim in customers:
        await kim.is_sent("Your Golf is ready.")
    phones = [kim.phone for kim in customers]
    probe = await field.standin.receives(lambda call: call.to in phones)
    assert len(field.standin.to(*phones)) == 1
    await at.status(probe.id, "sent", recipient_id=(probe.to or "").lstrip("+"))
    for kim in customers:
        await field.standin.receives(to(kim))
    told = [line for line in system.lines() if line["event"] == "number.troubled"]
    assert ("error", at.garage.phone_number_id, "131042") in [
        (line["level"], line["phone_number_id"], line["provider_code"]) for line in told
    ]


async def test_an_account_with_a_fault_holds_up_no_other_and_goes_on_soon_after_it_is_mended(
    at: Meta, field: Field
) -> None:
    other = await opened(field, "Bravo")
    kims = [await who_wrote(at) for _ in range(15)]
    lee = await who_wrote(other)
    ill = True

    def graph(call: Call) -> Any:
        return graph_error(401, 190)(call) if ill and call.sender == at.garage.phone_number_id else accepted(call)

    field.standin.graph = graph
    intents = [await kim.is_sent("It is ready.") for kim in kims]
    await field.standin.receives(lambda call: call.sender == at.garage.phone_number_id)
    await lee.is_sent("Hello Lee.")
    await field.standin.receives(to(lee, "Hello Lee."))  # while the other is ill
    await asyncio.sleep(20)
    assert len(field.standin.to(*(kim.phone for kim in kims))) <= 15 + 5, "those under way, then one call at a time"
    assert not [u for u in field.system.published.all("delivery.updates.v1") if u.event["message_id"] in intents]
    ill = False
    async with asyncio.timeout(30):
        await all_are("accepted", field, *intents)


async def test_failures_told_in_any_order_and_twice_burn_nothing_and_stop_nobody_afterwards(
    at: Meta, field: Field
) -> None:
    kims = [await who_wrote(at) for _ in range(20)]
    ill = True
    burnt: list[Call] = []
    tasks = set()

    async def well(call: Call) -> None:
        await at.status(call.id, "sent", recipient_id=(call.to or "").lstrip("+"))
        await at.status(call.id, "delivered", recipient_id=(call.to or "").lstrip("+"))

    async def fails(calls: list[Call]) -> None:
        for call in random.sample(calls, len(calls)):
            await at.status(call.id, "failed", code=131042, recipient_id=(call.to or "").lstrip("+"))

    def graph(call: Call) -> Any:
        if ill:
            burnt.append(call)
        else:
            tasks.add(asyncio.ensure_future(well(call)))
        return accepted(call)

    field.standin.graph = graph
    intents = [await kim.is_sent("It is ready.") for kim in kims]
    await field.standin.receives(lambda call: call.sender == at.garage.phone_number_id, times=20)
    await all_are("accepted", field, *intents)
    await fails(burnt[:10])
    ill = False
    await fails(burnt[10:])
    for intent in intents:
        await field.system.reaches(intent, "delivered")
    await fails(burnt)  # told twice: the account is well, and stays so
    await field.system.quiet()
    assert await field.system.value("select count(*) from pauses where account = $1", at.garage.phone_number_id) == 0
    kim = await who_wrote(at)
    await kim.is_sent("And this.")
    await field.standin.receives(to(kim, "And this."))
    await asyncio.gather(*tasks)


@pytest.mark.parametrize(
    ("record", "status", "code"),
    [
        (("delivered", None), "delivered", None),
        (("undelivered", 30007), "failed", "30007"),
        (("failed", 30003), "failed", "30003"),
        (("canceled", None), "failed", None),
    ],
)
async def test_a_bridge_that_is_found_in_the_list_is_told_as_its_record_says(
    at: Meta, field: Field, record: tuple[str, int | None], status: str, code: str | None
) -> None:
    kim = await who_wrote(at, CLOSED)

    def twilio(call: Call) -> Any:
        stamp = utc_now().strftime("%a, %d %b %Y %H:%M:%S +0000")
        told = {"sid": call.id, "body": call.text, "from": call.sender, "to": call.to, "date_created": stamp}
        field.standin.listed.append(told | {"status": record[0], "error_code": record[1]})
        return 0, None

    field.standin.twilio = twilio
    first = await kim.is_sent()
    assert await field.system.fails(first) == "window_expired_bridge_sent"
    told = await field.system.reaches(bridge_of(first), status)
    assert told["provider_code"] == code
    field.standin.twilio = taken
    second = await kim.is_sent()
    assert (await field.system.way(second))[0] == "silent"
    assert len(field.standin.to(kim.phone)) == 1


async def test_an_address_that_is_out_of_reach_is_asked_once_and_another_number_at_once(at: Meta, field: Field) -> None:
    kim = await who_wrote(at)

    def graph(call: Call) -> Any:
        return graph_error(400, 131026)(call) if call.to == kim.phone else accepted(call)

    field.standin.graph = graph
    intents = await field.system.intend(*(kim.intent(f"Message {n}") for n in range(6)))
    for intent in intents:
        assert (await field.system.fails(intent)).startswith("whatsapp_unreachable_bridge_")
    assert len([call for call in field.standin.to(kim.phone) if "Body" not in call.body]) == 1
    customer = await field.system.value(
        "select customer_id from conversations where conversation_id = $1::uuid", kim.conversation_id
    )
    lee = Customer(at.garage, at.garage.customer().phone, kim.conversation_id)
    told = {"type": "customer.upserted.v1", "org_id": at.garage.org_id, "at": utc_now().isoformat(), "name": "Kim"}
    await field.system.say("directory.changes.v1", told | {"customer_id": str(customer), "phone": lee.phone})
    await field.system.quiet()
    later = await lee.is_sent("To the new number.")
    assert await field.system.way(later) == ("session", "whatsapp", "window_open")
    await field.standin.receives(to(lee, "To the new number."))


# ── Business numbers ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_waits_for_a_business_number_that_moves_to_another_account_goes_by_its_new_id(
    at: Meta, field: Field
) -> None:
    old, new = at.garage.phone_number_id, f"{at.garage.phone_number_id}7"
    field.standin.graph = lambda call: (graph_error(400, 133010) if call.sender == old else accepted)(call)
    kims = [await who_wrote(at) for _ in range(4)]
    waiting = [await kim.is_sent() for kim in kims]
    await field.standin.receives(lambda call: call.sender == old)
    await all_are("pending", field, *waiting)
    number = {"phone_number_id": new, "waba_id": f"{at.garage.waba_id}7", "display_number": at.garage.display_number}
    org = {"org_id": at.garage.org_id, "at": utc_now().isoformat()}
    await field.system.say(
        "directory.changes.v1",
        {"type": "number.upserted.v1", **org, **number},
        {"type": "number.removed.v1", **org, "phone_number_id": old},
        key=at.garage.org_id,
    )
    await all_are("accepted", field, *waiting)
    assert sorted(call.to or "" for call in field.standin.calls if call.sender == new) == sorted(k.phone for k in kims)
    assert {await field.system.way(intent, 2) for intent in waiting} == {("session", "whatsapp", "window_open")}


async def test_what_waits_for_a_business_number_that_was_given_up_says_so(at: Meta, field: Field) -> None:
    field.standin.graph = graph_error(400, 133010)
    kim = await who_wrote(at)
    intent = await kim.is_sent()
    await field.standin.receives(to(kim))
    org = {"org_id": at.garage.org_id, "at": utc_now().isoformat()}
    removed = {"type": "number.removed.v1", **org, "phone_number_id": at.garage.phone_number_id}
    await field.system.say("directory.changes.v1", removed, key=at.garage.org_id)
    assert await field.system.fails(intent) == "unknown_conversation"
    later = await kim.is_sent()
    assert await field.system.way(later) == ("rejected", None, "unknown_conversation")


async def test_what_waits_for_an_sms_number_goes_by_the_one_that_the_organisation_has_now(
    at: Meta, field: Field
) -> None:
    old, new = at.garage.sms_number, a_phone()
    field.standin.twilio = lambda call: (twilio_error(400, 21660) if call.sender == old else taken)(call)
    kim, lee = await who_wrote(at, CLOSED), await who_wrote(at, CLOSED)
    bridge, text = await kim.is_sent(), await lee.is_sent("Hello Lee.", channel="sms")
    await all_are("pending", field, bridge, text)
    org = {"type": "org.upserted.v1", "org_id": at.garage.org_id, "at": utc_now().isoformat(), "name": "AcmeMotors"}
    await field.system.say("directory.changes.v1", {**org, "sms_number": new, "sms_active": True}, key=at.garage.org_id)
    assert await field.system.fails(bridge) == "window_expired_bridge_sent"
    await all_are("accepted", field, bridge, text)
    assert {call.to for call in field.standin.calls if call.sender == new} == {kim.phone, lee.phone}
