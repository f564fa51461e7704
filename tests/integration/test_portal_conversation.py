"""A session reads and writes one conversation, and no longer than it may."""

import asyncio
from urllib.parse import quote

import pytest

from libs.common.directory.portal_access import end_access
from libs.common.events.directory import CustomerUpserted
from libs.common.events.topics import PORTAL_MESSAGES as PORTAL
from tests.support import world
from tests.support.command import complaint, environment, transom
from tests.support.form_browser import token_of
from tests.support.portal_site import HOST, PLATFORM, PortalSite, form_of


async def test_the_page_shows_the_thread_and_says_what_was_read(site: PortalSite) -> None:
    kim = await site.a_person()
    browser = await site.signed_in(kim)
    shown = await site.a_message(kim, "Your Golf is ready.")
    await site.a_message(kim, "Thanks!", direction="in")
    await site.a_message(kim, "never seen", status="failed", reason="intent_expired")
    page = await browser.get("/conversation")
    assert page.text.index("Your Golf is ready.") < page.text.index("Thanks!")
    assert "never seen" not in page.text
    assert "99" in page.text
    assert kim.phone not in page.text
    read = (await site.told(2))[1]
    assert (read["type"], read["message_ids"]) == ("portal.read.v1", [str(shown)])


async def test_what_staff_wrote_on_the_phone_is_the_garages_message(site: PortalSite) -> None:
    kim = await site.a_person()
    browser = await site.signed_in(kim)
    shown = await site.a_message(kim, "Come by at five.", status="sent")
    async with site.pool.acquire() as db:
        await db.execute("update messages set actor = 'staff', attempt = 0 where message_id = $1", shown)
    page = await browser.get("/conversation")
    assert "Come by at five." in page.text
    read = (await site.told(2))[1]
    assert (read["type"], read["message_ids"]) == ("portal.read.v1", [str(shown)])


async def test_a_page_that_is_loaded_unseen_reads_nothing(site: PortalSite) -> None:
    kim = await site.a_person()
    browser = await site.signed_in(kim)
    await site.a_message(kim, "Your Golf is ready.")
    await browser.get("/conversation", **{"sec-purpose": "prefetch;prerender"})
    assert [event["type"] for event in await site.told(1)] == ["portal.signed_in.v1"]


async def test_what_is_written_is_published_once_acknowledged(site: PortalSite) -> None:
    kim = await site.a_person()
    browser = await site.signed_in(kim)
    written = await browser.write("Is it ready?\r\nKim 🚗")
    assert (written.status_code, written.headers["location"]) == (303, "/conversation")
    records = await site.published.records(PORTAL, 2)
    assert {record.key for record in records} == {str(kim.conversation_id).encode()}
    [event] = [event for event in await site.told(2) if event["type"] == "portal.message.v1"]
    assert event["text"] == "Is it ready?\nKim 🚗"
    assert event["session"] != str(browser.client.cookies)
    assert "on its way" in (await browser.get("/conversation")).text


@pytest.mark.parametrize("text", ["", "  \n\u200b ", "x" * 4097, "🚗" * 40_000, "a\x07b", "a\x00b"])
async def test_a_text_that_cannot_be_sent_stays_in_the_field(site: PortalSite, text: str) -> None:
    browser = await site.signed_in(await site.a_person())
    answer = await browser.write(text)
    assert answer.status_code == 422
    assert 'role="alert"' in answer.text
    assert "Not sent" in answer.text
    if len(text) > 4000:
        assert text in answer.text
    assert [event["type"] for event in await site.told(1)] == ["portal.signed_in.v1"]


async def test_the_longest_text_fits_in_any_script(site: PortalSite) -> None:
    browser = await site.signed_in(await site.a_person())
    text = "🚗" * 4096
    assert len(quote(text)) > 49_000
    assert (await browser.write(text)).status_code == 303
    assert text in [event.get("text") for event in await site.told()]


