"""Who is who, from outside: numbers with several spellings, given-up numbers, user names, notices, groups."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from libs.common.clock import utc_now
from tests.e2e.field import Field, opened
from tests.support.garages import FILLED, Customer
from tests.support.standin import Meta, answered
from tests.support.webhooks import a_contact


@pytest_asyncio.fixture
async def at(field: Field) -> AsyncIterator[Meta]:
    yield await opened(field)


def bsuid(country: str = "GB") -> str:
    return f"{country}.{uuid4().int % 10**20}"


async def window_open(meta: Meta, told: Any) -> bool:
    return bool(told["window"]["open"])


async def is_accepted(field: Field, intent: str) -> None:
    """Return when the provider's answer to an intent's message is recorded."""
    accepted = "select 1 from sends where message_id = $1::uuid and state = 'accepted'"
    await field.system.until(lambda: field.system.value(accepted, intent), "the message is accepted")


@pytest.mark.parametrize(
    ("dialled", "wa_id"),
    [
        ("+5511987654321", "551187654321"),
        ("+5585999990001", "558599990001"),
        ("+523312345678", "5213312345678"),
        ("+543511234567", "5493511234567"),
        ("+2250544000001", "22544000001"),
    ],
)
async def test_one_line_with_two_spellings_is_one_customer(at: Meta, field: Field, dialled: str, wa_id: str) -> None:
    garage, system = at.garage, field.system
    who = {"org_id": garage.org_id, "customer_id": str(uuid4())}
    now = utc_now()
    await system.say(
        "directory.changes.v1",
        {"type": "customer.upserted.v1", "at": now.isoformat(), "name": "Ana", "phone": dialled} | who,
        {"type": "consent.changed.v1", "at": now.isoformat(), "category": "sms", "allowed": False} | who,
        key=garage.org_id,
    )
    await system.quiet()
    message = await at.writes(sender={"from": wa_id}, contacts=[a_contact(wa_id, name="Ana")])
    assert message["customer_id"] == who["customer_id"]
    ana = Customer(garage, dialled)
    (intent,) = await system.intend(ana.first_contact())
    assert await system.way(intent) == ("session", "whatsapp", "window_open")
    assert (await system.decided(intent))["conversation_id"] == message["conversation_id"]


@pytest.mark.parametrize("by", ["wa_id", "user_id"])
async def test_the_answer_of_a_first_contact_says_who_the_customer_is(at: Meta, field: Field, by: str) -> None:
    garage, system = at.garage, field.system
    user = bsuid("BR")
    card = {"input": "+5511990001234"} | ({"wa_id": "551190001234"} if by == "wa_id" else {"user_id": user})

    def graph(call: Any) -> Any:
        return 200, {"messaging_product": "whatsapp", "contacts": [card], "messages": [{"id": call.id}]}

    field.standin.graph = graph
    ana = Customer(garage, "+5511990001234")
    (intent,) = await system.intend(ana.first_contact(actor="staff", content={"kind": "template", **FILLED}))
    conversation = (await system.decided(intent))["conversation_id"]
    await field.standin.receives(lambda call: call.sender == garage.phone_number_id)
    await is_accepted(field, intent)
    if by == "wa_id":
        message = await at.writes(sender={"from": "551190001234"}, contacts=[a_contact("551190001234")])
    else:
        message = await at.writes(
            sender={"from": None, "from_user_id": user}, contacts=[{"user_id": user, "profile": {"name": "A"}}]
        )
    assert message["conversation_id"] == conversation
    answer = await answered(garage, message, ana.phone).is_sent()
    assert await system.way(answer) == ("session", "whatsapp", "window_open")


@pytest.mark.parametrize("how", ["previous", "in the body", "own field"])
async def test_after_a_changed_user_id_nothing_goes_to_the_old_number(at: Meta, field: Field, how: str) -> None:
    garage, system = at.garage, field.system
    kim, old, new = garage.customer(), bsuid(), bsuid()
    wa_id = kim.phone.lstrip("+")
    message = await at.writes(
        sender={"from": wa_id, "from_user_id": old},
        at=utc_now() - timedelta(hours=30),
        contacts=[a_contact(wa_id, old)],
    )
    kim.conversation_id = message["conversation_id"]
    when = str(int((utc_now() - timedelta(hours=1)).timestamp()))
    if how == "own field":
        update = {"detail": "Updated.", "user_id": {"previous": old, "current": new}, "timestamp": when}
        await at.value(field="user_id_update", user_id_update=[update])
    else:
        notice = {"type": "user_changed_user_id", "user_id": new, "body": f"Kim changed from {old} to {new}"}
        if how == "previous":
            notice["previous_user_id"] = old
        await at.value(messages=[{"id": f"wamid.{uuid4().hex}", "timestamp": when, "type": "system", "system": notice}])
    await system.quiet()
    template = await kim.is_sent(actor="staff", content={"kind": "template", **FILLED})
    call = await field.standin.receives(lambda call: call.sender == garage.phone_number_id)
    assert (call.body.get("to"), call.body.get("recipient")) == (None, new)
    assert (await system.way(template))[0] == "template"
    free = await kim.is_sent("Anything else?")
    assert await system.way(free) == ("silent", None, "no_phone")
    assert field.standin.to(kim.phone) == []
    again = await at.writes(sender={"from": None, "from_user_id": new}, contacts=[{"user_id": new}])
    assert again["conversation_id"] == kim.conversation_id


@pytest.mark.parametrize("spelled", ["with another user id", "with none"])
async def test_whoever_writes_from_a_given_up_number_is_somebody_new(at: Meta, field: Field, spelled: str) -> None:
    garage, system = at.garage, field.system
    kim, old, new = garage.customer(), bsuid(), bsuid()
    wa_id, moved = kim.phone.lstrip("+"), garage.customer().phone.lstrip("+")
    message = await at.writes(
        sender={"from": wa_id, "from_user_id": old}, at=utc_now() - timedelta(hours=3), contacts=[a_contact(wa_id, old)]
    )
    await at.value(
        messages=[
            {
                "from": wa_id,
                "id": f"wamid.{uuid4().hex}",
                "timestamp": str(int((utc_now() - timedelta(hours=2)).timestamp())),
                "type": "system",
                "system": {"type": "user_changed_number", "wa_id": moved, "user_id": new, "body": "changed"},
            }
        ]
    )
    await system.quiet()
    other = bsuid() if spelled == "with another user id" else None
    stranger = await at.writes(
        "Who is this?",
        sender={"from": wa_id, "from_user_id": other},
        contacts=[a_contact(wa_id, other, name="Lee")],
    )
    assert stranger["customer_id"] != message["customer_id"]
    assert stranger["conversation_id"] != message["conversation_id"]
    late = await at.writes(
        "Sent before I moved",
        sender={"from": wa_id, "from_user_id": old},
        at=utc_now() - timedelta(hours=2, minutes=30),
    )
    assert late["conversation_id"] == message["conversation_id"]
    mover = await at.writes("It is me", sender={"from": moved, "from_user_id": new}, contacts=[a_contact(moved, new)])
    assert mover["conversation_id"] == message["conversation_id"]
    # an intent that names the number goes to whoever has it now, one by conversation to the person
    (to_number,) = await system.intend(Customer(garage, kim.phone).first_contact())
    assert (await system.decided(to_number))["conversation_id"] == stranger["conversation_id"]
    by_thread = await answered(garage, message, kim.phone).is_sent("Your Polo is ready.")
    assert await system.way(by_thread) == ("session", "whatsapp", "window_open")
    call = await field.standin.receives(lambda call: call.text == "Your Polo is ready.")
    assert call.to == f"+{moved}"


async def test_a_recycled_number_without_any_notice_is_somebody_new(at: Meta, field: Field) -> None:
    kim, first, second = at.garage.customer(), bsuid(), bsuid()
    wa_id = kim.phone.lstrip("+")
    message = await at.writes(
        sender={"from": wa_id, "from_user_id": first},
        at=utc_now() - timedelta(hours=40),
        contacts=[a_contact(wa_id, first)],
    )
    stranger = await at.writes(sender={"from": wa_id, "from_user_id": second}, contacts=[a_contact(wa_id, second)])
    assert stranger["customer_id"] != message["customer_id"]
    assert stranger["conversation_id"] != message["conversation_id"]


async def test_a_notice_about_people_who_never_wrote_makes_no_conversation(at: Meta, field: Field) -> None:
    garage, system = at.garage, field.system
    old, new = (garage.customer().phone.lstrip("+") for _ in range(2))
    await at.value(
        messages=[
            {
                "from": old,
                "id": f"wamid.{uuid4().hex}",
                "timestamp": str(int(utc_now().timestamp())),
                "type": "system",
                "system": {"type": "user_changed_number", "wa_id": new, "body": "changed"},
            }
        ]
    )
    await system.quiet()
    assert await system.value("select count(*) from conversations where org_id = $1", garage.org_id) == 0
    assert system.published.all("inbound.messages.v1", org_id=garage.org_id) == []


async def test_one_card_beside_one_message_belongs_to_it_whatever_its_spelling(at: Meta, field: Field) -> None:
    user = bsuid("BR")
    message = await at.writes(sender={"from": "5511990000077"}, contacts=[a_contact("551190000077", user, name="Ana")])
    name = await field.system.value("select name from customers where customer_id = $1::uuid", message["customer_id"])
    assert name == "Ana"
    again = await at.writes(sender={"from": None, "from_user_id": user}, contacts=[{"user_id": user}])
    assert again["conversation_id"] == message["conversation_id"]


@pytest.mark.parametrize(
    "written",
    [
        "\u202a+44 7700 9{}\u202c",
        "\u200e+447700-9{}\u200b",
        "+44\u20117700\u20139{}",
        "\uff0b\uff14\uff14 7700 9{}",
        "tel:+44-7700-9{}",
        "+44\u202f7700\u2060 9{}\ufeff",
    ],
)
async def test_a_number_copied_out_of_a_phone_is_that_number(at: Meta, field: Field, written: str) -> None:
    garage, system = at.garage, field.system
    kim = garage.customer()
    change = {"type": "customer.upserted.v1", "org_id": garage.org_id, "customer_id": str(uuid4())}
    change |= {"at": utc_now().isoformat(), "name": "Kim", "phone": written.format(kim.phone[-5:])}
    await system.say("directory.changes.v1", change, key=garage.org_id)
    await system.quiet()
    message = await at.writes(sender={"from": kim.phone.lstrip("+")})
    assert message["customer_id"] == change["customer_id"]


async def test_a_stale_number_change_moves_nobody(at: Meta, field: Field) -> None:
    garage, system = at.garage, field.system
    kim, moved = garage.customer(), garage.customer().phone.lstrip("+")
    wa_id = kim.phone.lstrip("+")
    message = await at.writes(sender={"from": wa_id})
    await at.value(
        messages=[
            {
                "from": wa_id,
                "id": f"wamid.{uuid4().hex}",
                "timestamp": str(int((utc_now() - timedelta(days=9)).timestamp())),
                "type": "system",
                "system": {"type": "user_changed_number", "wa_id": moved, "body": "changed"},
            }
        ]
    )
    await system.quiet()
    again = await at.writes("Still me", sender={"from": wa_id})
    assert again["conversation_id"] == message["conversation_id"]
    await answered(garage, message, kim.phone).is_sent("Hello Kim.")
    assert (await field.standin.receives(lambda call: call.text == "Hello Kim.")).to == kim.phone
