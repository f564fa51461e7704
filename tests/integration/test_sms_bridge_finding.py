"""How a sent SMS is found again at the provider, on real servers: by what, since when, and how often it is looked for."""

import hashlib

from deploy.local.sandbox.client import SandboxClient
from services.sms_bridge.links import LinkMint
from tests.support.bridging import LINK_KEY, Bridging


async def test_what_is_stored_of_a_text_does_not_give_its_code_away(world: Bridging, sandbox: SandboxClient) -> None:
    command = await world.decided()
    await world.send(command)
    [sms] = await sandbox.sms()
    text = sms["message"]["body"]
    stored = (await world.send_row(command))["text_hash"]
    assert stored == LinkMint([LINK_KEY]).text_hash(text)
    assert stored != hashlib.sha256(text.encode()).digest()
