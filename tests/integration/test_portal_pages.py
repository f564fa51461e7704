"""The portal's pages in a real Chromium: accessible in every way in which they are shown, and within their policy.

The pages come from the templates with the service's own headers. What the service does with them is tested beside it.
"""

from collections.abc import AsyncIterator
from typing import Literal

import pytest
import pytest_asyncio
from axe_playwright_python.base import AXE_SCRIPT
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, Request

from tests.support.browser import DESKTOP, PHONE, phone
from tests.support.page_server import ORIGIN, PageServer
from tests.support.portal_pages import every_page, page_server

AXE = """async (rules) => (await axe.run({resultTypes: ["violations"], runOnly: rules})).violations
    .map((one) => one.id + ": " + one.nodes.map((node) => node.html).join(" | "))"""
ALL = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
OF_COLOURS = ["color-contrast", "link-in-text-block"]
SCHEMES: tuple[tuple[Literal["light", "dark"], list[str]], ...] = (("light", ALL), ("dark", OF_COLOURS))
HIDDEN = "Object.defineProperty(document, 'visibilityState', {get: () => window.shown ? 'visible' : 'hidden'})"
PRERENDERING = "Object.defineProperty(document, 'prerendering', {get: () => !window.shown})"
TARGETS = """() => [...document.querySelectorAll('button, .btn, textarea, input:not([type=hidden])')]
    .filter((one) => one.checkVisibility())
    .map((one) => [one.textContent.trim(), one.getBoundingClientRect().height])
    .filter(([, height]) => height < 44)"""


class Visitor:
    """A browser with a page server, one tab, and what the console said."""

    def __init__(self, context: BrowserContext, tab: Page, server: PageServer) -> None:
        self.context, self.tab, self.server = context, tab, server
        self.console: list[str] = []
        tab.on("console", self._keep)

    def _keep(self, message: ConsoleMessage) -> None:
        self.console.append(message.text)

    async def open(self, name: str) -> None:
        await self.tab.goto(f"{ORIGIN}/{name}")


async def visit(browser: Browser, *, script: str | None = None, **options: object) -> Visitor:
    server = page_server()
    context = await phone(browser, **options)
    await server.serve(context)
    if script:
        await context.add_init_script(script)
    return Visitor(context, await context.new_page(), server)


@pytest_asyncio.fixture
async def visitor(browser: Browser) -> AsyncIterator[Visitor]:
    here = await visit(browser)
    yield here
    await here.context.close()


async def test_axe_finds_nothing_on_any_page_on_phone_and_desktop_in_light_and_dark(visitor: Visitor) -> None:
    found: list[str] = []
    for name in every_page():
        await visitor.open(name)
        # a page that goes back by itself in ten seconds stays, however long axe takes
        await visitor.tab.evaluate("document.getElementById('again')?.setAttribute('href', '#')")
        await visitor.tab.evaluate(AXE_SCRIPT)
        for width, height in (PHONE, DESKTOP):
            await visitor.tab.set_viewport_size({"width": width, "height": height})
            for scheme, rules in SCHEMES:
                await visitor.tab.emulate_media(color_scheme=scheme)
                found += [f"{name}, {width} px, {scheme}: {one}" for one in await visitor.tab.evaluate(AXE, rules)]
    assert found == []
    assert visitor.console == []
    assert visitor.server.strange == []


@pytest.mark.parametrize("name", ["open", "replace", "thread-kinds", "not-sent", "gone", "away"])
async def test_at_400_percent_nothing_is_cut_off_and_every_target_is_large(visitor: Visitor, name: str) -> None:
    await visitor.open(name)
    assert await visitor.tab.evaluate(TARGETS) == []
    await visitor.tab.set_viewport_size({"width": 320, "height": 256})  # 1280 x 1024 at 400 %
    assert await visitor.tab.evaluate("document.documentElement.scrollWidth") <= 320
    assert await visitor.tab.evaluate(TARGETS) == []
    for control in await visitor.tab.locator("button:visible, textarea:visible").all():
        await control.scroll_into_view_if_needed()
        box = await control.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 320


