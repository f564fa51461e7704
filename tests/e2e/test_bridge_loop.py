"""What the bridge is for: a silent conversation goes on, in the portal or by SMS, and is one conversation."""

import re

from deploy.local.portal_visitor import PortalVisitor
from tests.support.garages import LATE, Customer, a_garage
from tests.support.system import System

LINK = re.compile(r"Portal: (\S+/([0-9A-Za-z]{11}))\b")


async def bridged(kim: Customer, text: str) -> tuple[str, str]:
    """A reply that became a bridge SMS: the intent's id and the SMS."""
    intent_id = await kim.is_sent(text)
    assert await kim.system.way(intent_id) == ("bridge", "sms", "window_expired")
    assert await kim.system.fails(intent_id) == "window_expired_bridge_sent"
    (sms,) = await kim.texts()
    return intent_id, sms


async def test_the_loop_over_the_portal(system: System) -> None:
    portal = system.add("portal", "portal")
    await system.start("portal")
    garage = await a_garage(system, portal_host=f"localhost:{portal.port}")
    kim = await garage.customer_who_wrote(LATE)
    announced, sms = await bridged(kim, "The brakes are done.")
    later = await kim.is_sent("And the lights.")
    assert await system.fails(later) == "window_expired_bridge_already_sent"
    staffs = await kim.is_sent("From staff.", actor="staff")
    assert await system.way(staffs) == ("silent", None, "bridge_already_sent")
    link = LINK.search(sms)
    assert link is not None
    system.private |= {link[2], "Can I come at six?", "Yes, until seven."}

    async with PortalVisitor() as browser:
        await browser.opens(f"http://{link[1]}")
        page = await browser.page()
        for text in ("Is my car ready?", "The brakes are done.", "And the lights.", "From staff."):
            assert text in page
        for intent_id in (announced, later, staffs):
            assert (await system.reaches(intent_id, "read"))["channel"] == "portal"
        await browser.writes("Can I come at six?")
        wrote = (await system.published.one("inbound.messages.v1", org_id=garage.org_id, channel="portal")).event
        assert wrote["content"] == {"kind": "text", "text": "Can I come at six?"}
        assert (wrote["conversation_id"], wrote["window"]["open"]) == (kim.conversation_id, False)
        answer = await kim.is_sent("Yes, until seven.")
        assert await system.way(answer) == ("session", "portal", "live_channel")
        await system.reaches(answer, "sent")

        async def shown() -> bool:
            return "Yes, until seven." in await browser.page()

        await system.until(shown, "the answer stands in the portal")
        assert (await system.reaches(answer, "read"))["channel"] == "portal"

        await browser.asks_for_a_link(f"http://{link[1]}")
        asked = "select reason from messages where org_id = $1 and kind = 'bridge'"

        async def decided() -> bool:
            return bool(await system.value(asked, garage.org_id))

        await system.until(decided, "the wish for a fresh link is decided")
        assert await system.value(asked, garage.org_id) == "window_expired_bridge_already_sent"

    await system.quiet()
    assert await kim.texts() == [sms]
    assert await kim.thread() == [
        ("in", "whatsapp", "received", None),
        ("out", "whatsapp", "read", "window_expired_bridge_sent"),
        ("out", "sms", "delivered", None),
        ("out", "whatsapp", "read", "window_expired_bridge_already_sent"),
        ("out", "whatsapp", "read", "window_expired_bridge_already_sent"),
        ("in", "portal", "received", None),
        ("out", "portal", "read", None),
        ("out", "whatsapp", "failed", "window_expired_bridge_already_sent"),
    ]
    seen = "select last_seen_at is not null from customers where org_id = $1"
    assert await system.value(seen, garage.org_id) is True


async def test_the_loop_over_sms_until_stop(system: System) -> None:
    garage = await a_garage(system)
    kim = await garage.customer_who_wrote(LATE)
    await bridged(kim, "Shall we change the tyres?")
    system.private |= {"Yes please", "Thank you!"}
    await system.sandbox.customer_texts(kim.phone, garage.sms_number, "Yes please")
    wrote = (await system.published.one("inbound.messages.v1", org_id=garage.org_id, channel="sms")).event
    assert wrote["content"] == {"kind": "text", "text": "Yes please"}
    assert (wrote["conversation_id"], wrote["window"]["open"]) == (kim.conversation_id, False)
    answer = await kim.is_sent("Thank you!")
    assert await system.way(answer) == ("session", "sms", "live_channel")
    await system.reaches(answer, "delivered")
    assert (await kim.texts())[1:] == ["Thank you!"]
    await system.sandbox.customer_texts(kim.phone, garage.sms_number, "Stop.")
    stop = (await system.published.one("inbound.messages.v1", org_id=garage.org_id, keyword="stop")).event
    assert stop["conversation_id"] == kim.conversation_id
    more = await kim.is_sent("One more thing.")
    assert await system.way(more) == ("silent", None, "sms_opted_out")
    await system.quiet()
    assert len(await kim.texts()) == 2
    assert [(way, channel) for way, channel, *_ in await kim.thread()] == [
        ("in", "whatsapp"),
        ("out", "whatsapp"),
        ("out", "sms"),
        ("in", "sms"),
        ("out", "sms"),
        ("in", "sms"),
        ("out", "whatsapp"),
    ]