async def test_a_session_writes_ten_messages_a_minute_and_two_hundred_a_day(site: PortalSite) -> None:
    browser = await site.signed_in(await site.a_person())
    statuses = [(await browser.write(f"number {n}")).status_code for n in range(12)]
    assert statuses == [303] * 10 + [429] * 2
    refused = await browser.write("one more")
    assert "one more" in refused.text
    await site.run("update portal_sessions set minute_began = now() - interval '61 seconds', day_count = 199")
    assert [(await browser.write("again")).status_code for _ in range(2)] == [303, 429]


@pytest.mark.parametrize("headers", [{"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}])
async def test_a_message_from_another_page_is_refused(site: PortalSite, headers: dict[str, str]) -> None:
    browser = await site.signed_in(await site.a_person())
    page = await browser.get("/conversation")
    form = {"token": token_of(page), "client_id": form_of(page), "text": "forged"}
    assert (await browser.post("/conversation/messages", form, headers)).status_code == 403
    stale = await browser.post("/conversation/messages", form | {"token": "x" * 43})
    assert (stale.status_code, "forged" in stale.text) == (403, True)
    assert (await browser.post("/conversation/messages", {"text": "forged"})).status_code == 403
    assert (await browser.client.get("/conversation/events", headers=headers)).status_code == 403


async def test_a_message_from_another_page_is_refused_before_its_form_is_read(site: PortalSite) -> None:
    browser = await site.signed_in(await site.a_person())
    large = {"text": "x" * 600_000}
    for sender, headers in ((browser, {"sec-fetch-site": "cross-site"}), (site.browser(), None)):
        refused = await sender.post("/conversation/messages", large, headers)
        assert (refused.status_code, "xxx" in refused.text) == (403, False)


@pytest.mark.parametrize("text", ["x" * 600_000, "x" * 7_000_000, "🚗" * 580_000, "a\u0301" * 700_000], ids=len)
async def test_however_much_is_typed_comes_back_with_the_sentence(site: PortalSite, text: str) -> None:
    browser = await site.signed_in(await site.a_person())
    answer = await browser.write(text)
    assert answer.status_code == 422
    assert "longer than 4,096 characters" in answer.text
    assert f"\n{text}</textarea>" in answer.text
    await site.run("delete from portal_sessions")
    ended = await browser.post("/conversation/messages", {"text": text})
    assert (ended.status_code, text[:99] in ended.text) == (401, False)


async def test_a_text_whose_cookie_has_ended_can_be_copied_from_the_page(site: PortalSite) -> None:
    await site.a_person()
    late = await site.browser().post("/conversation/messages", {"text": "Half a day's <work>"})
    assert late.status_code == 403
    assert "Half a day&#39;s &lt;work&gt;</textarea>" in late.text
    assert "That did not work" in (await site.browser().post("/conversation/messages", {})).text


async def test_writing_keeps_a_session_from_becoming_idle_and_head_does_not(site: PortalSite) -> None:
    browser = await site.signed_in(await site.a_person())
    page = await browser.get("/conversation")
    await site.run("update portal_sessions set seen_at = now() - interval '23 hours'")
    for path in ("/conversation", "/conversation/events"):
        async with asyncio.timeout(5):
            assert (await browser.client.head(path)).status_code == 200
    await browser.get("/conversation", **{"sec-purpose": "prefetch;prerender"})
    idle = "select now() - seen_at > interval '22 hours' from portal_sessions"
    assert await site.value(idle)
    form = {"token": token_of(page), "client_id": form_of(page), "text": "Is it ready?"}
    assert (await browser.post("/conversation/messages", form)).status_code == 303
    assert not await site.value(idle)


ENDS = {
    "idle": "update portal_sessions set seen_at = now() - interval '24 hours 1 second'",
    "seven days": "update portal_sessions set ends_at = now()",
    "host given to another": "update orgs set portal_host = 'acme.example' where org_id = 'acme'",
    "number given up": "update customers set phone = null; delete from customer_identities",
}


@pytest.mark.parametrize("why", [*ENDS, "staff", "number changed"])
async def test_a_session_that_has_ended_reads_and_writes_nothing(site: PortalSite, why: str) -> None:
    kim = await site.a_person()
    browser = await site.signed_in(kim)
    await site.a_message(kim, "for Kim")
    page = await browser.get("/conversation")
    link = await site.a_link(kim)
    async with site.pool.acquire() as db:
        if why == "staff":
            assert await end_access(db, [(kim.org_id, kim.conversation_id)]) == 3
        elif why == "number changed":
            change = CustomerUpserted(
                org_id=kim.org_id, at=site.now(), customer_id=kim.customer_id, phone="+447700900777"
            )
            await world.change(db, change)
        else:
            await db.execute(ENDS[why])
            if why == "host given to another":
                await world.an_org(db, "bobs", "106400000000002", sms_number=None, portal_host=HOST)
    ended = await browser.get("/conversation")
    assert (ended.status_code, "for Kim" in ended.text) == (401, False)
    form = {"token": token_of(page), "client_id": form_of(page), "text": "too late"}
    unsent = await browser.post("/conversation/messages", form)
    assert (unsent.status_code, "too late</textarea>" in unsent.text) == (401, True)
    assert (await browser.client.get("/conversation/events")).status_code == 401
    assert "too late" not in str(await site.told())
    if why not in ("idle", "seven days"):
        assert (await site.browser().get(f"/{link}")).status_code == 404


async def test_no_route_shows_another_conversation_or_another_host(site: PortalSite) -> None:
    kim, lee = await site.a_person(), await site.a_person(phone="+447700900888")
    bob = await site.a_person("bobs", "+447700900777", "106400000000002")
    for person, text in ((kim, "KIMS"), (lee, "LEES"), (bob, "BOBS")):
        await site.a_message(person, text)
    theirs = await site.value("select message_id from messages where conversation_id = $1", lee.conversation_id)
    browser = await site.signed_in(kim)
    code = await site.a_link(lee)
    for path in ("/conversation", f"/conversation?before={theirs}", f"/{code}", "/0", f"/conversation?id={theirs}"):
        page = (await browser.get(path)).text
        assert "LEES" not in page
        assert "BOBS" not in page
    cookie = browser.client.cookies["__Host-transom-session"]
    for origin in ("https://bobs.example", PLATFORM):
        elsewhere = site.browser(origin)
        elsewhere.client.cookies.set("__Host-transom-session", cookie)
        assert (await elsewhere.get("/conversation")).status_code == 401
        assert (await elsewhere.get(f"/{code}")).status_code == 404
    here = site.browser(f"https://{HOST}")
    here.client.cookies.set("__Host-transom-session", cookie)
    assert (await here.get("/conversation")).status_code == 200


async def test_staff_end_links_and_sessions_by_the_command(site: PortalSite, database: str) -> None:
    kim = await site.a_person()
    browser = await site.signed_in(kim)
    env = environment(POSTGRES_DSN=database)
    told = await asyncio.to_thread(transom, "end-access", "--org", kim.org_id, str(kim.conversation_id), env=env)
    assert (told.returncode, told.stdout) == (0, "ended 2 links and sessions\n")
    assert (await browser.get("/conversation")).status_code == 401
    said = await asyncio.to_thread(complaint, "end-access", "--org", "bobs", str(kim.conversation_id), env=env)
    assert "no such conversation" in said


async def test_a_session_of_the_portal_ends_with_the_customer(site: PortalSite, database: str) -> None:
    kim, lee = await site.a_person(), await site.a_person(phone="+447700900998")
    mine, theirs = await site.signed_in(kim), await site.signed_in(lee)
    code = await site.a_link(kim)
    env = environment(POSTGRES_DSN=database)
    words = ("erase", "--org", kim.org_id, "--yes", str(kim.conversation_id))
    told = await asyncio.to_thread(transom, *words, env=env)
    assert (told.returncode, told.stderr) == (0, "")
    assert "3 links and sessions" in told.stdout
    assert (await mine.get("/conversation")).status_code == 401
    assert "no longer works" in (await site.browser().get(f"/{code}")).text
    assert (await theirs.get("/conversation")).status_code == 200
