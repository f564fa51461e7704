"""The portal in a real Chromium, on real servers: a phone opens its link, reads, writes and stays in step."""

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest_asyncio
from playwright.async_api import Browser, Page, Request, Route, expect

from deploy.local.servers.ports import free_port
from libs.common.kafka.connection import KafkaConnection
from tests.support.portal_served import ServedPortal, a_served_portal
from tests.support.tls_proxy import a_tls_proxy
from tests.support.waiting import eventually

HIDDEN = "Object.defineProperty(document, 'visibilityState', {get: () => 'hidden'})"
ANNA = "+447700900888"


@pytest_asyncio.fixture
async def portal(
    database: str, redis_url: str, kafka_of_portal: KafkaConnection, browser: Browser
) -> AsyncIterator[ServedPortal]:
    async with a_served_portal(database, redis_url, kafka_of_portal, browser) as served:
        yield served


async def test_a_phone_opens_its_link_and_the_conversation_moves_by_itself(portal: ServedPortal) -> None:
    kim = await portal.site.a_person()
    await portal.site.a_message(kim, "Your Golf is ready.")
    asked: list[Request] = []
    context = await portal.visitor()
    context.on("request", lambda request: asked.append(request))  # noqa: PLW0108 (builtins cannot be hooked in)
    tab = await context.new_page()
    await tab.goto(await portal.link(kim))
    await tab.wait_for_url(f"{portal.url}/conversation")
    await expect(tab.get_by_role("heading", level=1)).to_have_text("AcmeMotors")
    await expect(tab.get_by_text("Your Golf is ready.")).to_be_in_viewport()
    await expect(tab.get_by_text("…99")).to_be_visible()
    await tab.evaluate("window.sameDocument = true")

    await portal.site.a_message(kim, "Shall we keep it overnight?")
    await expect(tab.get_by_text("Shall we keep it overnight?")).to_be_in_viewport()

    field = tab.get_by_label("Your message")
    await field.fill("Yes please,\nuntil Friday <3")
    await tab.get_by_role("button", name="Send").tap()
    await expect(field).to_have_value("")
    mine = tab.locator(".msg.out")
    await expect(mine).to_contain_text("until Friday <3")
    await expect(mine.get_by_text("Sent", exact=True)).to_be_visible()
    [written] = [event for event in await portal.site.told() if event["type"] == "portal.message.v1"]
    assert written["text"] == "Yes please,\nuntil Friday <3"

    stored = await portal.site.a_message(kim, written["text"], direction="in", channel="portal")
    await expect(tab.locator(f"#m-{stored}")).to_be_visible()
    await expect(mine).to_have_count(1)
    await portal.site.run("update messages set read_at = now() where message_id = $1", stored)
    await expect(mine.get_by_text("Seen")).to_be_visible()
    assert await tab.evaluate("window.sameDocument")
    assert {request.url.split("/")[2] for request in asked} == {portal.host}


async def test_without_scripts_a_phone_reads_and_writes(portal: ServedPortal) -> None:
    kim = await portal.site.a_person()
    await portal.site.a_message(kim, "Your Golf is ready.")
    tab = await portal.signed_in(kim, java_script_enabled=False)
    await expect(tab.get_by_text("Your Golf is ready.")).to_be_in_viewport()
    await tab.get_by_label("Your message").fill("I come at five")
    await tab.get_by_role("button", name="Send").tap()
    await tab.wait_for_url(f"{portal.url}/conversation")
    await expect(tab.get_by_text("Your message is on its way.")).to_be_visible()
    [written] = [event for event in await portal.site.told() if event["type"] == "portal.message.v1"]
    assert written["text"] == "I come at five"

    await portal.site.a_message(kim, "I come at five", direction="in", channel="portal")
    await tab.get_by_role("link", name="Look again").tap()
    await expect(tab.locator(".msg.out")).to_contain_text("I come at five")

    long = "x" * 4_097
    await tab.get_by_label("Your message").fill(long)
    await tab.get_by_role("button", name="Send").tap()
    await expect(tab.get_by_role("alert")).to_contain_text("longer than 4,096 characters")
    await expect(tab.get_by_label("Your message")).to_have_value(long)


