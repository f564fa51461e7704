"""A template in a real Chromium, from the draft over Meta's no to a message that may be sent."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest_asyncio
from aiokafka.admin import AIOKafkaAdminClient
from axe_playwright_python.base import AXE_SCRIPT
from playwright.async_api import Browser, Page, expect

from deploy.local.sandbox.client import SandboxClient
from libs.common.events.content import OutTemplate
from libs.common.events.intents import Actor, Intent
from services.router.decide import Decision, Rejected, Template, decide
from services.router.fact_queries import WindowRule, attempts_of
from tests.integration.test_inbox_composer_browser import COMPUTER
from tests.integration.test_portal_pages import AXE, SCHEMES
from tests.support import world
from tests.support.browser import DESKTOP, PHONE, phone
from tests.support.inbox import RunningInbox, an_inbox_of_its_own
from tests.support.sandbox import GRAPH_TOKEN

NUMBER = "106400000000001"
WABA = "206400000000001"
ORG = "acme"


@pytest_asyncio.fixture
async def garage(
    postgres_dsn: str,
    database_template: str,
    kafka_admin: AIOKafkaAdminClient,
    kafka_bootstrap: str,
    sandbox: SandboxClient,
) -> AsyncIterator[RunningInbox]:
    await sandbox.configure(webhooks=False, template_review_after=0.0)
    await sandbox.number(NUMBER, waba_id=WABA)
    settings = {"graph_base_url": sandbox.url, "whatsapp_token": GRAPH_TOKEN, "template_sync_seconds": 1.0}
    async with an_inbox_of_its_own(postgres_dsn, database_template, kafka_admin, kafka_bootstrap, **settings) as made:
        async with made.pool.acquire() as db:
            await world.an_org(db, ORG, NUMBER, waba=WABA, portal_host=None)
        yield made


async def decided(garage: RunningInbox) -> Decision:
    """What the router decides about a message with this template to a customer who never wrote."""
    content = OutTemplate(name="work_approval", language="en_GB", parameters={"price": "£90.00"})
    intent = Intent(
        intent_id=uuid4(),
        org_id=ORG,
        to={"phone_number_id": NUMBER, "phone": "+447700900999"},
        actor=Actor(kind="staff", user_id="priya", capabilities=["messages.send"]),
        content=content,
        created_at=garage.pool.now(),
    )
    rule = WindowRule(timedelta(days=1), timedelta(0), timedelta(0))
    async with garage.pool.acquire() as db:
        [attempt] = await attempts_of(db, [(intent, 1)], rule, garage.pool.now())
    return decide(intent, attempt.facts, garage.pool.now())


LINES = """one => {
  const range = document.createRange();
  range.selectNodeContents(one);
  return new Set([...range.getClientRects()].map(box => Math.round(box.bottom / 12))).size;
}"""
"""On how many lines a text stands."""


async def a_tab(garage: RunningInbox, browser: Browser, **options: Any) -> Page:
    staff = await garage.staff(ORG, user_id="priya")
    context = await phone(browser, **(COMPUTER | options))
    await context.add_cookies(
        [{"name": c.name, "value": c.value or "", "url": staff.origin} for c in staff.client.cookies.jar]
    )
    return await context.new_page()


async def submit(tab: Page) -> None:
    """Submit the form, and wait for the page that answers it: a reload in between has no page to load again."""
    async with tab.expect_navigation():
        await tab.get_by_role("button", name="Submit to Meta").click()


async def shows(tab: Page, state: str) -> None:
    """The page of the template, read anew until Meta's word is there."""
    for _ in range(40):
        await tab.reload()
        if state in await tab.locator("#state").inner_text():
            return
        await tab.wait_for_timeout(250)
    raise AssertionError(await tab.locator("#state").inner_text())


async def axe(tab: Page) -> list[str]:
    found: list[str] = []
    await tab.evaluate(AXE_SCRIPT)
    for width, height in (PHONE, DESKTOP):
        await tab.set_viewport_size({"width": width, "height": height})
        for scheme, rules in SCHEMES:
            await tab.emulate_media(color_scheme=scheme)
            found += [f"{width} px, {scheme}: {one}" for one in await tab.evaluate(AXE, rules)]
    return found


