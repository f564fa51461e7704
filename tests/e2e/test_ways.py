"""The ways a message may take, each from its intent to its end."""

from tests.support.garages import FILLED, LATE, Customer, a_garage, bridge_of
from tests.support.system import System

SENT = ("failed", "window_expired_bridge_sent")


async def test_a_staff_template_reaches_a_customer_who_never_wrote_and_his_answer_joins_the_conversation(
    system: System,
) -> None:
    garage = await a_garage(system)
    kim = garage.customer()
    (template,) = await system.intend(kim.first_contact(actor="staff", content={"kind": "template", **FILLED}))
    assert await system.way(template) == ("template", "whatsapp", "template_requested")
    await system.reaches(template, "read")
    opened = (await system.decided(template))["conversation_id"]
    (free,) = await system.intend(kim.first_contact())
    assert await system.way(free) == ("silent", None, "never_contacted")
    assert (await system.decided(free))["conversation_id"] == opened

    message = await kim.writes("Yes, 10:30 is fine.")
    assert message["conversation_id"] == opened
    assert [(way, status) for way, _, status, _ in await kim.thread()] == [
        ("out", "read"),
        ("out", "failed"),
        ("in", "received"),
    ]


async def test_a_first_contact_through_a_number_of_somebody_else_is_rejected(system: System) -> None:
    ours, theirs = await a_garage(system), await a_garage(system, "Other Motors")
    kim = theirs.customer()
    (intent_id,) = await system.intend(kim.first_contact() | {"org_id": ours.org_id})
    assert await system.way(intent_id) == ("rejected", None, "unknown_conversation")
    assert await system.fails(intent_id) == "unknown_conversation"
    assert await system.value("select count(*) from conversations where org_id = $1", ours.org_id) == 0


async def test_a_message_asked_for_by_sms_goes_as_its_own_text_and_is_charged(system: System) -> None:
    garage = await a_garage(system)
    kim = await garage.customer_who_wrote()
    intent_id = await kim.is_sent("Your Golf is ready.", channel="sms")
    assert await system.way(intent_id) == ("session", "sms", "live_channel")
    await system.reaches(intent_id, "delivered")
    assert await kim.texts() == ["Your Golf is ready."]
    assert await kim.whatsapps() == []
    charge = "select segments || ' ' || price || ' ' || currency from charges where org_id = $1"
    assert await system.value(charge, garage.org_id) == "1 0.040000 GBP"


async def test_a_message_asked_for_on_the_portal_is_in_the_thread_at_once(system: System) -> None:
    kim = await (await a_garage(system)).customer_who_wrote(LATE)
    intent_id = await kim.is_sent(channel="portal")
    assert await system.way(intent_id) == ("session", "portal", "live_channel")
    await system.reaches(intent_id, "sent")
    await system.quiet()
    assert (await kim.texts(), await kim.whatsapps()) == ([], [])


async def test_an_exhausted_garage_keeps_its_ai_silent_but_not_its_staff(system: System) -> None:
    kim = await (await a_garage(system, credit_exhausted=True)).customer_who_wrote(LATE)
    by_ai, by_staff = await kim.is_sent(), await kim.is_sent(actor="staff")
    assert await system.fails(by_ai) == "window_expired_credit_exhausted"
    assert await system.way(by_staff) == ("bridge", "sms", "window_expired")
    assert await system.fails(by_staff) == "window_expired_bridge_sent"
    assert len(await kim.texts()) == 1


async def test_a_fallback_template_goes_instead_of_a_bridge(system: System) -> None:
    kim = await (await a_garage(system)).customer_who_wrote(LATE)
    intent_id = await kim.is_sent(fallback_template=FILLED)
    assert await system.way(intent_id) == ("template", "whatsapp", "fallback_template")
    await system.reaches(intent_id, "read")
    assert [sent["type"] for sent in await kim.whatsapps()] == ["template"]


async def test_a_bridge_that_definitely_fails_lets_the_silenced_message_try_and_then_buys_no_third(
    system: System,
) -> None:
    kim = await (await a_garage(system)).customer_who_wrote(LATE)
    await system.sandbox.sms_recipient(kim.phone, "landline")
    intents = [kim.intent("The first."), kim.intent("The second.")]
    await system.say_at_once("outbound.intents.v1", *intents, partition=0)  # decided before the bridge can fail
    first, second = [intent["intent_id"] for intent in intents]
    assert await system.way(first) == ("bridge", "sms", "window_expired")
    assert await system.fails(first) == "window_expired_bridge_failed"
    assert (await system.decided(second, 2))["reason"] == "no_phone"
    await system.quiet()
    assert [reason for *_, reason in await kim.thread()] == [
        None,
        "window_expired_bridge_failed",
        "window_expired_no_phone",
    ]
    assert len([call for call in await system.sandbox.calls() if call["to"] == kim.phone]) == 1


async def test_tenants_never_meet_not_even_over_one_customer_and_one_intent_id(system: System) -> None:
    acme, other = await a_garage(system), await a_garage(system, "Other Motors")
    at_acme = await acme.customer_who_wrote()
    at_other = Customer(other, at_acme.phone)
    await at_other.writes(ago=LATE)
    assert at_acme.conversation_id != at_other.conversation_id

    intent = at_acme.intent("Your Golf is ready.")
    twin = at_other.intent("Your Polo is ready.") | {"intent_id": intent["intent_id"]}
    await system.intend(intent, twin)
    stranger = await at_acme.is_sent(org_id=other.org_id)
    assert await system.way(stranger) == ("rejected", None, "unknown_conversation")
    await system.published.one("delivery.updates.v1", message_id=intent["intent_id"], org_id=acme.org_id, status="read")
    await system.published.one("delivery.updates.v1", message_id=bridge_of(intent["intent_id"]), org_id=other.org_id)
    await system.quiet()

    (session,) = await at_acme.whatsapps()
    assert (session["phone_number_id"], session["body"]["text"]["body"]) == (
        acme.phone_number_id,
        "Your Golf is ready.",
    )
    (bridge,) = await at_acme.texts()
    assert bridge.startswith("Other Motors: ")
    assert [reason for *_, reason in await at_acme.thread()] == [None, None]
    assert [way for way, *_ in await at_other.thread()] == ["in", "out", "out"]
