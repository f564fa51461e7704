"""Nobody pays for a neighbour, from outside: strangers' webhooks, tomorrow's fields, a garage whose provider rests."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from libs.common.clock import utc_now
from tests.e2e.field import Field, opened
from tests.support.garages import a_garage
from tests.support.standin import Call, Meta, accepted, graph_error
from tests.support.webhooks import a_status, a_value


@pytest_asyncio.fixture
async def at(field: Field) -> AsyncIterator[Meta]:
    yield await opened(field)


async def is_called(field: Field, intent_id: str) -> bool:
    """Whether the provider took this message."""
    called = (str(call.body.get("biz_opaque_callback_data")) for call in field.standin.calls)
    return any(name.startswith(intent_id) for name in called)


async def test_thousands_of_statuses_of_a_stranger_stop_nobody(at: Meta, field: Field) -> None:
    system = field.system
    now = utc_now()
    for batch in range(15):
        statuses = [
            a_status(f"wamid.{uuid4().hex}", "sent", now) | {"recipient_id": f"4477{batch:03}{n:05}"}
            for n in range(200)
        ]
        await at.post(a_value(number="106999000000777", statuses=statuses))
    for round_ in range(5):
        kim = at.garage.customer()
        await at.writes(f"Hello {round_}", sender={"from": kim.phone.lstrip("+")})
    await system.quiet()
    await system.services["ingest"].ready()
    letters = [h for h in system.published.all("webhooks.v1.dlq") if b"106999000000777" in (h.value or b"")]
    assert len({letter.event["item"]["id"] for letter in letters}) == 3000  # what was posted again has two letters
    assert {letter.headers["reason"] for letter in letters} == {"unknown_number"}
    loud = [line for line in system.lines() if line.get("phone_number_id") == "106999000000777"]
    assert 1 <= len([line for line in loud if line["level"] == "error"]) <= 10
    assert len(loud) <= 40


async def test_fields_of_tomorrow_and_bad_intents_stop_nobody(at: Meta, field: Field) -> None:
    system = field.system
    kim = at.garage.customer()
    for n in range(150):
        await at.post({"metadata": {"phone_number_id": at.garage.phone_number_id}, "n": n}, field="loyalty_points")
        await system.say("outbound.intents.v1", {"type": "outbound.intent.v1", "n": n}, key="k")
    message = await at.writes(sender={"from": kim.phone.lstrip("+")})
    kim.conversation_id = message["conversation_id"]
    intent = await kim.is_sent("Hello Kim.")
    await field.standin.receives(lambda call: call.text == "Hello Kim.")
    assert await system.way(intent) == ("session", "whatsapp", "window_open")
    await system.quiet()
    await system.services["ingest"].ready()


@pytest.mark.parametrize("code", [131042, pytest.param(130429, marks=pytest.mark.proof)])
async def test_a_resting_neighbour_delays_nobody(at: Meta, field: Field, code: int) -> None:
    system = field.system
    other = Meta(await a_garage(system, "Other Motors"))

    def graph(call: Call) -> Any:
        return graph_error(400, code)(call) if call.sender == at.garage.phone_number_id else accepted(call)

    field.standin.graph = graph
    lots = []
    for _ in range(30):
        kim = at.garage.customer()
        message = await at.writes(sender={"from": kim.phone.lstrip("+")})
        kim.conversation_id = message["conversation_id"]
        lots += [kim.intent(f"Text {n}") for n in range(20)]
    lee = other.garage.customer()
    message = await other.writes(sender={"from": lee.phone.lstrip("+")})
    lee.conversation_id = message["conversation_id"]
    await system.intend(*lots)
    await asyncio.sleep(1)
    await lee.is_sent("Hello Lee.")
    await field.standin.receives(lambda call: call.text == "Hello Lee.")  # while the other is ill
    field.standin.graph = accepted
    for intent in lots:
        await system.until(partial(is_called, field, intent["intent_id"]), "what waited goes out")
