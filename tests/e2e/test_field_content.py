"""What the customer said reaches whoever reads, from outside."""

import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from libs.common.clock import utc_now
from libs.common.events.topics import OUTBOUND_WHATSAPP
from tests.e2e.field import Field, opened, template, to, who_wrote
from tests.support.garages import TEMPLATE, Customer
from tests.support.standin import Call, Meta, accepted, answered
from tests.support.webhooks import a_contact


@pytest_asyncio.fixture
async def at(field: Field) -> AsyncIterator[Meta]:
    yield await opened(field, templates=[TEMPLATE, template("spring_offer", category="MARKETING")])


async def inbound_event(at: Meta, kind: str, payload: Any, **more: Any) -> Any:
    kim = at.garage.customer()
    return await at.writes(None, sender={"from": kim.phone.lstrip("+"), "type": kind, kind: payload} | more)


async def test_an_order_its_text_and_its_lines(at: Meta) -> None:
    items = [{"product_retailer_id": "tyre-7", "quantity": 4, "item_price": 80, "currency": "GBP"}]
    message = await inbound_event(
        at, "order", {"catalog_id": "99", "text": "With fitting please", "product_items": items}
    )
    content = message["content"]
    assert (content["kind"], content["catalog_id"], content["text"]) == ("order", "99", "With fitting please")
    assert content["items"][0]["product_retailer_id"] == "tyre-7"


async def test_an_ad_a_forward_and_a_question_about_a_product(at: Meta) -> None:
    wa_id = at.garage.customer().phone.lstrip("+")
    referral = {"source_type": "ad", "source_id": "120", "headline": "Winter check", "ctwa_clid": "AbC", "body": "b"}
    message = await at.writes("About the check", sender={"from": wa_id, "referral": referral})
    assert message["referral"]["ctwa_clid"] == "AbC"
    message = await at.writes("Look at this", sender={"from": wa_id, "context": {"frequently_forwarded": True}})
    assert message["forwarded"]
    product = {"catalog_id": "99", "product_retailer_id": "tyre-7"}
    message = await at.writes("Is it in stock?", sender={"from": wa_id, "context": {"referred_product": product}})
    assert message["referred_product"] == product


@pytest.mark.parametrize("answer", [{"day": "mo"}, [1, 2], "yes", 7, None])
async def test_a_flow_answer_of_any_json_type(at: Meta, answer: Any) -> None:
    reply = {"name": "flow", "body": "Sent", "response_json": json.dumps(answer)}
    message = await inbound_event(at, "interactive", {"type": "nfm_reply", "nfm_reply": reply})
    assert json.loads(message["content"]["reply"]["response"]) == answer


async def test_the_caption_of_a_picture_that_failed(at: Meta) -> None:
    errors = [{"code": 131052, "title": "Media download error"}]
    message = await inbound_event(at, "image", {"caption": "The scratch"}, errors=errors)
    assert "The scratch" in str(message["content"])


async def test_a_voice_note_is_told_as_one(at: Meta) -> None:
    message = await inbound_event(at, "audio", {"id": "1", "mime_type": "audio/ogg", "sha256": "x", "voice": True})
    assert message["voice"] is True


async def marketing(kim: Customer) -> tuple[str, str]:
    content = {"kind": "template", "name": "spring_offer", "language": TEMPLATE["language"], "parameters": {}}
    intent = await kim.is_sent(actor="staff", content=content)
    route, _, reason = await kim.system.way(intent)
    return route, reason