async def test_a_visible_browser_opens_the_link_by_itself_and_once(visitor: Visitor) -> None:
    async with visitor.tab.expect_request(lambda request: request.method == "POST"):
        await visitor.open("open")
    await visitor.tab.wait_for_timeout(200)
    assert visitor.server.posted == ["/open"]


@pytest.mark.parametrize("way", ["hidden", "prerendering", "without scripts", "button required"])
async def test_what_no_person_sees_opens_nothing(browser: Browser, way: str) -> None:
    script = {"hidden": HIDDEN, "prerendering": PRERENDERING}.get(way)
    here = await visit(browser, script=script, java_script_enabled=way != "without scripts")
    await here.open("open-button" if way == "button required" else "open")
    await here.tab.wait_for_timeout(300)
    assert here.server.posted == []
    if script:  # a person brings the tab to the front
        event = "visibilitychange" if way == "hidden" else "prerenderingchange"
        async with here.tab.expect_request(lambda request: request.method == "POST"):
            await here.tab.evaluate(f"window.shown = true; document.dispatchEvent(new Event('{event}'))")
    else:
        async with here.tab.expect_request(lambda request: request.method == "POST"):
            await here.tab.get_by_role("button", name="Open the conversation").tap()
    await here.context.close()


async def test_the_newest_message_is_in_view_without_scripts(browser: Browser) -> None:
    here = await visit(browser, java_script_enabled=False)
    await here.open("thread")
    last = here.tab.get_by_text("Pads and discs, fitted")
    assert await last.evaluate("(one) => one.getBoundingClientRect().bottom < innerHeight")
    await here.context.close()


async def test_times_and_days_are_those_of_the_browsers_zone(browser: Browser) -> None:
    here = await visit(browser, locale="de-DE", timezone_id="Pacific/Auckland")
    await here.tab.clock.set_fixed_time("2026-11-25T14:05:00Z")
    await here.open("thread")
    assert await here.tab.locator(".day").all_inner_texts() == ["Montag, 23. November", "Gestern", "Heute"]
    first_of_today = await here.tab.locator(".day + .msg").last.inner_text()
    assert "How much for pads" in first_of_today  # 11:05 in London; the message before it was written at 23:48
    assert await here.tab.locator(".msg time").last.inner_text() == "03:03"
    await here.context.close()


async def test_the_page_stands_from_the_right_where_its_language_does(visitor: Visitor) -> None:
    await visitor.open("right-to-left")
    await visitor.tab.evaluate("document.documentElement.dir = 'rtl'")
    mine = await visitor.tab.locator(".msg.out").first.bounding_box()
    theirs = await visitor.tab.locator(".msg:not(.out)").first.bounding_box()
    assert mine is not None
    assert theirs is not None
    assert mine["x"] < theirs["x"]
    arabic = visitor.tab.locator(".said").first
    assert await arabic.evaluate("(one) => getComputedStyle(one).direction") == "rtl"
    number = visitor.tab.locator(".top bdi[dir=ltr]")
    assert await number.evaluate("(one) => getComputedStyle(one).direction") == "ltr"


async def test_what_leads_away_tells_nobody_where_it_came_from(visitor: Visitor) -> None:
    away: list[Request] = []
    visitor.context.on("request", lambda request: away.append(request))  # noqa: PLW0108 (builtins cannot be hooked in)
    await visitor.open("thread-kinds")
    for link in ("WhatsApp", "Open the file"):
        async with visitor.context.expect_page():
            await visitor.tab.get_by_role("link", name=link).last.click()
    left = [request for request in away if not request.url.startswith(ORIGIN)]
    assert {request.url for request in left} == {"https://wa.me/447700900123", "https://acme.example/estimate.pdf"}
    assert [await request.header_value("referer") for request in left] == [None, None]