async def test_what_a_scanner_loads_with_scripts_but_does_not_show_uses_up_no_link(portal: ServedPortal) -> None:
    kim = await portal.site.a_person()
    link = await portal.link(kim)
    scanner = await portal.visitor()
    await scanner.add_init_script(HIDDEN)
    tab = await scanner.new_page()
    for _ in range(3):
        await tab.goto(link)
        await expect(tab.get_by_role("button", name="Open the conversation")).to_be_visible()
        await tab.wait_for_timeout(200)
    assert await portal.site.value("select count(*) from portal_links where used_at is not null") == 0
    person = await (await portal.visitor()).new_page()
    await person.goto(link)
    await person.wait_for_url(f"{portal.url}/conversation")


async def test_where_the_organisation_wants_a_tap_nothing_opens_by_itself(portal: ServedPortal) -> None:
    kim = await portal.site.a_person(policy={"portal_button": True})
    tab = await (await portal.visitor()).new_page()
    await tab.goto(await portal.link(kim))
    await tab.wait_for_timeout(300)
    await tab.get_by_role("button", name="Open the conversation").tap()
    await tab.wait_for_url(f"{portal.url}/conversation")


async def test_a_second_link_asks_before_it_ends_the_first_session(portal: ServedPortal) -> None:
    kim, anna = await portal.site.a_person(), await portal.site.a_person(phone=ANNA)
    await portal.site.a_message(anna, "For Anna alone")
    tab = await portal.signed_in(kim)
    await tab.goto(await portal.link(anna))
    await expect(tab.get_by_role("heading", level=1)).to_have_text("Open another conversation?")
    await expect(tab.get_by_text("ends in 99")).to_be_visible()
    await tab.get_by_role("link", name="Stay in the other one").tap()
    await expect(tab.get_by_text("…99")).to_be_visible()
    await tab.goto(await portal.link(anna))
    await tab.get_by_role("button", name="Open this conversation").tap()
    await expect(tab.get_by_text("For Anna alone")).to_be_visible()
    await expect(tab.get_by_text("…88")).to_be_visible()


async def test_nothing_typed_and_no_message_is_lost_while_the_connection_is(portal: ServedPortal) -> None:
    kim = await portal.site.a_person()
    await portal.site.a_message(kim, "Your Golf is ready.")
    tab = await portal.signed_in(kim)
    field, send = tab.get_by_label("Your message"), tab.get_by_role("button", name="Send")
    await field.press_sequentially("Half a sen")
    await tab.reload()
    await expect(field).to_have_value("Half a sen")
    await tab.wait_for_function("() => document.querySelector('#offline').hidden")

    await portal.stop()
    await field.fill("Half a sentence")
    await send.tap()
    await expect(tab.get_by_role("alert")).to_have_text("Not sent. Your text is still here, please try again.")
    await expect(field).to_have_value("Half a sentence")
    await expect(tab.locator(".msg.out")).to_have_count(0)
    await expect(tab.get_by_text("Not live since")).to_be_visible()
    await portal.site.a_message(kim, "While you were away")

    await portal.start()
    await expect(tab.get_by_text("While you were away")).to_be_visible()
    await expect(tab.get_by_text("Not live since")).to_be_hidden()
    await expect(tab.get_by_text("Your Golf is ready.")).to_have_count(1)
    await send.tap()
    await expect(tab.locator(".msg.out").get_by_text("Sent", exact=True)).to_be_visible()
    await expect(tab.get_by_role("alert")).to_be_hidden()
    written = [event for event in await portal.site.told() if event["type"] == "portal.message.v1"]
    assert [event["text"] for event in written] == ["Half a sentence"]


