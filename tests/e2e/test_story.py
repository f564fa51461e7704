"""The story that Transom exists for, from the customer's first message to the window that he opens again."""

import re
import subprocess
import sys
from uuid import UUID

from libs.common.clock import utc_now
from libs.common.ids import callback_data
from tests.support.garages import FILLED, a_garage, bridge_of
from tests.support.sandbox import ROOT
from tests.support.system import DAY, System


async def test_a_conversation_outlives_its_window(system: System) -> None:
    garage = await a_garage(system)
    kim = garage.customer()
    first = await kim.writes(ago=DAY - 16)
    assert first["window"]["open"]

    answer = await kim.is_sent("Your Golf is ready.")
    assert await system.way(answer) == ("session", "whatsapp", "window_open")
    await system.reaches(answer, "read")
    (sent,) = await kim.whatsapps()
    assert sent["body"]["text"]["body"] == "Your Golf is ready."
    assert sent["callback"] == callback_data(garage.org_id, UUID(answer), 1)

    async def closed() -> bool:
        window = await system.sandbox.window(garage.phone_number_id, kim.phone)
        return bool(window["closes_at"] <= utc_now().timestamp())

    await system.until(closed, "the window closes")
    late = await kim.is_sent("Shall we keep it overnight?")
    assert await system.way(late) == ("bridge", "sms", "window_expired")
    assert await system.fails(late) == "window_expired_bridge_sent"
    await system.reaches(bridge_of(late), "delivered")
    (bridge,) = await kim.texts()
    assert len(bridge) <= 160
    assert f"wa.me/{garage.display_number[1:]}" in bridge
    assert re.search(r"(tflow\.link|portal\.example)/[0-9A-Za-z]{11}\b", bridge)  # a host belongs to the first garage

    later = await kim.is_sent("Kim, are you there?")
    assert await system.way(later) == ("silent", None, "bridge_already_sent")
    assert await system.fails(later) == "window_expired_bridge_already_sent"

    template = await kim.is_sent(actor="staff", content={"kind": "template", **FILLED})
    assert await system.way(template) == ("template", "whatsapp", "template_requested")
    await system.reaches(template, "delivered")
    still = await kim.is_sent("One more thing.")
    assert await system.way(still) == ("silent", None, "bridge_already_sent")

    again = await kim.writes("Sorry, here I am!")
    assert again["window"]["open"]
    last = await kim.is_sent("No problem.")
    assert await system.way(last) == ("session", "whatsapp", "window_open")
    await system.reaches(last, "read")

    await system.quiet()
    assert len(await kim.texts()) == 1
    expected = [callback_data(garage.org_id, UUID(sent), 1) for sent in (answer, template, last)]
    assert [sent["callback"] for sent in await kim.whatsapps()] == expected
    assert await kim.thread() == [
        ("in", "whatsapp", "received", None),
        ("out", "whatsapp", "read", None),
        ("out", "whatsapp", "failed", "window_expired_bridge_sent"),
        ("out", "sms", "delivered", None),
        ("out", "whatsapp", "failed", "window_expired_bridge_already_sent"),
        ("out", "whatsapp", "read", None),
        ("out", "whatsapp", "failed", "window_expired_bridge_already_sent"),
        ("in", "whatsapp", "received", None),
        ("out", "whatsapp", "read", None),
    ]
    explained = explain(system, late)
    for word in ("bridge on sms, because window_expired", "window_expired_bridge_sent", "0.04 GBP", "1 call(s)"):
        assert word in explained
    for private in ("Shall we keep it overnight?", kim.phone):
        assert private not in explained


def explain(system: System, intent_id: str) -> str:
    command = [sys.executable, "-m", "deploy.cli", "explain", intent_id]
    env = system.env | {"PATH": "/usr/bin:/bin", "COLUMNS": "300"}
    return subprocess.run(command, cwd=ROOT, env=env, check=True, capture_output=True, text=True, timeout=60).stdout
