"""Who is who, from outside, in other orders: told twice, told late, told before, told by the directory first."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from libs.common.clock import utc_now
from tests.e2e.field import Field, opened
from tests.e2e.test_field_people import bsuid
from tests.support.garages import FILLED, Customer
from tests.support.standin import Meta
from tests.support.webhooks import a_contact


@pytest_asyncio.fixture
async def at(field: Field) -> AsyncIterator[Meta]:
    yield await opened(field)


def a_notice(when: datetime, sender: str | None, **system: Any) -> dict[str, Any]:
    told = {"id": f"wamid.{uuid4().hex}", "timestamp": str(int(when.timestamp())), "type": "system", "system": system}
    return told if sender is None else told | {"from": sender}


async def listed(at: Meta, phone: str, *, name: str, when: datetime, customer_id: str | None = None) -> str:
    who = {"org_id": at.garage.org_id, "customer_id": customer_id or str(uuid4()), "name": name, "phone": phone}
    change = {"type": "customer.upserted.v1", "at": when.isoformat()} | who
    await at.garage.system.say("directory.changes.v1", change, key=at.garage.org_id)
    await at.garage.system.quiet()
    return str(who["customer_id"])


async def test_a_number_change_told_twice_under_two_times_leaves_the_stranger_in_between_alone(
    at: Meta, field: Field
) -> None:
    now = utc_now()
    old, new = "5215512345678", "5215587654321"
    message = await at.writes(sender={"from": old}, at=now - timedelta(hours=9))
    for hours in (8, 4):
        if hours == 4:
            stranger = await at.writes("Who is this?", sender={"from": old}, at=now - timedelta(hours=6))
        body = f"User A changed from {old} to {new}"
        notice = a_notice(now - timedelta(hours=hours), old, type="user_changed_number", body=body, wa_id=new)
        await at.value(messages=[notice])
        await field.system.quiet()
    again = await at.writes("Me again", sender={"from": old})
    mover = await at.writes("It is me", sender={"from": new})
    assert again["conversation_id"] == stranger["conversation_id"] != message["conversation_id"]
    assert mover["conversation_id"] == message["conversation_id"]


@pytest.mark.parametrize("told_before", ["the notice", "the correction"])
async def test_the_new_owner_of_a_number_may_be_told_before_the_old_one_leaves(
    at: Meta, field: Field, told_before: str
) -> None:
    now = utc_now()
    phone, moved = at.garage.customer().phone, at.garage.customer().phone
    kim = await listed(at, phone, name="Kim", when=now - timedelta(days=3))
    message = await at.writes(sender={"from": phone[1:]}, at=now - timedelta(days=2))
    assert message["customer_id"] == kim
    pat = await listed(at, phone, name="Pat", when=now - timedelta(hours=6))
    if told_before == "the notice":
        notice = a_notice(now - timedelta(hours=2), phone[1:], type="user_changed_number", wa_id=moved[1:], body="x")
        await at.value(messages=[notice])
    else:
        await listed(at, moved, name="Kim", when=now - timedelta(hours=2), customer_id=kim)
    await field.system.quiet()
    stranger = await at.writes("Good morning", sender={"from": phone[1:]})
    assert stranger["customer_id"] == pat
    assert stranger["conversation_id"] != message["conversation_id"]
    (intent,) = await field.system.intend(Customer(at.garage, phone).first_contact())
    assert (await field.system.decided(intent))["conversation_id"] == stranger["conversation_id"]


async def test_several_new_user_ids_in_one_webhook_are_each_heard(at: Meta, field: Field) -> None:
    pairs = [(bsuid(), bsuid()) for _ in range(2)]
    hour_ago = utc_now() - timedelta(hours=1)
    before = [
        await at.writes(sender={"from": None, "from_user_id": old}, at=hour_ago, contacts=[{"user_id": old}])
        for old, _ in pairs
    ]
    updates = [
        {"user_id": {"previous": old, "current": new}, "timestamp": str(int(utc_now().timestamp()))}
        for old, new in pairs
    ]
    await at.value(field="user_id_update", user_id_update=updates)
    await field.system.quiet()
    after = [await at.writes(sender={"from": None, "from_user_id": new}) for _, new in pairs]
    assert [one["conversation_id"] for one in after] == [one["conversation_id"] for one in before]


@pytest.mark.parametrize("quotes", [True, False])
@pytest.mark.parametrize("status", ["sent", "read"])
async def test_whoever_replies_by_user_id_alone_is_whom_a_status_named(
    at: Meta, field: Field, status: str, *, quotes: bool
) -> None:
    garage, system = at.garage, field.system
    ana, user = garage.customer("+5511987001122"), bsuid("BR")
    (intent,) = await system.intend(ana.first_contact(actor="staff", content={"kind": "template", **FILLED}))
    call = await field.standin.receives(lambda call: call.sender == garage.phone_number_id)
    card = {"wa_id": "551187001122", "user_id": user, "profile": {"name": "Ana"}}
    echo = {"biz_opaque_callback_data": call.body["biz_opaque_callback_data"]}  # the answer may not be recorded yet
    await at.status(call.id, status, recipient_id="551187001122", contacts=[card], **echo)
    await system.reaches(intent, status)
    context = {"context": {"from": garage.display_number[1:], "id": call.id}} if quotes else {}
    message = await at.writes(sender={"from": None, "from_user_id": user} | context, contacts=[{"user_id": user}])
    assert message["conversation_id"] == (await system.decided(intent))["conversation_id"]
    for spelled in ("+551187001122", "+5511987001122"):
        (to_her,) = await system.intend(Customer(garage, spelled).first_contact())
        assert (await system.decided(to_her))["conversation_id"] == message["conversation_id"]
    await field.standin.receives(lambda call: call.to == "+551187001122" and call.text == "Your Golf is ready.")
    await field.standin.receives(lambda call: call.to == "+5511987001122" and call.text == "Your Golf is ready.")


async def test_a_card_names_the_sender_also_under_a_number_that_no_rule_leads_to(at: Meta, field: Field) -> None:
    shown, sent = (at.garage.customer().phone[1:] for _ in range(2))
    message = await at.writes(sender={"from": sent}, contacts=[a_contact(shown, name="Kim")])
    again = await at.writes(sender={"from": shown}, contacts=[a_contact(shown)])
    assert again["conversation_id"] == message["conversation_id"]
