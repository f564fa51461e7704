"""The inbox's pages in a real Chromium: accessible in every way in which they are shown, and what their scripts do.

The pages come from the templates with the service's own headers. What the service does with them is tested beside it.
"""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest_asyncio
from axe_playwright_python.base import AXE_SCRIPT
from playwright.async_api import Browser, BrowserContext, Page, Route, expect

from services.inbox.html import LANGUAGES
from tests.integration.test_portal_pages import SCHEMES
from tests.support.browser import DESKTOP, PHONE, phone
from tests.support.inbox_pages import (
    DOORS,
    NOW,
    ROWS,
    SOON,
    STORY,
    badge,
    every_page,
    listing,
    page,
    page_server,
    row,
    talk,
)
from tests.support.page_server import ORIGIN

COMPUTER: dict[str, Any] = {
    "viewport": {"width": DESKTOP[0], "height": DESKTOP[1]},
    "is_mobile": False,
    "has_touch": False,
    "device_scale_factor": 1,
}
AXE = """async ([rules, seen]) => (await axe.run(
        {exclude: seen}, {resultTypes: ["violations"], runOnly: rules})).violations
    .map((one) => one.id + ": " + one.nodes.map((node) => node.html).join(" | "))"""
# What a page shows as an earlier one does; axe has seen it there.
SEEN = {
    "closing": ["#rows", ".msgs", "#details"],
    "expired": ["#details"],
    "expired-none": ["#rows", ".msgs"],
    "never": ["#rows"],
    "reader": ["#rows", ".msgs"],
    "held": ["#rows", "#details"],
}
AMOUNTS = """all => all.map(one => {
    const range = document.createRange();
    range.selectNodeContents(one.firstChild);
    const right = range.getBoundingClientRect().right;
    return [new Set([...range.getClientRects()].map(box => Math.round(box.top))).size,
            right <= one.parentElement.getBoundingClientRect().right && right <= innerWidth];
})"""
"""Of each element: on how many lines its text stands, and whether it stands within the parent and the screen."""
SOON_MS = int(SOON.total_seconds()) * 1000
ENGLISH = LANGUAGES.of("en-GB")


async def visit(browser: Browser, **options: Any) -> tuple[BrowserContext, Page]:
    context = await phone(browser, **COMPUTER | options)
    await page_server().serve(context)
    tab = await context.new_page()
    await tab.clock.install(time=NOW)
    return context, tab


@pytest_asyncio.fixture
async def tab(browser: Browser) -> AsyncIterator[Page]:
    context, opened = await visit(browser)
    yield opened
    await context.close()


async def test_axe_finds_nothing_on_phone_and_desktop_in_light_and_dark_and_from_the_right(tab: Page) -> None:
    found: list[str] = []
    for name in (*every_page(), *DOORS):
        await tab.goto(f"{ORIGIN}/{name}")
        await tab.evaluate(AXE_SCRIPT)
        for width, height in (PHONE, DESKTOP):
            # what a phone alone shows is the same on all pages: two of them show it in the dark
            schemes = SCHEMES if (width, height) == DESKTOP or name in ("list", "open") else SCHEMES[:1]
            await tab.set_viewport_size({"width": width, "height": height})
            for scheme, rules in schemes:
                await tab.emulate_media(color_scheme=scheme)
                violations = await tab.evaluate(AXE, [rules, SEEN.get(name, [])])
                found += [f"{name}, {width} px, {scheme}: {one}" for one in violations]
    assert found == []


async def test_at_400_percent_and_from_the_right_nothing_is_cut_off(tab: Page) -> None:
    for name in ("list", "open", "expired"):
        await tab.goto(f"{ORIGIN}/{name}")
        for size in ({"width": 320, "height": 256}, {"width": PHONE[0], "height": PHONE[1]}):
            await tab.set_viewport_size(size)  # type: ignore[arg-type]
            for direction in ("ltr", "rtl"):
                await tab.evaluate(f"document.documentElement.dir = '{direction}'")
                assert await tab.evaluate("document.documentElement.scrollWidth") <= size["width"], (name, direction)


async def test_the_head_of_a_conversation_is_one_line_beside_the_list_in_every_language(browser: Browser) -> None:
    for locale in ("en-GB", "de-DE"):
        context, tab = await visit(browser, locale=locale, viewport={"width": 1200, "height": DESKTOP[1]})
        await tab.goto(f"{ORIGIN}/open")
        await tab.locator("#window").evaluate(
            "one => one.dataset.closes = new Date(Date.now() + 86340000).toISOString()"
        )
        await tab.clock.run_for(61_000)
        tops = "all => all.map(one => one.getBoundingClientRect()).map(box => Math.round(box.top + box.height / 2))"
        middles = await tab.locator(".thread-head > :visible").evaluate_all(tops)
        assert max(middles) - min(middles) <= 2, (locale, middles)
        await context.close()