async def test_a_text_with_separators_of_unicode_does_not_stop_the_stream(portal: ServedPortal) -> None:
    kim = await portal.site.a_person()
    tab = await portal.signed_in(kim)
    await portal.site.a_message(kim, "From my notes:\u2028id: 7\u2029event: gone\x85bye")
    await expect(tab.get_by_text("From my notes:")).to_be_visible()
    await portal.site.a_message(kim, "And the next")
    await expect(tab.get_by_text("And the next")).to_be_visible()


async def test_a_text_whose_answer_was_lost_is_shown_once_and_not_called_unsent(portal: ServedPortal) -> None:
    kim = await portal.site.a_person()
    tab = await portal.signed_in(kim)
    field, mine = tab.get_by_label("Your message"), tab.locator(".msg.out")
    taken: list[Route] = []

    async def take(route: Route) -> None:
        await route.fetch(max_redirects=0)
        taken.append(route)

    await tab.route("**/conversation/messages", take)
    # the message comes back before its answer is given up, and after
    await field.fill("The first")
    await field.press("Control+Enter")
    await eventually(lambda: len(taken) == 1)
    stored = await portal.site.a_message(kim, "The first", direction="in", channel="portal")
    await expect(tab.locator(f"#m-{stored}")).to_be_visible()
    await field.fill("Half a sen")
    async with tab.expect_event("requestfailed"):
        await taken[0].abort()
    await field.press_sequentially("tence")
    await expect(field).to_have_value("Half a sentence")
    await expect(tab.get_by_role("alert")).to_be_hidden()
    await field.fill("The second")
    await field.press("Control+Enter")
    await eventually(lambda: len(taken) == 2)
    await taken[1].abort()
    await expect(tab.get_by_role("alert")).to_have_text("Not sent. Your text is still here, please try again.")
    await expect(field).to_have_value("The second")
    stored = await portal.site.a_message(kim, "The second", direction="in", channel="portal")
    await expect(tab.locator(f"#m-{stored}")).to_be_visible()
    await expect(field).to_have_value("")
    await expect(tab.get_by_role("alert")).to_be_hidden()
    await expect(mine).to_have_count(2)
    written = [event for event in await portal.site.told() if event["type"] == "portal.message.v1"]
    assert [event["text"] for event in written] == ["The first", "The second"]


async def test_what_comes_in_never_moves_what_is_being_read(portal: ServedPortal) -> None:
    kim = await portal.site.a_person()
    for number in range(12):
        await portal.site.a_message(kim, f"Line {number} of a long story about a car, its brakes and its owner.")
    tab = await portal.signed_in(kim)
    log = tab.get_by_role("log")
    await log.evaluate("(log) => { log.scrollTop = -400 }")
    top = "(log) => log.querySelector('.msg').getBoundingClientRect().top"
    before = await log.evaluate(top)
    for number in range(2):
        await portal.site.a_message(kim, f"New {number}")
    jump = tab.get_by_role("button", name="New messages: 2")
    await expect(jump).to_be_visible()
    assert abs(await log.evaluate(top) - before) < 1
    await jump.tap()
    await expect(tab.get_by_text("New 1")).to_be_in_viewport()
    await expect(jump).to_be_hidden()
    await portal.site.a_message(kim, "New 2")
    await expect(tab.get_by_text("New 2")).to_be_in_viewport()
    await expect(tab.locator("#jump")).to_be_hidden()


