"""The composer in a real Chromium, on a running inbox: it flips, keeps what is typed, sends, parks and takes over."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest_asyncio
from axe_playwright_python.base import AXE_SCRIPT
from playwright.async_api import Browser, BrowserContext, Page, Route, expect

from libs.common.ids import bridge_message_id
from libs.common.kafka.producer import Producer
from tests.integration.test_portal_pages import AXE, SCHEMES
from tests.support.browser import DESKTOP, phone
from tests.support.erased import erase
from tests.support.inbox import ADVISOR, OWNER, TECHNICIAN, RunningInbox
from tests.support.inbox_composer import DAY, HOUR, MINUTE, Desk, a_desk, a_template, intents
from tests.support.inbox_thread import a_thread, publishing

COMPUTER: dict[str, Any] = {
    "viewport": {"width": DESKTOP[0], "height": DESKTOP[1]},
    "is_mobile": False,
    "has_touch": False,
    "device_scale_factor": 1,
}


@pytest_asyncio.fixture(scope="module")
async def producer(inbox: RunningInbox) -> AsyncIterator[Producer]:
    async with publishing(inbox) as made:
        yield made


async def a_tab(
    desk: Desk, browser: Browser, contexts: list[BrowserContext], *, user: str | None = None, **options: Any
) -> Page:
    """The conversation in a browser of Priya's, or of a colleague's."""
    staff = desk.staff
    if user is not None:
        staff = await desk.thread.inbox.staff(desk.thread.org_id, ADVISOR, user)
    context = await phone(browser, **options)
    contexts.append(context)
    await context.add_cookies(
        [{"name": c.name, "value": c.value or "", "url": staff.origin} for c in staff.client.cookies.jar]
    )
    tab = await context.new_page()
    faults: list[str] = []
    tab.on("pageerror", lambda error: faults.append(str(error)))
    await tab.goto(f"{staff.origin}{desk.path}")
    await expect(tab.locator("#live")).to_have_text("Live")
    await tab.evaluate("window.sameDocument = true")
    assert faults == []
    return tab


async def test_at_expiry_the_composer_is_the_picker_and_back_with_the_text_kept(
    inbox: RunningInbox, producer: Producer, browser: Browser, contexts: list[BrowserContext]
) -> None:
    desk = await a_desk(inbox, producer, ago=DAY - 9 * MINUTE)
    await a_template(desk)
    tab = await a_tab(desk, browser, contexts, **COMPUTER)
    field = tab.locator("#text")
    await expect(tab.locator("#answer-before")).to_contain_text("Answer before")
    await field.fill("Also, shall we keep the old")
    await field.press("ArrowLeft")
    await desk.thread.customer_writes("Today?", at=inbox.pool.now() - DAY + timedelta(seconds=2))
    await expect(tab.locator("#picker")).to_be_visible()
    await expect(tab.locator("#send")).to_have_count(0)
    await expect(field).to_be_focused()
    await expect(field).to_have_value("Also, shall we keep the old")
    assert await field.evaluate("one => one.selectionStart") == len("Also, shall we keep the old") - 1
    await expect(tab.locator("#announce")).to_contain_text("your unsent text is kept")
    await expect(tab.locator("#window")).to_contain_text("Expired")
    await field.press("Control+Enter")
    await expect(tab.locator("#tq")).to_be_focused()

    await tab.reload()
    await expect(field).to_have_value("Also, shall we keep the old")
    await tab.evaluate("window.sameDocument = true")
    await desk.thread.customer_writes("I am back")
    await expect(tab.locator("#send")).to_be_visible()
    await expect(field).to_have_value("Also, shall we keep the old")
    assert await tab.evaluate("window.sameDocument")


async def test_a_template_is_chosen_filled_in_and_sent_with_the_keyboard_alone(
    inbox: RunningInbox, producer: Producer, browser: Browser, contexts: list[BrowserContext]
) -> None:
    desk = await a_desk(inbox, producer, ago=25 * HOUR)
    await a_template(desk)
    await a_template(desk, "car_is_ready", body="Hi {{customer_name}}, come and collect it.")
    await a_template(desk, "winter_offer", category="MARKETING", body="Tyres!")
    tab = await a_tab(desk, browser, contexts, **COMPUTER)
    await expect(tab.locator(".option", has_text="Winter offer")).to_contain_text("Marketing is switched off for Amara")
    await tab.keyboard.press("t")
    await expect(tab.locator("#tq")).to_be_focused()
    await tab.keyboard.type("decision")
    await expect(tab.locator(".option")).to_have_count(1)
    await expect(tab.locator("#tq")).to_be_focused()
    await tab.keyboard.press("Tab")
    await a_template(desk, "decision_made", body="We have your decision.")
    await tab.evaluate("document.dispatchEvent(new CustomEvent('inbox:reset'))")
    await expect(tab.locator(".option")).to_have_count(2)
    await tab.keyboard.press("Space")
    vehicle = tab.get_by_label("Vehicle")
    await expect(vehicle).to_be_visible()
    await expect(tab.locator("#preview mark.gap")).to_have_text("Vehicle")
    await tab.locator("#send-template").focus()
    await tab.keyboard.press("Enter")
    await expect(vehicle).to_be_focused()
    await expect(vehicle).to_have_attribute("aria-invalid", "true")
    await tab.keyboard.type("Corsa")
    await expect(tab.locator("#preview")).to_contain_text("your decision on your Corsa")
    await expect(tab.locator("#preview mark.gap")).to_have_count(0)
    await tab.keyboard.press("Control+Enter")
    await expect(vehicle).to_have_count(0)
    [intent] = await intents(desk)
    assert intent["content"]["parameters"] == {"customer_name": "Amara", "vehicle": "Corsa"}


async def test_a_failure_says_why_and_its_action_helps_closed_and_open(
    inbox: RunningInbox, producer: Producer, browser: Browser, contexts: list[BrowserContext]
) -> None:
    desk = await a_desk(inbox, producer, ago=25 * HOUR)
    await a_template(desk)
    failed = await desk.thread.is_answered(
        "The clutch is done.", actor="staff", status="failed", reason="window_expired_bridge_sent"
    )
    tab = await a_tab(desk, browser, contexts)
    bubble = tab.locator(f"#m-{failed}")
    await expect(bubble).to_contain_text("Not delivered: the window had closed.")
    await bubble.get_by_role("button", name="Send a template now").tap()
    await expect(tab.locator("#tq")).to_be_in_viewport()
    await desk.thread.customer_writes("Hello?")
    await bubble.get_by_role("button", name="Send again").tap()
    await expect(tab.locator("#held")).to_be_visible()
    [intent] = await intents(desk)
    assert intent["content"]["text"] == "The clutch is done."
    assert intent["intent_id"] != str(failed)


async def test_the_customer_is_asked_by_sms_and_the_bridge_is_in_the_thread(
    inbox: RunningInbox, producer: Producer, browser: Browser, contexts: list[BrowserContext]
) -> None:
    desk = await a_desk(inbox, producer, ago=25 * HOUR)
    tab = await a_tab(desk, browser, contexts, **COMPUTER)
    await expect(tab.get_by_role("heading", name="No approved templates yet")).to_be_visible()
    await expect(tab.locator("#ask")).to_contain_text("£0.0400")
    await tab.keyboard.press("b")
    await expect(tab.locator("#ask-button")).to_be_focused()
    await tab.keyboard.press("Enter")
    await expect(tab.locator("#ask-button")).not_to_have_attribute("aria-disabled", "true")
    [intent] = await intents(desk)
    assert intent["content"] == {"kind": "bridge"}

    asked = bridge_message_id(UUID(intent["intent_id"]))
    made = await desk.thread.is_answered(
        "AcmeMotors: Update for you.", actor="system", channel="sms", notification_type="bridge", publish=False
    )
    await desk.thread.run("update messages set message_id = $2 where message_id = $1", made, asked)
    await desk.thread.run(
        "insert into bridge_slots (conversation_id, org_id, intent_id, held_until)"
        " values ($1, $2, $3, now() + interval '20 hours')",
        *(desk.thread.conversation_id, desk.thread.org_id, UUID(intent["intent_id"])),
    )
    await desk.thread.moves(asked, "delivered")
    await expect(tab.locator("#ask-button")).to_have_attribute("aria-disabled", "true")
    await expect(tab.locator("#asked")).to_contain_text("The next SMS is possible")
    await expect(tab.locator(f"#m-{asked}")).to_contain_text("bridge SMS")


async def test_a_text_is_parked_offered_when_the_customer_writes_and_released(
    inbox: RunningInbox, producer: Producer, browser: Browser, contexts: list[BrowserContext]
) -> None:
    desk = await a_desk(inbox, producer, ago=25 * HOUR)
    tab = await a_tab(desk, browser, contexts)
    parked = tab.locator(".kept", has_text="The flywheel is in stock.")
    kept = parked.and_(tab.locator("[id^=parked-]"))

    async def answer_late(route: Route) -> None:
        """Every open page is told of the text before its own form is answered."""
        answer = await route.fetch(max_redirects=0)
        await expect(kept).to_have_count(1)
        await route.fulfill(response=answer)

    await tab.route("**/parked", answer_late)
    await tab.locator("#text").fill("The flywheel is in stock.")
    async with tab.expect_response("**/parked"):
        await tab.get_by_role("button", name="Send when they write").tap()
    await expect(kept).to_contain_text("Waits until Amara writes")
    await expect(tab.locator("#text")).to_have_value("")
    await expect(parked).to_have_count(1)
    assert await intents(desk) == []
    await desk.thread.customer_writes("And?")
    await expect(tab.locator("#offered")).to_contain_text("Amara wrote, the window is open.")
    await expect(tab.locator("#details")).to_contain_text("Closes")
    await kept.get_by_role("button", name="Send").tap()
    await expect(kept).to_have_count(0)
    [intent] = await intents(desk)
    assert intent["content"]["text"] == "The flywheel is in stock."


async def test_a_stream_of_events_does_not_put_off_what_the_composer_shows(
    inbox: RunningInbox, producer: Producer, browser: Browser, contexts: list[BrowserContext]
) -> None:
    desk = await a_desk(inbox, producer)
    tab = await a_tab(desk, browser, contexts, **COMPUTER)

    async def slowly(route: Route) -> None:
        await asyncio.sleep(0.3)
        await route.continue_()

    await tab.route("**/compose", slowly)
    await tab.evaluate("setInterval(() => document.dispatchEvent(new CustomEvent('inbox:reset')), 80)")
    await desk.presses("hold")
    await expect(tab.locator("#held")).to_be_visible()


async def test_in_closing_soon_who_sends_goes_on_to_the_next_conversation(
    inbox: RunningInbox, producer: Producer, browser: Browser, contexts: list[BrowserContext]
) -> None:
    desk = await a_desk(inbox, producer, ago=None)
    later = await a_thread(inbox, producer, desk.thread.org_id, name="Zoe", phone="+447700900889")
    now = inbox.pool.now()
    await desk.thread.customer_writes("Today?", at=now - DAY + timedelta(minutes=9))
    await later.customer_writes("Tomorrow?", at=now - DAY + timedelta(minutes=50))
    while (await desk.staff.get("/inbox?view=closing")).text.count('class="row') < 2:
        pass
    tab = await a_tab(desk, browser, contexts, **COMPUTER)
    await tab.goto(f"{desk.staff.origin}{desk.path}?view=closing")
    await tab.locator("#text").fill("Yes, at five.")
    await tab.locator("#text").press("Control+Enter")
    await expect(tab.locator("#thread-h")).to_have_text("Zoe")
    await expect(tab.locator("#text")).to_have_value("")
    [intent] = await intents(desk)
    assert intent["content"]["text"] == "Yes, at five."


async def test_who_signs_out_on_a_phone_leaves_no_text_behind(
    inbox: RunningInbox, producer: Producer, browser: Browser, contexts: list[BrowserContext]
) -> None:
    desk = await a_desk(inbox, producer, ago=25 * HOUR)
    tab = await a_tab(desk, browser, contexts)
    await tab.locator("#text").fill("Between us: the clutch is gone.")
    kept = "JSON.stringify(sessionStorage).includes('clutch')"
    assert await tab.evaluate(kept)
    await tab.locator(".thread-head .back").tap()
    await expect(tab.locator("#rows")).to_be_visible()
    await tab.get_by_role("button", name="Sign out").tap()
    await expect(tab.get_by_text("You are signed out.")).to_be_visible()
    assert not await tab.evaluate(kept)


async def test_a_text_for_a_customer_who_is_erased_goes_from_the_tab(
    inbox: RunningInbox, producer: Producer, browser: Browser, contexts: list[BrowserContext]
) -> None:
    desk = await a_desk(inbox, producer)
    tab = await a_tab(desk, browser, contexts, **COMPUTER)
    await tab.locator("#text").fill("Your gearbox, Zebulon, is done.")
    kept = "JSON.stringify(sessionStorage).includes('gearbox')"
    assert await tab.evaluate(kept)
    await erase(inbox.pool, desk.thread.org_id, desk.thread.conversation_id)
    await expect(tab.get_by_text("This customer was erased")).to_be_visible()
    await tab.wait_for_function(f"!({kept})")
    await expect(tab.get_by_text("Zebulon")).to_have_count(0)


async def test_staff_take_over_and_let_the_ai_answer_in_every_open_browser(
    inbox: RunningInbox, producer: Producer, browser: Browser, contexts: list[BrowserContext]
) -> None:
    desk = await a_desk(inbox, producer)
    priya = await a_tab(desk, browser, contexts, **COMPUTER)
    marek = await a_tab(desk, browser, contexts, user="marek", **COMPUTER)
    await priya.get_by_role("button", name="Take over").click()
    for tab in (priya, marek):
        await expect(tab.locator("#held")).to_contain_text("until priya releases it or")
        await expect(tab.locator("#take-over")).to_be_hidden()
    await marek.get_by_role("button", name="Let the AI answer").click()
    for tab in (priya, marek):
        await expect(tab.locator("#held")).to_have_count(0)
        await expect(tab.locator("#take-over")).to_be_visible()


async def test_a_colleague_who_answers_is_told_to_the_one_who_writes_and_a_text_is_pending_at_once(
    inbox: RunningInbox, producer: Producer, browser: Browser, contexts: list[BrowserContext]
) -> None:
    desk = await a_desk(inbox, producer)
    tab = await a_tab(desk, browser, contexts, **COMPUTER)
    await tab.keyboard.press("r")
    await tab.keyboard.type("Yes, we can do it to")
    await desk.thread.is_answered("Olga's answer", actor="staff")
    await expect(tab.locator("#colleague")).to_contain_text("olga answered at")
    await expect(tab.get_by_role("button", name="Send anyway")).to_be_visible()
    await tab.keyboard.type("day")
    await tab.keyboard.press("Control+Enter")
    mine = tab.locator(".msg.out", has_text="Yes, we can do it today")
    await expect(mine).to_contain_text("Pending")
    await expect(tab.locator("#text")).to_have_value("")
    await expect(tab.locator("#colleague")).to_have_count(0)

    await tab.route("**/messages", lambda route: route.abort())
    await tab.locator("#text").fill("This one does not go")
    await tab.locator("#text").press("Control+Enter")
    await expect(tab.get_by_role("alert")).to_contain_text("Not sent.")
    await expect(tab.locator("#text")).to_have_value("This one does not go")
    await expect(mine).to_have_count(1)
    await tab.unroute("**/messages")
    await tab.locator("#text").press("Control+Enter")
    await expect(tab.locator(".msg.out[id]", has_text="This one does not go")).to_be_visible()
    assert [one["content"]["text"] for one in await intents(desk)] == [
        "Yes, we can do it today",
        "This one does not go",
    ]


async def test_keys_lead_everywhere_send_nothing_by_themselves_and_can_be_switched_off(
    inbox: RunningInbox, producer: Producer, browser: Browser, contexts: list[BrowserContext]
) -> None:
    desk = await a_desk(inbox, producer)
    tab = await a_tab(desk, browser, contexts, **COMPUTER)
    await tab.keyboard.press("?")
    await expect(tab.locator("#keys")).to_be_visible()
    await tab.keyboard.press("Escape")
    await expect(tab.locator("#keys")).to_be_hidden()
    await expect(tab.locator("#keys-off")).not_to_be_focused()  # the browser takes the focus away with its next frame
    await tab.keyboard.press("r")
    await expect(tab.locator("#text")).to_be_focused()
    await tab.keyboard.type("rtb?")
    await expect(tab.locator("#text")).to_have_value("rtb?")
    await tab.locator("#via").select_option("sms")
    await tab.locator("#text").fill("ł" * 71)
    await expect(tab.locator("#segments")).to_have_text("2 segments, about £0.0800")
    await expect(tab.locator("#length")).to_have_text("71 of 4,096")
    await tab.keyboard.press("Escape")
    await expect(tab.locator("#text")).not_to_be_focused()
    await tab.keyboard.press("t")
    await expect(tab.locator("#picker")).to_be_visible()
    await tab.get_by_role("button", name="Back to the text").click()
    await expect(tab.locator("#text")).to_have_value("ł" * 71)
    await tab.keyboard.press("?")
    await tab.locator("#keys-off").check()
    await tab.keyboard.press("Escape")
    await tab.keyboard.press("/")
    await expect(tab.locator("#q")).not_to_be_focused()
    assert await intents(desk) == []


async def test_three_roles_see_what_they_may_do_and_axe_finds_nothing(
    inbox: RunningInbox, producer: Producer, browser: Browser, contexts: list[BrowserContext]
) -> None:
    found: list[str] = []
    for role, ago, seen in (
        (TECHNICIAN, HOUR, "Writing needs the permission messages.send"),
        (ADVISOR, 25 * HOUR, "Your role cannot make templates"),
        (OWNER, HOUR, "Never signed in to the portal"),
    ):
        desk = await a_desk(inbox, producer, ago=ago, capabilities=role)
        tab = await a_tab(desk, browser, contexts, **COMPUTER)
        await expect(tab.locator("#composer")).to_contain_text(seen)
        assert await tab.locator("#take-over").count() == (role != TECHNICIAN)
        found += await _accessible(tab, seen)
    assert found == []


async def test_axe_finds_nothing_where_fields_are_missing_texts_wait_and_the_ai_is_held_on_a_phone(
    inbox: RunningInbox, producer: Producer, browser: Browser, contexts: list[BrowserContext]
) -> None:
    desk = await a_desk(inbox, producer, ago=25 * HOUR)
    await a_template(desk)
    await desk.presses("parked", text="The flywheel is in stock.")
    await desk.presses("hold")
    tab = await a_tab(desk, browser, contexts)
    await tab.locator(".option", has_text="Decision needed").tap()
    await tab.get_by_label("Vehicle").wait_for()
    await tab.locator("#send-template").tap()
    await expect(tab.locator("[aria-invalid]")).to_have_count(1)
    assert await _accessible(tab, "picker") == []
    await desk.thread.customer_writes("Hello?")
    await expect(tab.locator("#offered")).to_be_visible()
    assert await _accessible(tab, "offer") == []


async def _accessible(tab: Page, name: str) -> list[str]:
    """What axe finds in light and dark."""
    found: list[str] = []
    await tab.evaluate(AXE_SCRIPT)
    for scheme, rules in SCHEMES:
        await tab.emulate_media(color_scheme=scheme)
        found += [f"{name}, {scheme}: {one}" for one in await tab.evaluate(AXE, rules)]
    return found