async def test_a_fault_of_a_button_is_said_beside_its_own_field(garage: RunningInbox, browser: Browser) -> None:
    tab = await a_tab(garage, browser)
    await tab.goto(f"{garage.url}/templates/new")
    await tab.get_by_label("Name", exact=True).fill("work_approval")
    await tab.locator("#body").fill("The extra work is done, and your car is ready.")
    await tab.get_by_label("Quick reply 1").fill("Thanks")
    await tab.get_by_label("Link: address").fill("acme.example")
    await tab.get_by_role("button", name="Submit to Meta").click()
    await expect(tab.locator("#fault-link_label")).to_have_text("A button needs a label.")
    await expect(tab.locator("#fault-link_url")).to_contain_text("begins with https://")
    await expect(tab.locator("[aria-invalid]")).to_have_count(2)
    await expect(tab.get_by_label("Link: label")).to_be_focused()
    assert await axe(tab) == []


async def test_a_template_goes_from_draft_to_rejected_to_edited_to_approved_to_sendable(
    garage: RunningInbox, browser: Browser
) -> None:
    tab = await a_tab(garage, browser)
    url = garage.url
    await tab.goto(f"{url}/templates")
    await expect(tab.get_by_text("There are no templates yet.")).to_be_visible()
    assert await axe(tab) == []

    await tab.get_by_role("link", name="New template").click()
    await tab.get_by_label("Name", exact=True).fill("work_approval")
    await tab.locator("#body").fill("The extra work costs {{price}}")
    await tab.get_by_role("button", name="Submit to Meta").click()
    await expect(tab.locator("#body")).to_have_attribute("aria-invalid", "true")
    await expect(tab.locator("#fault-body")).to_contain_text("may not be the first or the last thing")
    await expect(tab.locator("#body")).to_be_focused()
    await tab.locator("#name").focus()
    await tab.get_by_role("link", name="Go to the text").click()
    await expect(tab.locator("#body")).to_be_focused()
    assert await axe(tab) == []
    assert await decided(garage) == Rejected("template_not_approved")

    await tab.locator("#body").fill("A discount for you: the extra work costs {{price}} only today.")
    await expect(tab.locator("#checks .bad")).to_have_text(["An example for every placeholder (to be mended)"])
    await tab.get_by_role("textbox", name="price").fill("£90.00")
    await expect(tab.locator("#checks .bad")).to_have_count(0)
    await expect(tab.locator("#preview .bubble")).to_have_text(
        "A discount for you: the extra work costs £90.00 only today."
    )
    text, filled = tab.locator("#preview .bubble .said"), tab.locator("#preview mark")
    assert await text.evaluate(LINES) - await filled.evaluate(LINES) in (0, 1), "a value stands in its sentence"
    await expect(tab.get_by_role("textbox", name="price")).to_be_focused()
    await tab.get_by_role("button", name="Save draft").click()
    await expect(tab.locator("#state")).to_have_text("Draft")
    await submit(tab)
    await shows(tab, "Rejected")
    await expect(tab.locator(".note.expired")).to_contain_text("TAG_CONTENT_MISMATCH")
    await expect(tab.locator(".note.expired")).to_contain_text("does not fit its category")
    assert await decided(garage) == Rejected("template_not_approved")

    await tab.locator("#body").fill("While we were at it: the extra work costs {{price}}, shall we go on?")
    await submit(tab)
    await shows(tab, "Approved")
    assert await axe(tab) == []
    history = await tab.locator("section", has=tab.get_by_role("heading", name="History")).inner_text()
    assert [word for word in history.splitlines() if word in ("Approved", "Rejected, TAG_CONTENT_MISMATCH")] == [
        "Approved",
        "Rejected, TAG_CONTENT_MISMATCH",
    ]
    found = await decided(garage)
    assert isinstance(found, Template)
    assert found.template.name == "work_approval"

    await tab.goto(f"{url}/templates?status=APPROVED")
    await expect(tab.get_by_role("link", name="Work approval")).to_be_visible()
    await expect(tab.get_by_text("In step with Meta.")).to_be_visible()
    assert await axe(tab) == []
    await tab.context.close()


