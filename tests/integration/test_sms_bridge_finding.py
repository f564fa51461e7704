"""How a sent SMS is found again at the provider, on real servers: by what, since when, and how often it is looked for."""

import hashlib
from datetime import timedelta

import pytest

from deploy.local.sandbox.client import SandboxClient
from services.sms_bridge.links import LinkMint
from tests.support.bridging import LINK_KEY, TIMINGS, Bridging


async def test_what_is_stored_of_a_text_does_not_give_its_code_away(world: Bridging, sandbox: SandboxClient) -> None:
    command = await world.decided()
    await world.send(command)
    [sms] = await sandbox.sms()
    text = sms["message"]["body"]
    stored = (await world.send_row(command))["text_hash"]
    assert stored == LinkMint([LINK_KEY]).text_hash(text)
    assert stored != hashlib.sha256(text.encode()).digest()


@pytest.mark.parametrize(
    ("age", "pause"),
    [(0, TIMINGS.poll), (60, timedelta(seconds=3)), (300, timedelta(seconds=15)), (7200, TIMINGS.look)],
)
async def test_a_list_that_cannot_be_read_is_asked_for_ever_more_rarely(
    world: Bridging, sandbox: SandboxClient, age: int, pause: timedelta
) -> None:
    await sandbox.fault("twilio", "server_error")
    await sandbox.fault("twilio", "server_error", endpoint="list")
    command = await world.decided()
    await world.send(command)
    world.clock.forward(timedelta(seconds=age))
    before = world.clock()
    await world.sweep()
    passed = world.clock() - before
    row = await world.send_row(command)
    assert (row["state"], [c["endpoint"] for c in await sandbox.calls()]) == ("unknown", ["send", "list"])
    assert before + pause <= row["due_at"] <= before + pause + 2 * passed + (before - row["unknown_since"]) / 20
