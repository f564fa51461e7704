"""What is meant for a customer who was erased: it is rejected on every channel, and nothing of it is kept."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from libs.common.directory import changes, erasure
from libs.common.directory.address_marks import mark
from libs.common.directory.reports import Mark
from libs.common.events.directory import CustomerUpserted
from services.router.decide import decide
from services.router.recorded_decision import unpack
from tests.support import world
from tests.support.erased import erase, whom
from tests.support.router import FALLBACK, NOW, TEMPLATE, Garage, Router, stored

WORD = "zanzibarium"
STAFF = {"kind": "staff", "user_id": "u-7", "capabilities": ["messages.send"]}
TEXT = {"kind": "text", "text": WORD}
WAYS: dict[str, dict[str, Any]] = {
    "auto": {},
    "whatsapp": {"channel": "whatsapp", "fallback_template": FALLBACK},
    "sms": {"channel": "sms"},
    "portal": {"channel": "portal"},
    "template": {"content": TEMPLATE | {"parameters": {"customer_name": WORD}}, "actor": STAFF},
    "bridge": {"content": {"kind": "bridge"}, "actor": STAFF},
    "expired": {"expires_at": "2026-11-22T12:00:00Z"},
    "bad": {"content": {"kind": "hologram", "text": WORD}},
}
_HELD = """
select coalesce(string_agg(t, ' '), '') as held from (
       select d::text as t from decisions d union all select m::text from messages m) x
"""


@pytest.mark.parametrize("wrote_last", ["whatsapp", "sms", "portal"])
async def test_an_intent_is_rejected_on_every_channel_and_its_words_are_not_kept(
    router: Router, wrote_last: str
) -> None:
    garage = await stored(router, Garage(last_inbound_channel=wrote_last))
    await erase(router.pool, garage.org_id, garage.conversation_id)
    intents = [garage.intent(**{"content": TEXT} | way) for way in WAYS.values()]
    published = await router.decide(*intents)
    reasons = ["customer_erased"] * (len(WAYS) - 1) + ["unsupported_content"]
    assert [one["reason"] for one in published["outbound.decisions.v1"]] == reasons
    assert [one.get("detail") for one in published["outbound.decisions.v1"]][:-1] == [None] * (len(WAYS) - 1)
    updates = published["delivery.updates.v1"]
    assert [(one["status"], one["reason"]) for one in updates] == [("failed", reason) for reason in reasons]
    assert {one["conversation_id"] for one in updates} == {str(garage.conversation_id)}
    assert (published["outbound.whatsapp.v1"], published["outbound.sms.v1"]) == ([], [])
    (row,) = await router.rows(_HELD)
    assert WORD not in row["held"]
    for decision in await router.rows("select record, reason from decisions"):
        assert decide(*unpack(decision["record"])).reason == decision["reason"]
    assert await router.decide(*intents) == published
    gone = await whom(router.pool, garage.org_id, garage.conversation_id)
    async with router.pool.acquire() as db:
        assert await erasure.look(db, gone) == (0, 0, False, 0, 0)


async def test_a_message_of_before_that_is_refused_afterwards_ends_as_erased(router: Router) -> None:
    garage = await stored(router, Garage())
    answer = garage.intent(channel="portal", content=TEXT)
    await router.decide(answer)
    await erase(router.pool, garage.org_id, garage.conversation_id)
    published = await router.refuse(garage.refusal(answer, reason="portal_unread"))
    (update,) = published["delivery.updates.v1"]
    assert (update["status"], update["reason"]) == ("failed", "customer_erased")
    (row,) = await router.rows(_HELD)
    assert WORD not in row["held"]


async def test_a_line_that_said_stop_gets_no_sms_under_whatever_customer_it_comes_back(router: Router) -> None:
    garage = await stored(router, Garage())
    async with router.pool.acquire() as db:
        stop = Mark(garage.org_id, "sms", "+447700900999", "sms_opted_out", None, "message", NOW, NOW + timedelta(9))
        await mark(db, [stop])
    await erase(router.pool, garage.org_id, garage.conversation_id)
    customer, conversation = uuid4(), uuid4()
    async with router.pool.acquire() as db:
        await world.a_customer(db, garage.org_id, customer, "+447700900999")
        await world.a_conversation(db, garage.org_id, conversation, customer, garage.number, last_inbound_at=NOW)
    by_sms = garage.intent(conversation_id=str(conversation), channel="sms")
    (decision,) = (await router.decide(by_sms))["outbound.decisions.v1"]
    assert (decision["route"], decision["reason"]) == ("silent", "sms_opted_out")


async def test_whom_the_directory_names_anew_is_answered_and_an_older_word_brings_nobody_back(router: Router) -> None:
    garage = await stored(router, Garage())
    await erase(router.pool, garage.org_id, garage.conversation_id)

    async def told(at: Any) -> str:
        fields = {"org_id": garage.org_id, "customer_id": garage.customer_id, "name": WORD, "phone": "+447700900999"}
        async with router.pool.acquire() as db, db.transaction():
            assert await changes.apply(db, [CustomerUpserted(**fields, at=at)]) == []
        (decision,) = (await router.decide(garage.intent(channel="portal")))["outbound.decisions.v1"]
        return str(decision["reason"])

    (row,) = await router.rows("select upserted_at as at from customers where customer_id = $1", garage.customer_id)
    assert await told(row["at"] - timedelta(minutes=1)) == "customer_erased"
    (row_,) = await router.rows("select name, phone from customers where customer_id = $1", garage.customer_id)
    assert row_ == {"name": None, "phone": None}
    assert await told(row["at"] + timedelta(minutes=1)) == "live_channel"
