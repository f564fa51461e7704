"""The list and the thread in a real Chromium, on a running inbox: open browsers show what is, without a reload."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from itertools import product
from uuid import uuid4

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, Route, expect

from libs.common.directory.merge import Merge, merge_customers
from libs.common.kafka.producer import Producer
from services.inbox.streams import OF_A_PERSON
from tests.integration.test_inbox_composer_browser import COMPUTER, a_tab
from tests.support import world
from tests.support.browser import phone
from tests.support.inbox import TECHNICIAN, RunningInbox
from tests.support.inbox_composer import DAY, HOUR, MINUTE, Desk, a_desk
from tests.support.inbox_thread import publishing

SECOND = timedelta(seconds=1)


@pytest_asyncio.fixture(scope="module")
async def producer(inbox: RunningInbox) -> AsyncIterator[Producer]:
    async with publishing(inbox) as made:
        yield made


async def a_desk_with_a_head(inbox: RunningInbox, producer: Producer, ago: timedelta) -> Desk:
    """As ``a_desk``, and the list has the conversation already."""
    desk = await a_desk(inbox, producer, ago=None)
    await desk.thread.customer_writes("Is the Corsa ready?", at=inbox.pool.now() - ago)
    while "Amara" not in (await desk.staff.get("/inbox")).text:
        pass
    return await desk.opens()


async def shows(tab: Page, state: str) -> None:
    """The person leaves the tab for another one, or comes back to it."""
    await tab.evaluate(
        "(state) => { for (const [name, value] of [['visibilityState', state], ['hidden', state === 'hidden']])"
        " Object.defineProperty(document, name, {configurable: true, get: () => value});"
        " document.dispatchEvent(new Event('visibilitychange')) }",
        state,
    )


async def test_the_badge_flips_by_itself_in_every_open_browser_and_back_when_the_customer_writes(
    inbox: RunningInbox, producer: Producer, browser: Browser, contexts: list[BrowserContext]
) -> None:
    desk = await a_desk_with_a_head(inbox, producer, DAY - 9 * MINUTE)
    priya = await a_tab(desk, browser, contexts, **COMPUTER)
    marek = await a_tab(desk, browser, contexts, user="marek")  # on a phone
    for tab in (priya, marek):
        await expect(tab.locator("#window")).to_contain_text("Closing soon")
    await desk.thread.customer_writes("Today?", at=inbox.pool.now() - DAY + 3 * SECOND)
    for tab in (priya, marek):
        await expect(tab.locator("#window")).to_contain_text("Expired")
        await expect(tab.locator(".msgs .event").last).to_contain_text("The WhatsApp window closed")
        assert await tab.evaluate("window.sameDocument")
    await expect(priya.locator("#rows .win")).to_have_text("Expired, window")
    written = await desk.thread.customer_writes("I am back")
    for tab in (priya, marek):
        await expect(tab.locator("#window")).to_contain_text("Open · closes in 2")
        await expect(tab.locator(f"#m-{written}")).to_be_in_viewport()
        assert await tab.evaluate("window.sameDocument")
    await expect(priya.locator("#rows .win")).to_contain_text("window open")


async def test_two_people_see_the_same_statuses_climb_and_a_failure_come(
    inbox: RunningInbox, producer: Producer, browser: Browser, contexts: list[BrowserContext]
) -> None:
    desk = await a_desk_with_a_head(inbox, producer, HOUR)
    tabs = [
        await a_tab(desk, browser, contexts, **COMPUTER),
        await a_tab(desk, browser, contexts, user="marek", **COMPUTER),
    ]
    sent = await desk.thread.is_answered("It is ready.", actor="ai")
    lost = await desk.thread.is_answered("Come at five.", actor="ai")
    for tab in tabs:
        await expect(tab.locator(f"#m-{sent}")).to_contain_text("Pending")
    for status, word in (("sent", "Sent"), ("delivered", "Delivered"), ("read", "Read")):
        await desk.thread.moves(sent, status)
        for tab in tabs:
            await expect(tab.locator(f"#m-{sent} .foot")).to_contain_text(word)
    await desk.thread.moves(lost, "failed", "unknown_outcome")
    for tab in tabs:
        await expect(tab.locator(f"#m-{lost} .fail")).to_contain_text("We do not know whether this arrived")
        await expect(tab.locator(f"#m-{lost}")).to_have_count(1)
        assert await tab.locator(".msg").count() == 3


async def test_a_status_that_climbs_reads_nothing_out_again_and_leaves_the_focus(
    inbox: RunningInbox, producer: Producer, browser: Browser, contexts: list[BrowserContext]
) -> None:
    desk = await a_desk_with_a_head(inbox, producer, HOUR)
    tab = await a_tab(desk, browser, contexts, **COMPUTER)
    sent = await desk.thread.is_answered("It is ready.", actor="ai")
    message = tab.locator(f"#m-{sent}")
    await message.get_by_role("button", name="Quote").focus()
    await tab.evaluate(
        "() => { window.added = []; new MutationObserver((all) => all.forEach((one) => window.added.push("
        "...[...one.addedNodes].filter((node) => !node.parentElement.closest('[aria-live=off]')"
        " && !node.matches?.('[aria-live=off]')).map((node) => node.textContent))))"
        ".observe(document.getElementById('messages'), {childList: true, subtree: true}) }"
    )
    for status, word in (("sent", "Sent"), ("delivered", "Delivered"), ("read", "Read")):
        await desk.thread.moves(sent, status)
        await expect(message.locator(".foot")).to_contain_text(word)
        await expect(message.get_by_role("button", name="Quote")).to_be_focused()
    assert await tab.evaluate("window.added") == []


async def test_a_person_has_more_tabs_than_streams_and_the_one_they_look_at_is_live(
    inbox: RunningInbox, producer: Producer, browser: Browser, contexts: list[BrowserContext]
) -> None:
    desk = await a_desk_with_a_head(inbox, producer, HOUR)
    tabs: list[Page] = []
    for _ in range(OF_A_PERSON + 1):
        for tab in tabs:
            await shows(tab, "hidden")
        tabs.append(await a_tab(desk, browser, contexts, **COMPUTER))
    written = await desk.thread.customer_writes("From my notes:\u2028id: 7")
    await expect(tabs[-1].locator(f"#m-{written}")).to_be_in_viewport()
    await shows(tabs[-1], "hidden")
    await shows(tabs[0], "visible")
    await expect(tabs[0].locator(f"#m-{written}")).to_be_in_viewport()
    await expect(tabs[0].locator("#live")).to_have_text("Live")
    assert await tabs[0].evaluate("window.sameDocument")


async def test_a_page_that_missed_more_than_the_feed_has_shows_what_became_of_its_messages(
    inbox: RunningInbox, producer: Producer, browser: Browser, contexts: list[BrowserContext]
) -> None:
    desk = await a_desk_with_a_head(inbox, producer, HOUR)
    sent = await desk.thread.is_answered("It is ready.", actor="ai")
    tab = await a_tab(desk, browser, contexts, **COMPUTER)
    await tab.route("**/inbox/events", lambda route: route.abort())
    await tab.reload()
    await tab.evaluate("window.sameDocument = true")
    await expect(tab.locator(f"#m-{sent}")).to_contain_text("Pending")
    await desk.thread.moves(sent, "read")
    await tab.evaluate("document.dispatchEvent(new CustomEvent('inbox:reset'))")
    await expect(tab.locator(f"#m-{sent} .foot")).to_contain_text("Read")
    assert await tab.evaluate("window.sameDocument")


@pytest.mark.parametrize("slow", ["**/news?*", "**/messages/*"])
async def test_a_slow_answer_about_a_message_does_not_hide_what_became_of_it_meanwhile(
    inbox: RunningInbox, producer: Producer, browser: Browser, contexts: list[BrowserContext], slow: str
) -> None:
    desk = await a_desk_with_a_head(inbox, producer, HOUR)
    tab = await a_tab(desk, browser, contexts, **COMPUTER)
    answered, gone_on = asyncio.Event(), asyncio.Event()

    async def slowly(route: Route) -> None:
        """The first answer is of its time, and arrives late."""
        answer = await route.fetch()
        if not answered.is_set():
            answered.set()
            await gone_on.wait()
        await route.fulfill(response=answer)

    sent = await desk.thread.is_answered("It is ready.", actor="ai")
    if slow == "**/messages/*":
        await expect(tab.locator(f"#m-{sent}")).to_contain_text("Pending")
        await tab.route(slow, slowly)
        await desk.thread.moves(sent, "sent")
    else:
        await tab.route(slow, slowly)
        await desk.thread.customer_writes("Thanks!")
        sent = await desk.thread.is_answered("See you.", actor="ai")
    await answered.wait()
    await tab.evaluate(
        "() => { window.told = new Promise((done) => document.addEventListener('inbox:update', ({detail}) =>"
        " detail.status === 'delivered' && setTimeout(done, 500))) }"
    )
    await desk.thread.moves(sent, "delivered")
    await tab.evaluate("window.told")
    gone_on.set()
    await expect(tab.locator(f"#m-{sent} .foot")).to_contain_text("Delivered")
    await tab.wait_for_timeout(500)
    await expect(tab.locator(f"#m-{sent} .foot")).to_contain_text("Delivered")


@pytest.mark.parametrize("part", ["news?*", "messages/*", "panel", "list?*", "bell"])
async def test_what_could_not_be_fetched_is_fetched_again(
    inbox: RunningInbox, producer: Producer, browser: Browser, contexts: list[BrowserContext], part: str
) -> None:
    desk = await a_desk_with_a_head(inbox, producer, HOUR)
    tab = await a_tab(desk, browser, contexts, **COMPUTER)
    sent = await desk.thread.is_answered("It is ready.", actor="ai")
    await expect(tab.locator(f"#m-{sent}")).to_contain_text("Pending")
    await expect(tab.locator("#rows")).to_contain_text("It is ready.")
    refused, is_back = asyncio.Event(), False

    async def away(route: Route) -> None:
        if is_back:
            await route.continue_()
        elif refused.is_set():
            await route.abort()
        else:
            refused.set()
            await route.fulfill(status=503)

    await tab.route(f"**/inbox/{part}" if part in ("list?*", "bell") else f"**/inbox/**/{part}", away)
    if part == "messages/*":
        await desk.thread.moves(sent, "sent")
    else:
        written = await desk.thread.customer_writes("Thanks!", at=inbox.pool.now())
    await refused.wait()
    await tab.wait_for_timeout(1500)  # nothing else is told: what comes now is asked for again
    is_back = True
    match part:
        case "messages/*":
            await expect(tab.locator(f"#m-{sent} .foot")).to_contain_text("Sent")
        case "news?*":
            await expect(tab.locator(f"#m-{written}")).to_be_in_viewport()
        case "panel" | "bell":
            async with tab.expect_response(lambda answer: answer.url.endswith(f"/{part}") and answer.ok):
                pass
        case _:
            await expect(tab.locator("#rows")).to_contain_text("Thanks!")


async def test_who_reads_a_conversation_reads_it_for_themselves_alone(
    inbox: RunningInbox, producer: Producer, browser: Browser, contexts: list[BrowserContext]
) -> None:
    desk = await a_desk_with_a_head(inbox, producer, HOUR)
    marek = await a_tab(desk, browser, contexts, user="marek", **COMPUTER)
    await marek.goto(f"{desk.staff.origin}/inbox?view=unread")
    await expect(marek.locator("#rows")).to_contain_text("You have read everything")
    await desk.thread.customer_writes("Hello?")
    await expect(marek.locator("#rows .unread")).to_contain_text("Hello?")
    await expect(marek.locator("#views [aria-current] .count")).to_contain_text("1")
    priya = await a_tab(desk, browser, contexts, **COMPUTER)
    await expect(priya.get_by_text("Hello?").last).to_be_in_viewport()
    await expect(marek.locator("#rows .unread")).to_have_count(1)
    await marek.keyboard.press("j")
    await marek.keyboard.press("Enter")
    await expect(marek.locator("#thread-h")).to_have_text("Amara Okafor")
    await marek.goto(f"{desk.staff.origin}/inbox?view=unread")
    await expect(marek.locator("#rows")).to_contain_text("You have read everything")


async def test_without_scripts_a_phone_reads_lists_and_signs_out(
    inbox: RunningInbox, producer: Producer, browser: Browser, contexts: list[BrowserContext]
) -> None:
    desk = await a_desk_with_a_head(inbox, producer, HOUR)
    context = await phone(browser, java_script_enabled=False, locale="de-DE")
    contexts.append(context)
    cookies = desk.staff.client.cookies.jar
    await context.add_cookies([{"name": c.name, "value": c.value or "", "url": desk.staff.origin} for c in cookies])
    tab = await context.new_page()
    await tab.goto(f"{desk.staff.origin}/inbox")
    await expect(tab.locator("h1")).to_have_text("Alle")
    await tab.locator("#rows a.row").tap()
    await expect(tab.locator(".log").get_by_text("Is the Corsa ready?")).to_be_in_viewport()
    await expect(tab.locator("#window")).to_contain_text("Offen · schließt in 22 Std. 59 Min.")
    await tab.locator(".more").tap()
    await expect(tab.locator("#details")).to_contain_text("+44 7700 900888")
    await tab.locator("#details .close").tap()
    await tab.locator(".thread-head .back").tap()
    await expect(tab.locator("#rows")).to_contain_text("Amara Okafor")


async def test_a_technician_sees_the_customer_without_a_number(
    inbox: RunningInbox, producer: Producer, browser: Browser, contexts: list[BrowserContext]
) -> None:
    desk = await a_desk(inbox, producer, capabilities=TECHNICIAN)
    tab = await a_tab(desk, browser, contexts, **COMPUTER)
    await expect(tab.locator("#details")).to_contain_text("+44 •••• ••• 888")
    await expect(tab.locator(".takeover")).to_have_count(0)
    assert "900888" not in (await tab.content()).replace(" ", "")


@pytest.mark.parametrize(
    "case", [*product(["that remains", "that is gone"], ["", "On Monday"], ["", "We are on it"])], ids=" ".join
)
async def test_an_open_page_shows_the_whole_thread_once_two_have_become_one_and_keeps_what_was_typed_in_both(
    inbox: RunningInbox, producer: Producer, browser: Browser, contexts: list[BrowserContext], case: tuple[str, ...]
) -> None:
    open_one, *drafts = case
    desk = await a_desk_with_a_head(inbox, producer, HOUR)
    known = desk.thread
    other = replace(known, conversation_id=uuid4(), customer_id=uuid4())
    async with inbox.pool.acquire() as db:
        await world.a_customer(db, other.org_id, other.customer_id, None)
        await world.a_conversation(db, other.org_id, other.conversation_id, other.customer_id, other.number)
    older = await other.customer_writes("Under another name", at=inbox.pool.now() - HOUR)
    newer = await known.customer_writes("Is anybody there?")
    loser, winner = (other, known) if open_one == "that remains" else (known, other)
    tab = await a_tab(desk, browser, contexts, **COMPUTER)
    for thread, draft in ((other, drafts[0]), (known, drafts[1])):
        await tab.goto(f"{desk.staff.origin}/inbox/{thread.conversation_id}")
        await tab.locator("#text").fill(draft)
    await expect(tab.locator(f"#m-{newer}")).to_be_visible()
    async with inbox.pool.acquire() as db, db.transaction():
        await merge_customers(db, [Merge(known.org_id, loser.customer_id, winner.customer_id)])
    await expect(tab.locator(f"#m-{older}")).to_be_visible()
    await expect(tab.locator(f"#m-{newer}")).to_be_visible()
    await expect(tab.locator(f"#m-{older} ~ #m-{newer}")).to_have_count(1)
    typed = drafts if winner is other else drafts[::-1]
    await expect(tab.locator("#text")).to_have_value("\n".join(filter(None, typed)))
    assert tab.url.endswith(f"/inbox/{winner.conversation_id}")
    await tab.evaluate("window.sameDocument = true")
    last = await winner.customer_writes("Now I see both")
    await expect(tab.locator(f"#m-{last}")).to_be_visible()
    assert await tab.evaluate("window.sameDocument")


@pytest.mark.parametrize("since", ["", "And the bill"])
async def test_a_sent_text_whose_answer_tells_of_the_merge_leaves_the_other_draft_and_does_not_come_back(
    inbox: RunningInbox, producer: Producer, browser: Browser, contexts: list[BrowserContext], since: str
) -> None:
    desk = await a_desk_with_a_head(inbox, producer, HOUR)
    known = desk.thread
    other = replace(known, conversation_id=uuid4(), customer_id=uuid4())
    async with inbox.pool.acquire() as db:
        await world.a_customer(db, other.org_id, other.customer_id, None)
        await world.a_conversation(db, other.org_id, other.conversation_id, other.customer_id, other.number)
    await other.customer_writes("Under another name", at=inbox.pool.now() - HOUR)
    await known.customer_writes("Is anybody there?")
    tab = await a_tab(desk, browser, contexts, **COMPUTER)
    await tab.route("**/inbox/events", lambda route: route.abort())
    for thread, draft in ((other, "On Monday"), (known, "We are on it")):
        await tab.goto(f"{desk.staff.origin}/inbox/{thread.conversation_id}")
        await tab.locator("#text").fill(draft)
    async with inbox.pool.acquire() as db, db.transaction():
        await merge_customers(db, [Merge(known.org_id, known.customer_id, other.customer_id)])

    async def answer_late(route: Route) -> None:
        await tab.locator("#text").fill(since)
        await route.continue_()

    await tab.route("**/messages", answer_late)
    await tab.locator("#send").click()
    await expect(tab.locator("#composer")).to_have_attribute("data-conversation", str(other.conversation_id))
    left = "\n".join(filter(None, ["On Monday", since]))
    await expect(tab.locator("#text")).to_have_value(left)
    await tab.goto(f"{desk.staff.origin}/inbox/{other.conversation_id}")
    await expect(tab.locator("#text")).to_have_value(left)