async def test_the_time_of_an_event_stands_on_one_line_beside_a_long_name(tab: Page) -> None:
    await tab.set_viewport_size({"width": 320, "height": PHONE[1]})
    await tab.goto(f"{ORIGIN}/held")
    times = await tab.locator(".event", has_text="has taken over").locator("time").evaluate_all(AMOUNTS)
    assert [lines for lines, _ in times] == [1]


async def test_a_long_name_that_is_unread_makes_the_list_no_wider(tab: Page) -> None:
    names = ("Wolfgang" * 12, "ليلى حداد" * 12)
    rows = [row(n, name, "Hi", "25 14:03", badge("open", 192), is_unread=True) for n, name in enumerate(names)]
    written = page(ENGLISH, listing=listing(*rows))
    await tab.route(
        f"{ORIGIN}/long", lambda route: route.fulfill(content_type="text/html; charset=utf-8", body=written)
    )
    await tab.goto(f"{ORIGIN}/long")
    assert await tab.locator("#rows").evaluate("one => [one.children.length, one.scrollWidth - one.clientWidth]") == [
        2,
        0,
    ]


async def test_on_paper_the_whole_thread_stands_without_the_list_and_the_form(tab: Page) -> None:
    await tab.goto(f"{ORIGIN}/expired")
    await tab.emulate_media(media="print")
    for width in (PHONE[0], 794, 1123, DESKTOP[0]):  # A4 upright and across are 794 and 1,123
        await tab.set_viewport_size({"width": width, "height": 600})
        for part in ("#rows", "#composer", ".bar"):
            await expect(tab.locator(part)).to_be_hidden()
        page, thread, last = await tab.evaluate(
            "() => [document.documentElement.scrollHeight, document.getElementById('messages').offsetHeight,"
            " document.querySelector('.msg:last-of-type').getBoundingClientRect().bottom]"
        )
        assert page >= last > thread > 600, (width, page, thread, last)
        assert await tab.evaluate(
            "[...document.querySelectorAll('.app, .shell, .stage, .thread, .log')].every((one) =>"
            " getComputedStyle(one).overflowY === 'visible')"
        ), width


async def test_with_forced_colours_a_row_has_no_frame_around_the_words_of_its_window(browser: Browser) -> None:
    context, tab = await visit(browser, forced_colors="active")
    await tab.goto(f"{ORIGIN}/open")
    frames = {"#window": "1px", "#rows .win": "0px"}
    for shown, width in frames.items():
        await expect(tab.locator(shown).first).to_have_css("border-inline-end-width", width)
    await context.close()


async def test_an_amount_that_is_long_stands_on_one_line_at_every_width(tab: Page) -> None:
    await tab.goto(f"{ORIGIN}/spend-yen")
    for width in (320, PHONE[0], 768, DESKTOP[0]):
        await tab.set_viewport_size({"width": width, "height": PHONE[1]})
        tiles = await tab.locator(".tiles dd").evaluate_all(AMOUNTS)
        assert [lines for lines, _ in tiles] == [1] * 4, (width, tiles)
        assert all(fits for _, fits in tiles), (width, tiles)


async def test_the_badge_counts_down_and_flips_by_itself(tab: Page) -> None:
    await tab.goto(f"{ORIGIN}/open")
    shown = tab.locator("#window")
    await expect(shown).to_have_text("Open · closes in 3 h 12 min")
    await tab.clock.run_for(60_000)
    await expect(shown).to_have_text("Open · closes in 3 h 11 min")
    await tab.clock.fast_forward((192 - 1) * 60_000 - SOON_MS + 30_000)
    await tab.clock.run_for(2_000)
    await expect(shown).to_have_class("win closing")
    await tab.clock.fast_forward(SOON_MS - 55_000)  # the clock of the page goes on meanwhile
    await tab.clock.run_for(2_000)
    await expect(shown).to_have_text("Closing soon · less than a minute left")
    await tab.clock.run_for(70_000)
    await expect(shown).to_have_class("win expired")
    await expect(shown).to_have_text("Expired · just now")
    await expect(tab.locator("#announce")).to_contain_text("has closed")
    await expect(tab.locator("li.event").last).to_contain_text("The WhatsApp window closed")
    await expect(tab.locator(f"#c-{ROWS[0].conversation_id} .win")).to_contain_text("Expired")


