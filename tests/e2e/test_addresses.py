"""Who a customer is, by whatever number or id, and where a message for them goes."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from libs.common.clock import utc_now
from tests.support.garages import FILLED, LATE, Customer, Garage, a_garage, a_phone
from tests.support.system import System

TEMPLATE = {"kind": "template", **FILLED}
PAIRS = [
    ("+5511990000001", "551190000001"),
    ("+5592990000001", "559290000001"),
    ("+525500000001", "5215500000001"),
    ("+541100000001", "5491100000001"),
    ("+2250707000001", "22507000001"),
    ("+2290161000001", "22961000001"),
]


async def upserted(garage: Garage, phone: str, customer_id: str, *, ago: timedelta = timedelta(0)) -> None:
    """The directory tells a customer's phone."""
    change = {
        "type": "customer.upserted.v1",
        "org_id": garage.org_id,
        "at": (utc_now() - ago).isoformat(),
        "customer_id": customer_id,
        "name": "Kim",
        "phone": phone,
    }
    garage.system.private |= {phone, phone.lstrip("+")}
    await garage.system.say("directory.changes.v1", change, key=garage.org_id)
    applied = "select 1 from customers where org_id = $1 and customer_id = $2::uuid and phone = $3"
    await garage.system.until(
        lambda: garage.system.rows(applied, garage.org_id, customer_id, phone), "the phone is known"
    )


async def requests(garage: Garage) -> list[dict[str, Any]]:
    """What was asked of Meta from the garage's number."""
    sent = await garage.system.sandbox.messages()
    return [one["body"] for one in sent if one["phone_number_id"] == garage.phone_number_id]


async def waits(system: System, intent_id: str) -> None:
    """Return when Meta has refused the message for now."""
    refused = "select 1 from sends where message_id = $1::uuid and state = 'pending' and tries > 0"
    await system.until(lambda: system.value(refused, intent_id), "the message waits")


async def conversations(garage: Garage) -> int:
    count: int = await garage.system.value("select count(*) from conversations where org_id = $1", garage.org_id)
    return count


@pytest.mark.parametrize("hidden", [False, True], ids=["by number", "by user id"])
async def test_whom_metas_answer_names_is_the_customer_written_to(system: System, hidden: bool) -> None:  # noqa: FBT001 -- a parameter of the table
    garage = await a_garage(system)
    kim, known_as = garage.customer(), Customer(garage, a_phone())
    await system.sandbox.customer_registered(kim.phone, known_as.phone, hidden=hidden)
    await system.sandbox.configure(webhooks=False)
    (template,) = await system.intend(kim.first_contact(actor="staff", content=TEMPLATE))
    opened = (await system.decided(template))["conversation_id"]
    await system.until(kim.whatsapps, "the template is with Meta")
    await system.quiet()
    await system.sandbox.configure(webhooks=True)

    message = await known_as.writes("Oi!", hide_phone=hidden)
    assert message["conversation_id"] == opened
    answer = await known_as.is_sent()
    assert await system.way(answer) == ("session", "whatsapp", "window_open")
    assert await conversations(garage) == 1


@pytest.mark.parametrize(("phone", "wa_id"), PAIRS)
async def test_the_number_people_dial_and_the_one_whatsapp_knows_are_one_customer(
    system: System, phone: str, wa_id: str
) -> None:
    garage = await a_garage(system)
    customer_id = str(uuid4())
    await upserted(garage, phone, customer_id)
    ana = Customer(garage, f"+{wa_id}")
    system.private.add(wa_id)
    await system.sandbox.customer_registered(phone, wa_id)
    message = await ana.writes("Oi!")
    assert message["customer_id"] == customer_id
    (intent_id,) = await system.intend(Customer(garage, phone).first_contact())
    assert await system.way(intent_id) == ("session", "whatsapp", "window_open")
    assert (await system.decided(intent_id))["conversation_id"] == message["conversation_id"]
    await system.reaches(intent_id, "read")
    assert [body["to"] for body in await requests(garage)] == [phone]