async def test_what_changed_while_the_connection_was_lost_comes_without_a_reload(portal: ServedPortal) -> None:
    kim = await portal.site.a_person()
    for number in range(4):
        await portal.site.a_message(kim, f"Before {number}")
    mine = await portal.site.a_message(kim, "Is it ready?", direction="in")
    late = await portal.site.a_message(kim, "What the SMS is about", status="failed")
    wrong = await portal.site.a_message(kim, "Given up later")
    for number in range(4):
        await portal.site.a_message(kim, f"After {number}")
    tab = await portal.signed_in(kim)
    await expect(tab.locator(".msg")).to_have_count(10)
    await tab.evaluate("window.sameDocument = true")
    field = tab.get_by_label("Your message")
    await field.fill("Half a sentence")
    await field.evaluate("(field) => { field.focus(); field.setSelectionRange(4, 4) }")

    await portal.stop()
    await portal.site.run("update messages set status = 'read', read_at = now() where message_id = $1", mine)
    await portal.site.run(
        "update messages set status = 'failed', reason = 'window_expired_bridge_already_sent' where message_id = $1",
        late,
    )
    await portal.site.run(
        "update messages set status = 'failed', reason = 'intent_expired' where message_id = $1", wrong
    )
    for number in range(3):
        await portal.site.a_message(kim, f"Meanwhile {number}")
    await portal.start()

    meanwhile = [*(f"Before {n}" for n in range(4)), "Is it ready?", "What the SMS is about"]
    meanwhile += [*(f"After {n}" for n in range(4)), *(f"Meanwhile {n}" for n in range(3))]
    await expect(tab.locator(".msg .said")).to_have_text(meanwhile)
    await expect(tab.locator(f"#m-{mine}").get_by_text("Seen")).to_be_visible()
    days = "(times) => new Set(times.map((one) => new Date(one.dateTime).toDateString())).size"
    await expect(tab.locator(".day")).to_have_count(await tab.locator(".msg time").evaluate_all(days))

    await portal.stop()
    await portal.site.run("delete from messages where message_id <> $1", mine)
    for number in range(105):
        await portal.site.a_message(kim, f"Much later {number}")
    await portal.start()
    await expect(tab.get_by_text("Much later 104")).to_be_in_viewport()
    await expect(tab.locator(".msg .said").first).to_have_text(re.compile("Much later"))
    await expect(tab.get_by_role("link", name="Earlier messages")).to_have_count(1)

    assert await tab.evaluate("window.sameDocument")
    await expect(field).to_be_focused()
    await expect(field).to_have_value("Half a sentence")
    assert await field.evaluate("(field) => field.selectionStart") == 4


async def _refused_without_scripts(portal: ServedPortal, tab: Page, text: str) -> None:
    """Bring up the page that answers a text which is not taken, from a page whose script had not come."""
    script = re.compile(r"/static/portal.*\.js")
    await tab.route(script, lambda route: route.abort())
    await tab.reload()
    await tab.get_by_label("Your message").fill(text)
    await tab.unroute(script)
    await tab.get_by_role("button", name="Send").tap()
    await expect(tab).to_have_url(f"{portal.url}/conversation/messages")
    await tab.wait_for_load_state()


async def test_a_page_that_answered_a_form_follows_the_conversation_too(portal: ServedPortal) -> None:
    kim = await portal.site.a_person()
    mine = await portal.site.a_message(kim, "Is it ready?", direction="in")
    tab = await portal.signed_in(kim)
    await _refused_without_scripts(portal, tab, "x" * 4_097)
    await portal.stop()
    await portal.site.run("update messages set status = 'read', read_at = now() where message_id = $1", mine)
    await portal.start()
    await expect(tab.locator(f"#m-{mine}").get_by_text("Seen")).to_be_visible()


async def test_a_session_that_ends_closes_its_page(portal: ServedPortal) -> None:
    kim = await portal.site.a_person()
    await portal.site.a_message(kim, "Your Golf is ready.")
    tab = await portal.signed_in(kim)
    await tab.get_by_label("Your message").fill("Half a sentence")
    await portal.site.run("delete from portal_sessions")
    await expect(tab.get_by_role("heading", level=1)).to_have_text("This link no longer works")
    await expect(tab.get_by_text("Your Golf is ready.")).to_have_count(0)
    await expect(tab.get_by_label("Your message")).to_have_value("Half a sentence")