async def test_a_row_that_passes_into_the_next_group_has_the_list_written_anew(tab: Page) -> None:
    await tab.goto(f"{ORIGIN}/list-closing")
    await expect(tab.locator(".group")).to_have_text(["Within 15 minutes", "Within the hour", "Within two hours"])
    await tab.evaluate(
        "document.addEventListener('inbox:row-flipped', () => { window.flips = (window.flips ?? 0) + 1 })"
    )
    await tab.clock.run_for(16_000)
    assert await tab.evaluate("window.flips") is None
    await tab.clock.fast_forward(27 * 60_000)  # the row of 41 minutes has 14 left, that of 9 is over
    await tab.clock.run_for(2_000)
    assert await tab.evaluate("window.flips") == 2


async def test_the_clock_is_the_servers_not_the_browsers(browser: Browser) -> None:
    context, tab = await visit(browser)
    await tab.clock.install(time=NOW - timedelta(hours=5))
    await tab.goto(f"{ORIGIN}/closing")
    await expect(tab.locator("#window")).to_have_text("Closing soon · 9 min left")
    await context.close()


async def test_times_stand_in_the_zone_of_the_browser(browser: Browser) -> None:
    context, tab = await visit(browser, timezone_id="Europe/Berlin", locale="de-DE")
    await tab.goto(f"{ORIGIN}/open")
    await expect(tab.locator(f"#m-{STORY[-1].message_id} .foot time")).to_have_text("15:03")
    await expect(tab.locator("#window")).to_have_text("Offen · schließt in 3 Std. 12 Min.")
    await expect(tab.locator(".day").last).to_have_text("Heute")
    await context.close()


class Stream:
    """The list that a page asks for when it is told of an event.

    The page counts what it asks for: a request reaches the test some time after the clock of the page was moved.
    """

    COUNT = """const real = window.fetch;
        window.lists = 0;
        window.fetch = (url, ...rest) => {
            if (String(url).includes("/inbox/list")) window.lists += 1;
            return real(url, ...rest);
        };"""

    def __init__(self) -> None:
        self.rows = listing(*ROWS)

    async def serve(self, context: BrowserContext) -> None:
        await context.add_init_script(self.COUNT)
        await context.route("**/inbox/list*", self._list)

    async def asked(self, tab: Page) -> int:
        counted: int = await tab.evaluate("window.lists")
        return counted

    async def _list(self, route: Route) -> None:
        await route.fulfill(content_type="text/html; charset=utf-8", body=page(ENGLISH, listing=self.rows))


async def test_the_list_never_reorders_under_a_pointer(browser: Browser) -> None:
    context, tab = await visit(browser)
    stream = Stream()
    await stream.serve(context)
    await tab.goto(f"{ORIGIN}/list")
    first, second = tab.locator("#rows .name").nth(0), tab.locator("#rows .name").nth(1)
    await tab.locator("#rows").hover()
    stream.rows = listing(ROWS[1], ROWS[0], *ROWS[2:])
    async with tab.expect_response("**/inbox/list*"):
        await tab.evaluate("document.dispatchEvent(new CustomEvent('inbox:conversation', {detail: {}}))")
        await tab.clock.run_for(1_500)
    await expect(first).to_have_text("Kim Larsen")
    assert await stream.asked(tab) == 1
    await tab.mouse.move(1_000, 500)
    await tab.clock.run_for(100)
    await expect(first).to_have_text("Amara Okafor")
    await expect(second).to_have_text("Kim Larsen")
    await context.close()


async def test_many_events_ask_for_the_list_once_a_second(browser: Browser) -> None:
    context, tab = await visit(browser)
    stream = Stream()
    await stream.serve(context)
    await tab.goto(f"{ORIGIN}/list")
    one = "document.dispatchEvent(new CustomEvent('inbox:conversation', {detail: {}}))"
    await tab.evaluate(f"for (let n = 0; n < 50; n += 1) {one}")  # in one go, so that no second passes between them
    await tab.clock.run_for(1_500)
    assert await stream.asked(tab) == 1
    await context.close()


async def test_new_messages_are_followed_at_the_bottom_and_announced_further_up(browser: Browser) -> None:
    context, tab = await visit(browser)
    news = talk(*STORY)
    sequence = STORY[-1].sequence

    async def answer(route: Route) -> None:
        await route.fulfill(
            content_type="text/html; charset=utf-8",
            body=f'<li class="msg" id="m-new-{sequence}" data-sequence="{sequence + 1}"><p class="foot"><time'
            ' datetime="2026-11-25T14:08:00Z" data-time></time></p>Is it done?</li>',
        )

    await context.route("**/news*", answer)
    await tab.set_viewport_size({"width": 1440, "height": 500})
    await tab.goto(f"{ORIGIN}/open")
    told = "document.dispatchEvent(new CustomEvent('inbox:conversation', {detail: {conversation_id: '%s'}}))"
    await tab.locator(".log").evaluate("(log) => { log.scrollTop = -400; }")
    await tab.evaluate(told % news.conversation_id)
    await expect(tab.locator("#jump")).to_have_text("1 new message ↓")
    before = await tab.locator(".log").evaluate("(log) => log.scrollTop")
    assert before < -300
    await tab.locator("#jump").click()
    await expect(tab.get_by_text("Is it done?")).to_be_in_viewport()
    await expect(tab.locator("#jump")).to_be_hidden()
    sequence += 1
    await tab.evaluate(told % news.conversation_id)
    await expect(tab.locator(f"#m-new-{sequence}")).to_be_in_viewport()
    await context.close()