@pytest.mark.parametrize("how", ["preference", "keyword", "keyword in German", "status"])
async def test_a_stop_of_promotions_is_heard_and_switches_nothing_else_off(at: Meta, field: Field, how: str) -> None:
    garage, system = at.garage, field.system
    kim = garage.customer()
    wa_id = kim.phone.lstrip("+")
    message = await at.writes(sender={"from": wa_id}, at=utc_now() - timedelta(minutes=10))
    kim = answered(garage, message, kim.phone)
    consent = {"type": "consent.changed.v1", "org_id": garage.org_id, "customer_id": message["customer_id"]}
    consent |= {"category": "marketing", "allowed": True, "at": (utc_now() - timedelta(minutes=5)).isoformat()}
    await system.say("directory.changes.v1", consent, key=garage.org_id)
    await system.quiet()
    assert await marketing(kim) == ("template", "template_requested")
    call = await field.standin.receives(lambda call: call.to == kim.phone)
    preference = {"wa_id": wa_id, "category": "marketing_messages", "value": "stop", "detail": "d"}
    match how:
        case "preference":
            preference["timestamp"] = int(utc_now().timestamp())  # type: ignore[assignment]
            await at.value(field="user_preferences", contacts=[a_contact(wa_id)], user_preferences=[preference])
        case "status":
            await at.status(call.id, "failed", code=131050, recipient_id=wa_id)
        case _:
            word = "Stop" if how == "keyword" else "stopp."
            stopped = await at.writes(word, sender={"from": wa_id})
            assert stopped["keyword"] == "stop"
    await system.published.one(
        "directory.changes.v1", customer_id=message["customer_id"], category="marketing", allowed=False
    )
    await system.quiet()
    assert await marketing(kim) == ("rejected", "marketing_consent_off")
    free = await kim.is_sent("Your car is ready.")
    assert await system.way(free) == ("session", "whatsapp", "window_open")
    if how == "preference":
        preference |= {"value": "resume", "timestamp": int(utc_now().timestamp()) + 2}  # type: ignore[dict-item]
        await at.value(field="user_preferences", contacts=[a_contact(wa_id)], user_preferences=[preference])
        await system.published.one(
            "directory.changes.v1", customer_id=message["customer_id"], category="marketing", allowed=True, times=2
        )
        await system.quiet()
        assert await marketing(kim) == ("template", "template_requested")


@pytest.mark.parametrize(("status", "way"), [("ACCEPTED", "session"), ("REJECTED", "bridge"), ("RINGING", "bridge")])
async def test_only_an_accepted_call_of_the_business_opens_the_window(
    at: Meta, field: Field, status: str, way: str
) -> None:
    garage, system = at.garage, field.system
    kim = garage.customer()
    wa_id = kim.phone.lstrip("+")
    message = await at.writes(sender={"from": wa_id}, at=utc_now() - timedelta(hours=30))
    call = {"id": f"wacid.{uuid4().hex}", "type": "call", "status": status, "recipient_id": wa_id}
    await at.value(field="calls", statuses=[call | {"timestamp": str(int(utc_now().timestamp()))}])
    await system.quiet()
    intent = await answered(garage, message, kim.phone).is_sent()
    assert (await system.way(intent))[0] == way


async def test_the_window_is_open_to_its_last_second(at: Meta, field: Field) -> None:
    kim = at.garage.customer()
    message = await at.writes(
        sender={"from": kim.phone.lstrip("+")}, at=utc_now() - timedelta(hours=24) + timedelta(seconds=45)
    )
    intent = await answered(at.garage, message, kim.phone).is_sent()
    assert await field.system.way(intent) == ("session", "whatsapp", "window_open")


async def test_a_text_behind_a_picture_is_sent_later_and_a_text_behind_a_text_at_once(at: Meta, field: Field) -> None:
    kim = await who_wrote(at)
    called: list[tuple[str | None, datetime]] = []

    def graph(call: Call) -> Any:
        if call.to == kim.phone:
            called.append((call.text, utc_now()))
        return accepted(call)

    field.standin.graph = graph
    await kim.is_sent("Here comes a picture.")
    picture = await kim.is_sent(content={"kind": "image", "link": "https://acme.example/1.jpg"})
    behind = [await kim.is_sent(text) for text in ("This is your car.", "Shall we go on?")]
    await field.standin.receives(to(kim, "Shall we go on?"))
    assert [text for text, _ in called] == ["Here comes a picture.", None, "This is your car.", "Shall we go on?"]
    decided_at = datetime.fromisoformat((await field.system.decided(picture))["decided_at"])
    assert called[2][1] - decided_at > timedelta(seconds=3)
    commands = [await field.system.published.one(OUTBOUND_WHATSAPP.name, message_id=one) for one in behind]
    waits = {command.event["not_before"] for command in commands} - {None}
    assert len(waits) <= 1, "the second text waits for no text"
