"""What is meant for a customer who was erased: it is rejected on every channel, and nothing of it is kept."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from libs.common.directory import changes, erasure
from libs.common.directory.address_marks import mark
from libs.common.directory.consents import KEYWORD, SaidConsent, store_said
from libs.common.directory.reports import Mark
from libs.common.events.directory import ConsentChanged, CustomerUpserted, DirectoryChange
from libs.common.sending import queries as sends
from services.router.decide import decide
from services.router.recorded_decision import unpack
from services.whatsapp_sender import queries as whatsapp
from tests.support import world
from tests.support.erased import erase, whom
from tests.support.reconciling import arrives
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


async def opted_out(router: Router) -> Garage:
    """A garage whose customer wants nothing by WhatsApp, and was erased."""
    garage = await stored(router, Garage(consents={"whatsapp": False, "sms": True, "service_reminders": True}))
    async with router.pool.acquire() as db:
        await garage.store_template(db)
    await erase(router.pool, garage.org_id, garage.conversation_id)
    return garage


async def newest_customer(router: Router) -> UUID:
    (row,) = await router.rows("select customer_id from conversations order by created_at desc limit 1")
    found: UUID = row["customer_id"]
    return found


async def test_what_an_erased_customer_had_denied_holds_where_the_directory_names_them_under_another_id(
    router: Router,
) -> None:
    garage, customer, conversation = await opted_out(router), uuid4(), uuid4()
    async with router.pool.acquire() as db:
        await world.a_customer(db, garage.org_id, customer, "+447700900999", {"sms": True})
        await world.a_conversation(db, garage.org_id, conversation, customer, garage.number, last_customer_at=NOW)
    intent = garage.intent(conversation_id=str(conversation), content=TEMPLATE)
    (decision,) = (await router.decide(intent))["outbound.decisions.v1"]
    assert decision["reason"] == "whatsapp_consent_off"
    rows = await router.rows("select category, allowed from consents where customer_id = $1", customer)
    assert {row["category"]: row["allowed"] for row in rows} == {"whatsapp": False, "sms": True}
    trail = await router.rows("select detail from audit_log where customer_id = $1 order by at", customer)
    assert {"category": "whatsapp", "allowed": False} in [line["detail"] for line in trail]


async def test_who_gets_the_number_later_keeps_what_they_allowed_since_and_what_they_denied_themselves(
    router: Router,
) -> None:
    garage = await stored(router, Garage())
    phone, customer, hour = "+447700900999", uuid4(), timedelta(hours=1)
    async with router.pool.acquire() as db, db.transaction():
        refused: dict[str, Any] = {"org_id": garage.org_id, "customer_id": garage.customer_id, "at": NOW - hour}
        refusals = [ConsentChanged(**refused, category=one, allowed=False) for one in ("whatsapp", "transactional")]
        assert await changes.apply(db, refusals) == []
        stop: dict[str, Any] = {
            "category": "sms",
            "allowed": False,
            "source": "sms",
            "cause": KEYWORD,
            "address": phone,
        }
        await store_said(db, [SaidConsent(**refused, **stop)])
    await erase(router.pool, garage.org_id, garage.conversation_id)
    other: dict[str, Any] = {"org_id": garage.org_id, "customer_id": customer}
    before, since = {"at": NOW - 2 * hour}, {"at": NOW}
    told: list[DirectoryChange] = [
        CustomerUpserted(**other, **before, phone="+447700900555"),
        ConsentChanged(**other, **before, category="whatsapp", allowed=True),
        ConsentChanged(**other, **since, category="transactional", allowed=True),
        ConsentChanged(**other, **before, category="sms", allowed=False),
    ]
    for said in (told, [CustomerUpserted(**other, **since, phone=phone)]):
        async with router.pool.acquire() as db, db.transaction():
            assert await changes.apply(db, said) == []
    rows = await router.rows("select category, allowed, at, address from consents where customer_id = $1", customer)
    assert {row["category"]: (row["allowed"], row["at"], row["address"]) for row in rows} == {
        "whatsapp": (False, NOW - hour, None),
        "transactional": (True, NOW, None),
        "sms": (False, NOW - 2 * hour, None),
    }


async def test_a_first_contact_to_who_had_opted_out_and_was_erased_is_stopped_at_the_gate(router: Router) -> None:
    """The router decides on it before there is a customer; the sender asks again before it calls."""
    garage = await opted_out(router)
    known, other = garage.first_contact("+447700900999", content=TEMPLATE), garage.first_contact(content=TEMPLATE)
    for command in (await router.decide(known, other))["outbound.whatsapp.v1"]:
        await arrives(router, command)
    async with router.pool.acquire() as db:
        rows = [sends.row_of(row) for row in await db.fetch(f"select {sends.COLUMNS} from sends s")]
        facts = await whatsapp.facts(db, rows, (timedelta(days=1), timedelta(0)), NOW)
    allowed = {str(message_id): found.whatsapp_allowed for (_, message_id, _), found in facts.items()}
    assert allowed == {known["intent_id"]: False, other["intent_id"]: True}
    again = garage.first_contact("+447700900999", content=TEMPLATE)
    (decision,) = (await router.decide(again))["outbound.decisions.v1"]
    assert decision["reason"] == "whatsapp_consent_off"


async def test_what_was_allowed_since_is_not_denied_after_the_next_erasure(router: Router) -> None:
    garage = await opted_out(router)
    await router.decide(garage.first_contact("+447700900999", content=TEMPLATE))
    said = {"org_id": garage.org_id, "customer_id": await newest_customer(router), "category": "whatsapp", "at": NOW}
    async with router.pool.acquire() as db, db.transaction():
        assert await changes.apply(db, [ConsentChanged(**said, allowed=True)]) == []
    (row,) = await router.rows("select conversation_id from conversations order by created_at desc limit 1")
    await erase(router.pool, garage.org_id, row["conversation_id"])
    await router.decide(garage.first_contact("+447700900999", content=TEMPLATE))
    assert await newest_customer(router) != said["customer_id"]
    asked = "select category from consents where customer_id = $1"
    assert await router.rows(asked, await newest_customer(router)) == []


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