async def test_a_template_is_deleted_from_its_page_on_phone_and_desktop(garage: RunningInbox, browser: Browser) -> None:
    tab = await a_tab(garage, browser)
    for width, height in (PHONE, DESKTOP):
        await tab.set_viewport_size({"width": width, "height": height})
        await tab.goto(f"{garage.url}/templates/new")
        await tab.get_by_label("Name", exact=True).fill("work_approval")
        await tab.locator("#body").fill("Your car is ready.")
        await tab.get_by_role("button", name="Save draft").click()
        await expect(tab.locator("#state")).to_have_text("Draft")
        await tab.get_by_text("Delete", exact=True).click()
        await tab.get_by_role("button", name="Delete it for good").click()
        await expect(tab).to_have_url(f"{garage.url}/templates")
    await tab.context.close()


async def test_the_button_puts_the_next_placeholder_where_the_caret_stands(
    garage: RunningInbox, browser: Browser
) -> None:
    tab = await a_tab(garage, browser)
    await tab.goto(f"{garage.url}/templates/new")
    await tab.locator("#body").fill("Hi , your car is ready.")
    await tab.locator("#body").evaluate("one => one.setSelectionRange(3, 3)")
    add = tab.get_by_role("button", name="Placeholder")
    await add.click()
    await expect(tab.locator("#body")).to_have_value("Hi {{placeholder_1}}, your car is ready.")
    await expect(tab.locator("#body")).to_be_focused()
    await tab.keyboard.type(" and ")
    await add.press("Enter")
    await expect(tab.locator("#body")).to_have_value("Hi {{placeholder_1}} and {{placeholder_2}}, your car is ready.")
    await expect(tab.locator("#examples label")).to_have_text(["placeholder_1", "placeholder_2"])
    assert await axe(tab) == []
    await tab.context.close()


async def test_a_name_as_long_as_meta_takes_it_leaves_room_for_the_rest(garage: RunningInbox, browser: Browser) -> None:
    name = "a_name_of_work" * 36 + "_of_meta"
    draft = {
        "name": name,
        "language": "fil",
        "category": "UTILITY",
        "components": [{"type": "BODY", "text": "Your car is ready."}],
        "submit": False,
    }
    assert (await garage.api(ORG).post("/v1/templates", json=draft)).status_code in (200, 201, 202), len(name)
    tab = await a_tab(garage, browser)
    await tab.goto(f"{garage.url}/templates")
    for width, height in (PHONE, DESKTOP):
        await tab.set_viewport_size({"width": width, "height": height})
        await expect(tab.locator("tbody .chip")).to_be_in_viewport(ratio=1)
        assert await tab.locator(".sheet").evaluate("one => one.scrollWidth <= one.clientWidth"), width
    await tab.context.close()


async def test_two_languages_of_a_template_are_told_apart_and_the_name_has_most_room_at_every_width(
    garage: RunningInbox, browser: Browser
) -> None:
    for language in ("en_GB", "de"):
        draft = {
            "name": "main_inspection_is_due",
            "language": language,
            "category": "UTILITY",
            "components": [{"type": "BODY", "text": "Your main inspection is due."}],
            "submit": False,
        }
        assert (await garage.api(ORG).post("/v1/templates", json=draft)).status_code in (200, 201, 202)
    tab = await a_tab(garage, browser, locale="de-DE")
    await tab.goto(f"{garage.url}/templates?q=main+inspection")
    for width, height in (PHONE, (768, 1024), (1024, 768), DESKTOP):
        await tab.set_viewport_size({"width": width, "height": height})
        for words in ("Deutsch", "Englisch (Vereinigtes Königreich)"):
            await expect(tab.get_by_role("cell", name=words)).to_be_in_viewport(ratio=1)
        widths = await tab.locator("thead th").evaluate_all("all => all.map((one) => one.offsetWidth)")
        assert widths[0] == max(widths), (width, widths)
    await tab.context.close()