async def test_a_customers_message_opens_the_badge_again(tab: Page) -> None:
    await tab.goto(f"{ORIGIN}/expired")
    shown = tab.locator("#window")
    await expect(shown).to_have_text("Expired · 3 min ago")
    window = f"{{state: 'open', closes_at: '{(NOW + timedelta(days=1, seconds=30)).isoformat()}', open: true}}"
    conversation = ROWS[0].conversation_id
    await tab.evaluate(
        f"document.dispatchEvent(new CustomEvent('inbox:conversation',"
        f" {{detail: {{conversation_id: '{conversation}', window: {window}}}}}))"
    )
    await expect(shown).to_have_text("Open · closes in 24 h 0 min")


async def test_a_lost_stream_is_said_with_its_time(browser: Browser) -> None:
    context, tab = await visit(browser)
    await context.route("**/inbox/events*", lambda route: route.abort())
    await tab.goto(f"{ORIGIN}/open")
    await expect(tab.locator("#live")).to_be_visible()  # the page knows that it has lost it
    await tab.clock.run_for(8_000)
    await expect(tab.locator("#live")).to_contain_text("Not live since 14:08")
    await tab.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    await expect(tab.locator("#live")).to_be_in_viewport()
    await expect(tab.locator("#text")).to_be_in_viewport()
    await context.close()


async def test_the_column_of_the_customer_is_there_where_a_conversation_is_open(tab: Page) -> None:
    end = "one => document.getElementById('main').getBoundingClientRect().right - one.getBoundingClientRect().right"
    await tab.goto(f"{ORIGIN}/list")
    assert await tab.locator("#thread").evaluate(end) < 2
    await tab.goto(f"{ORIGIN}/open")
    assert await tab.locator("#thread").evaluate(end) > 200
    assert await tab.locator("#details").evaluate(end) < 2


async def test_by_the_keyboard_alone_a_conversation_is_found_and_opened(tab: Page) -> None:
    await tab.goto(f"{ORIGIN}/list")
    await tab.keyboard.press("j")
    await expect(tab.locator("#rows a.row").nth(0)).to_be_focused()
    await tab.keyboard.press("j")
    await expect(tab.locator("#rows a.row").nth(1)).to_be_focused()
    await tab.keyboard.press("k")
    await tab.keyboard.press("?")
    await expect(tab.get_by_role("dialog")).to_be_visible()
    box, label = [await tab.locator(one).bounding_box() for one in ("#keys-off", "label:has(#keys-off)")]
    assert box is not None
    assert label is not None
    assert box["width"] == box["height"] == 16
    assert label["height"] < 2 * box["height"], "the box and its words stand on one line"
    await tab.evaluate(AXE_SCRIPT)
    assert await tab.evaluate(AXE, [SCHEMES[0][1], []]) == []
    await tab.keyboard.press("Escape")
    await expect(tab.get_by_role("dialog")).to_be_hidden()
    async with tab.expect_request(lambda request: ROWS[0].conversation_id in request.url):
        await tab.keyboard.press("Enter")


async def test_what_is_on_its_way_is_counted_no_more(tab: Page) -> None:
    async def hang(_route: Route) -> None:
        """Neither taken nor refused, as on a slow network."""

    await tab.route("**/messages", hang)
    await tab.goto(f"{ORIGIN}/open")
    await tab.locator("#text").fill("Hello")
    await expect(tab.locator("#length")).to_have_text("5 of 4,096")
    await tab.locator("#send").click()
    await expect(tab.locator("#text")).to_have_value("")
    await expect(tab.locator("#length")).to_have_text("0 of 4,096")


async def test_without_scripts_the_page_is_all_there(browser: Browser) -> None:
    context, tab = await visit(browser, java_script_enabled=False)
    await tab.goto(f"{ORIGIN}/open")
    await expect(tab.get_by_text("Pads and discs, fitted: £284.00 with VAT. The parts")).to_be_in_viewport()
    await expect(tab.locator("#window")).to_have_text("Open · closes in 3 h 12 min")
    await expect(tab.get_by_role("button", name="Show")).to_be_visible()
    assert badge("open", 1).state == "open"
    await context.close()
