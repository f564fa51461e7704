"""The whole loop with a real browser: window expires, SMS comes, phone opens the link, AI answers in the portal."""

import re

from playwright.async_api import Browser, expect

from tests.support.browser import phone
from tests.support.garages import LATE, a_garage
from tests.support.scraped import scraped_from
from tests.support.system import System

LINK = re.compile(r"Portal: (\S+/([0-9A-Za-z]{11}))$")


async def test_a_phone_follows_its_sms_into_the_portal_and_gets_the_answer_there(
    system: System, browser: Browser
) -> None:
    portal = system.add("portal", "portal")
    await system.start("portal")
    assert await scraped_from(portal.url, "transom_serving", requests="portal") == 1  # an alert misses it
    garage = await a_garage(system, portal_host=f"localhost:{portal.port}")
    kim = await garage.customer_who_wrote(LATE)
    announced = await kim.is_sent("The brakes are done.")
    assert await system.fails(announced) == "window_expired_bridge_sent"
    (sms,) = await kim.texts()
    link = LINK.search(sms)
    assert link is not None
    system.private |= {link[2], "Can I come at six?", "Yes, we are here until seven."}

    context = await phone(browser)
    tab = await context.new_page()
    await tab.goto(f"http://{link[1]}")
    await tab.wait_for_url("**/conversation")
    await expect(tab.get_by_role("heading", level=1)).to_have_text(garage.name)
    await expect(tab.get_by_text("The brakes are done.")).to_be_in_viewport()
    assert (await system.reaches(announced, "read"))["channel"] == "portal"

    await tab.get_by_label("Your message").fill("Can I come at six?")
    await tab.get_by_role("button", name="Send").tap()
    wrote = (await system.published.one("inbound.messages.v1", org_id=garage.org_id, channel="portal")).event
    assert wrote["conversation_id"] == kim.conversation_id
    answer = await kim.is_sent("Yes, we are here until seven.")
    assert await system.way(answer) == ("session", "portal", "live_channel")
    await expect(tab.get_by_text("Yes, we are here until seven.")).to_be_in_viewport()
    assert (await system.reaches(answer, "read"))["channel"] == "portal"
    await expect(tab.locator(".msg.out", has_text="Can I come at six?")).to_have_count(1)
    await context.close()
    await system.quiet()
    assert await kim.texts() == [sms]