async def test_a_reply_by_user_id_alone_lands_where_the_template_came_from(system: System) -> None:
    garage = await a_garage(system)
    kim = garage.customer()
    (template,) = await system.intend(kim.first_contact(actor="staff", content=TEMPLATE))
    opened = (await system.decided(template))["conversation_id"]
    await system.reaches(template, "read")
    message = await kim.writes("Yes, ten is fine", hide_phone=True, ago=LATE)
    assert message["conversation_id"] == opened
    bridge = await kim.is_sent()
    assert await system.way(bridge) == ("bridge", "sms", "window_expired")
    await system.until(kim.texts, "the bridge reaches the phone of the first contact")
    await kim.writes("Hello?", hide_phone=True)
    session = await kim.is_sent("Ten it is.")
    assert await system.way(session) == ("session", "whatsapp", "window_open")
    assert await conversations(garage) == 1


async def test_a_reply_by_user_id_lands_there_also_before_any_status(system: System) -> None:
    garage = await a_garage(system)
    kim = garage.customer()
    await system.sandbox.configure(webhooks=False)
    (template,) = await system.intend(kim.first_contact(actor="staff", content=TEMPLATE))
    (sent,) = await system.until(kim.whatsapps, "the template is with Meta")
    await system.quiet()
    await system.sandbox.configure(webhooks=True)
    message = await kim.writes("Yes, ten is fine", hide_phone=True, reply_to=sent["wamid"])
    assert message["conversation_id"] == (await system.decided(template))["conversation_id"]


async def test_a_phone_corrected_by_the_directory_is_the_address_of_whatever_comes(system: System) -> None:
    garage = await a_garage(system)
    kim, customer_id, new = await garage.customer_who_wrote(LATE), str(uuid4()), Customer(garage, a_phone())
    await upserted(garage, kim.phone, customer_id, ago=timedelta(hours=2))
    await upserted(garage, new.phone, customer_id)
    intents = await system.intend(
        kim.intent(actor="staff", content=TEMPLATE),
        new.first_contact(actor="staff", content=TEMPLATE),
        kim.intent("Your Golf is ready."),
    )
    for template in intents[:2]:
        await system.reaches(template, "read")
    assert await system.fails(intents[2]) == "window_expired_bridge_sent"
    assert [body.get("to") for body in await requests(garage)] == [new.phone, new.phone]
    assert (len(await new.texts()), await kim.texts()) == (1, [])


async def test_what_waits_for_a_number_that_moves_goes_to_the_new_one(system: System) -> None:
    garage = await a_garage(system)
    kim, customer_id, new = await garage.customer_who_wrote(LATE), str(uuid4()), Customer(garage, a_phone())
    await upserted(garage, kim.phone, customer_id)
    fault = await system.sandbox.fault("meta", "throttle", number=garage.phone_number_id)
    (intent_id,) = await system.intend(kim.intent(actor="staff", content=TEMPLATE))
    await waits(system, intent_id)
    await upserted(garage, new.phone, customer_id)
    await system.sandbox.clear_faults(fault)
    assert await system.way(intent_id, 2) == ("template", "whatsapp", "template_requested")
    await system.reaches(intent_id, "read")
    ours = [sent for sent in await system.sandbox.messages() if sent["phone_number_id"] == garage.phone_number_id]
    assert [(sent["to"], sent["failure"]) for sent in ours] == [(new.phone, None)]