async def test_a_page_that_answered_a_form_posts_it_once_also_when_its_session_ends(portal: ServedPortal) -> None:
    tab = await portal.signed_in(await portal.site.a_person())
    await _refused_without_scripts(portal, tab, "x" * 4_097)
    posted: list[Request] = []
    tab.on("request", lambda request: posted.append(request) if request.method == "POST" else None)
    await portal.site.run("delete from portal_sessions")
    await expect(tab.get_by_role("heading", level=1)).to_have_text("This link no longer works")
    await expect(tab).to_have_url(f"{portal.url}/conversation")
    await expect(tab.get_by_label("Your message")).to_have_value("x" * 4_097)
    assert not posted


async def test_a_link_that_ended_leads_to_a_fresh_sms(portal: ServedPortal) -> None:
    kim = await portal.site.a_person()
    code = await portal.site.a_link(kim, portal.host, life=timedelta(seconds=-1))
    tab = await (await portal.visitor(locale="de-DE")).new_page()
    await tab.goto(f"{portal.url}/{code}")
    await expect(tab.get_by_role("heading", level=1)).to_have_text("Dieser Link gilt nicht mehr")
    await tab.get_by_role("button", name="Neuen Link per SMS senden").tap()
    await expect(tab.get_by_role("heading", level=1)).to_contain_text("Danke")
    assert [event["type"] for event in await portal.site.told(1)] == ["portal.link_wanted.v1"]


async def test_behind_a_tls_proxy_on_this_machine_cookies_are_those_of_https(
    database: str, redis_url: str, kafka_of_portal: KafkaConnection, browser: Browser, tmp_path: Path
) -> None:
    outer, inner = free_port(), free_port()
    url = f"https://localhost:{outer}"
    async with (
        a_served_portal(database, redis_url, kafka_of_portal, browser, url=url, port=inner) as portal,
        a_tls_proxy(outer, inner, tmp_path),
    ):
        kim = await portal.site.a_person()
        await portal.site.a_message(kim, "Your Golf is ready.")
        tab = await portal.signed_in(kim, ignore_https_errors=True)
        await expect(tab.get_by_text("Your Golf is ready.")).to_be_visible()
        await tab.get_by_label("Your message").fill("Thanks")
        await tab.get_by_role("button", name="Send").tap()
        await expect(tab.locator(".msg.out").get_by_text("Sent", exact=True)).to_be_visible()
        cookies = await tab.context.cookies()
        assert {cookie["name"] for cookie in cookies} == {"__Host-transom-visit", "__Host-transom-session"}
        for cookie in cookies:
            assert (cookie["secure"], cookie["httpOnly"], cookie["sameSite"]) == (True, True, "Strict")
        answer = await tab.context.request.get(f"{url}/conversation")
        assert answer.headers["strict-transport-security"]


async def test_a_text_whose_answer_did_not_come_is_in_the_field_after_a_reload(portal: ServedPortal) -> None:
    tab = await portal.signed_in(await portal.site.a_person())
    field = tab.get_by_label("Your message")
    held: list[Route] = []

    async def hold(route: Route) -> None:
        held.append(route)

    await tab.route("**/conversation/messages", hold)
    await field.fill("I come at five")
    await field.press("Control+Enter")
    await eventually(lambda: len(held) == 1)
    await field.press_sequentially("And")
    await tab.reload()
    await expect(field).to_have_value("I come at five\nAnd")
    await tab.unroute("**/conversation/messages")
    await field.press("Control+Enter")
    await expect(tab.locator(".msg.out").get_by_text("Sent", exact=True)).to_be_visible()
    await tab.reload()
    await expect(field).to_have_value("")
    written = [event for event in await portal.site.told() if event["type"] == "portal.message.v1"]
    assert [event["text"] for event in written] == ["I come at five\nAnd"]
