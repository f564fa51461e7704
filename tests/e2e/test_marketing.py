"""A customer who wants no marketing gets none, and everything else as before."""

import asyncio
from uuid import uuid4

from libs.common.clock import utc_now
from tests.support.garages import FILLED, TEMPLATE, a_garage, a_phone
from tests.support.system import System

SUMMER = {**TEMPLATE, "name": "summer_check", "category": "MARKETING"}
OFFER = {"kind": "template", **FILLED, "name": "summer_check"}


async def a_second_later() -> None:
    """Meta tells whole seconds, and of two words in one second "no" counts."""
    before = int(utc_now().timestamp())
    while int(utc_now().timestamp()) == before:  # noqa: ASYNC110 -- a clock, not an event
        await asyncio.sleep(0.05)


async def test_who_typed_stop_gets_no_marketing_until_start_and_all_the_rest(system: System) -> None:
    phone = a_phone()
    agreed = {"customer_id": str(uuid4()), "name": "Kim", "phone": phone, "consents": {"marketing": True}}
    garage = await a_garage(system, customers=[agreed], templates=[TEMPLATE, SUMMER])
    kim = garage.customer(phone)
    await kim.writes("Is my car ready?")
    first = await kim.is_sent(actor="staff", content=OFFER)
    assert await system.way(first) == ("template", "whatsapp", "template_requested")
    await system.reaches(first, "delivered")

    await a_second_later()
    message = await kim.writes("Stop.")
    assert message["keyword"] == "stop"
    change = (await system.published.one("directory.changes.v1", customer_id=agreed["customer_id"])).event
    assert (change["category"], change["allowed"], change["source"]) == ("marketing", False, "whatsapp")
    refused = await kim.is_sent(actor="staff", content=OFFER)
    assert await system.way(refused) == ("rejected", None, "marketing_consent_off")
    assert await system.way(await kim.is_sent()) == ("session", "whatsapp", "window_open")
    reminder = await kim.is_sent(actor="staff", content={"kind": "template", **FILLED})
    assert await system.way(reminder) == ("template", "whatsapp", "template_requested")

    await a_second_later()
    assert (await kim.writes("START"))["keyword"] == "start"
    again = await kim.is_sent(actor="staff", content=OFFER)
    assert await system.way(again) == ("template", "whatsapp", "template_requested")