async def test_what_names_a_number_given_up_while_it_waits_goes_to_whoever_has_it_now(system: System) -> None:
    garage = await a_garage(system)
    kim, moved_to = await garage.customer_who_wrote(LATE), Customer(garage, a_phone())
    system.private |= {moved_to.phone, moved_to.phone.lstrip("+")}
    fault = await system.sandbox.fault("meta", "throttle", number=garage.phone_number_id)
    (intent_id,) = await system.intend(kim.first_contact(actor="staff", content=TEMPLATE))
    assert (await system.decided(intent_id))["conversation_id"] == kim.conversation_id
    await waits(system, intent_id)
    notice = {
        "from": kim.phone.lstrip("+"),
        "id": f"wamid.{uuid4().hex}",
        "timestamp": str(int(utc_now().timestamp())),
        "type": "system",
        "system": {"type": "user_changed_number", "body": "Kim changed", "wa_id": moved_to.phone.lstrip("+")},
    }
    await system.sandbox.meta_change(garage.phone_number_id, {"messages": [notice]})
    await system.published.one("inbound.messages.v1", provider_id=notice["id"])
    await system.sandbox.configure(webhooks=False)  # the sandbox knows the number under one user id for ever
    await system.sandbox.clear_faults(fault)
    now = await system.decided(intent_id, 2)
    assert (now["route"], now["reason"]) == ("template", "template_requested")
    assert now["conversation_id"] != kim.conversation_id
    (body,) = await system.until(lambda: requests(garage), "the template is with Meta")
    await system.quiet()
    await system.sandbox.configure(webhooks=True)
    assert body["to"] == kim.phone
    thread = "select conversation_id::text from messages where org_id = $1 and message_id = $2::uuid"
    assert await system.value(thread, garage.org_id, intent_id) == now["conversation_id"]
    assert [kind for kind, *_ in await kim.thread()] == ["in", "in"]


async def test_whoever_hides_the_number_is_written_to_by_user_id(system: System) -> None:
    garage = await a_garage(system)
    kim = await garage.customer_who_wrote(LATE)
    await kim.writes("Hello again", hide_phone=True)
    intent_id = await kim.is_sent()
    await system.reaches(intent_id, "read")
    (body,) = await requests(garage)
    assert "to" not in body
    assert body["recipient"].startswith("GB.")


@pytest.mark.parametrize("in_the_directory", [False, True])
async def test_a_number_shared_on_request_is_the_customers_and_a_forwarded_card_is_not(
    system: System,
    in_the_directory: bool,  # noqa: FBT001 -- a parameter of the table
) -> None:
    garage = await a_garage(system)
    kim, friend, own = garage.customer(), a_phone(), Customer(garage, a_phone())
    system.private |= {friend, friend.lstrip("+"), own.phone, own.phone.lstrip("+")}
    customer_id = str(uuid4())
    if in_the_directory:
        await upserted(garage, own.phone, customer_id)
    message = await kim.writes("Hello", hide_phone=True, ago=LATE)

    def card(phone: str) -> list[dict[str, Any]]:
        return [{"name": {"formatted_name": "Kim"}, "phones": [{"phone": phone, "wa_id": phone.lstrip("+")}]}]

    async def sends(phone: str, **more: Any) -> dict[str, Any]:
        raw = {"type": "contacts", "contacts": card(phone), **more}
        return dict(await kim.writes("A card", kind="raw", content=raw, hide_phone=True, ago=LATE))

    await sends(friend)
    assert await system.fails(await kim.is_sent("Are you there?")) == "window_expired_no_phone"
    shared = await sends(own.phone, origin="contact_request")
    assert shared["conversation_id"] == message["conversation_id"]
    assert shared["customer_id"] == (customer_id if in_the_directory else message["customer_id"])
    bridge = await kim.is_sent()
    assert await system.fails(bridge) == "window_expired_bridge_sent"
    assert len(await own.texts()) == 1


async def test_a_group_is_answered_by_nobody(system: System) -> None:
    garage = await a_garage(system)
    kim = await garage.customer_who_wrote(LATE)
    private = kim.conversation_id
    said = {"type": "text", "text": {"body": "See you all at nine"}, "group_id": "Y2FwaV9ncm91cDpodW50MDE"}
    message = await kim.writes("See you all at nine", kind="raw", content=said)
    assert (message["group_id"], message["content"]["text"]) == (said["group_id"], "See you all at nine")
    assert message["conversation_id"] != private
    answer = await kim.is_sent()
    assert await system.way(answer) == ("rejected", None, "unknown_conversation")
    await system.quiet()
    assert (await kim.texts(), await kim.whatsapps()) == ([], [])
