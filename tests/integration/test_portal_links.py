"""A magic link opens one session, on its host, for its phone, by a form of our page. All else finds one kind page."""

import asyncio
from datetime import timedelta

import pytest

from libs.common.kafka.connection import KafkaConnection
from libs.common.pages.headers import HEADERS
from tests.support.databases import somebody_waits
from tests.support.form_browser import token_of
from tests.support.logs import LogLines
from tests.support.portal_site import HOST, PLATFORM, PortalSite, a_portal_site
from tests.support.written_pages import text_of


async def test_a_link_opens_a_session_once_and_says_so(site: PortalSite, log_lines: LogLines) -> None:
    kim = await site.a_person()
    code, browser = await site.a_link(kim), site.browser()
    page = await browser.get(f"/{code}")
    said = text_of(page.text)  # a token may have any two digits
    assert (page.status_code, "AcmeMotors" in said, "99" in said) == (200, True, False)
    opened = await browser.post(f"/{code}", {"token": token_of(page)})
    assert (opened.status_code, opened.headers["location"]) == (303, "/conversation")
    assert (await browser.get("/conversation")).status_code == 200
    assert (await site.browser().get(f"/{code}")).status_code == 404
    assert [e["type"] for e in await site.told(1)] == ["portal.signed_in.v1"]
    assert await site.value("select last_seen_at is not null from customers where customer_id = $1", kim.customer_id)
    [line] = log_lines.of("link.redeemed")
    assert line["conversation_id"] == str(kim.conversation_id)
    assert code not in log_lines.raw
    assert kim.phone not in log_lines.raw


async def test_a_form_that_one_browser_posts_twice_opens_one_session_twice(site: PortalSite) -> None:
    code, browser = await site.a_link(await site.a_person()), site.browser()
    page = await browser.get(f"/{code}")
    form = f"/{code}", {"token": token_of(page)}
    answers = [*await asyncio.gather(*(browser.post(*form) for _ in range(8))), await browser.post(*form)]
    assert {(answer.status_code, answer.headers.get("location")) for answer in answers} == {(303, "/conversation")}
    assert len({answer.headers["set-cookie"] for answer in answers}) == 1
    assert (await browser.get("/conversation")).status_code == 200
    assert [e["type"] for e in await site.told(1)] == ["portal.signed_in.v1"]
    assert await site.value("with ended as (delete from portal_sessions returning 1) select count(*) from ended") == 1
    assert (await browser.post(*form)).status_code == 404


async def test_a_link_that_is_used_leads_to_the_conversation_that_is_open_in_the_browser(site: PortalSite) -> None:
    code, browser = await site.a_link(await site.a_person()), site.browser()
    await browser.open(code)
    pages = [await browser.get(f"/{one}") for one in (code, "0" * 11)]
    assert [(page.status_code, 'href="/conversation"' in page.text) for page in pages] == [(404, True)] * 2
    assert pages[0].text == pages[1].text
    assert 'href="/conversation"' not in (await site.browser().get(f"/{code}")).text


@pytest.mark.parametrize("times", [60, pytest.param(1000, marks=pytest.mark.proof)])
async def test_scanners_use_up_no_link(site: PortalSite, times: int) -> None:
    code = await site.a_link(await site.a_person())
    browser = site.browser()
    for n in range(times):
        answer = await browser.client.request("HEAD" if n % 2 else "GET", f"/{code}")
        assert answer.status_code == 200
    assert (await browser.open(code)).status_code == 303


async def test_sixty_four_racing_posts_open_one_session(site: PortalSite) -> None:
    code = await site.a_link(await site.a_person())
    browsers = [site.browser() for _ in range(64)]
    pages = [await browser.get(f"/{code}") for browser in browsers]
    answers = await asyncio.gather(
        *(b.post(f"/{code}", {"token": token_of(page)}) for b, page in zip(browsers, pages, strict=True))
    )
    assert sorted(answer.status_code for answer in answers)[:2] == [303, 404]
    assert await site.value("select count(*) from portal_sessions") == 1


async def test_unknown_used_expired_revoked_and_moved_links_get_one_page(site: PortalSite) -> None:
    kim = await site.a_person()
    used, expired = await site.a_link(kim), await site.a_link(kim, life=timedelta(seconds=-1))
    moved, elsewhere = await site.a_link(kim, phone="+447700900111"), await site.a_link(kim, "portal.example")
    await site.browser().open(used)
    pages = set()
    for code in (used, expired, moved, elsewhere, "0" * 11, "x", "long" * 30):
        await site.forget_misses()
        browser = site.browser()
        page = await browser.get(f"/{code}")
        assert page.status_code == 404
        assert "AcmeMotors" in page.text  # the host is its own
        posted = await browser.post(f"/{code}", {"token": token_of(page)})
        again = await browser.post(f"/{code}", {"token": token_of(page), "again": "sms"})
        assert (posted.status_code, again.status_code) == (404, 200)
        pages.add(tuple(one.text.replace(token_of(page), "") for one in (page, posted, again)))
    assert len(pages) == 1


async def test_a_page_of_the_platforms_host_names_nobody(site: PortalSite) -> None:
    await site.a_person()
    page = await site.browser(PLATFORM).get("/00000000000")
    assert page.status_code == 404
    assert "AcmeMotors" not in page.text
    assert "wa.me" not in page.text


@pytest.mark.parametrize("with_link", [True, False])
async def test_a_wish_for_a_fresh_sms_is_published_for_a_link_of_ours_alone(
    site: PortalSite, *, with_link: bool
) -> None:
    kim = await site.a_person()
    code = await site.a_link(kim, life=timedelta(seconds=-1)) if with_link else "0" * 11
    browser = site.browser()
    page = await browser.get(f"/{code}")
    assert (await browser.post(f"/{code}", {"token": token_of(page), "again": "sms"})).status_code == 200
    told = await site.told(1 if with_link else 0)
    expected = [("portal.link_wanted.v1", str(kim.conversation_id))] if with_link else []
    assert [(e["type"], e["conversation_id"]) for e in told] == expected


async def test_misses_are_refused_over_the_budget_and_a_good_code_never(site: PortalSite) -> None:
    code, browser = await site.a_link(await site.a_person()), site.browser()
    statuses = [(await browser.get(f"/{n:011}")).status_code for n in range(30)]
    assert statuses == [404] * 10 + [429] * 20
    assert (await site.browser(address="192.0.2.2").get("/00000000000")).status_code == 404
    assert (await browser.open(code)).status_code == 303


async def test_a_flood_from_one_address_keeps_no_other_one_waiting(site: PortalSite) -> None:
    browser = await site.signed_in(await site.a_person())
    code = await site.a_link(await site.a_person(phone="+447700900888"))
    flood = site.browser(address="192.0.2.2")
    form = {"token": token_of(await flood.get(f"/{code}"))}
    async with site.pool.acquire() as db:
        async with db.transaction():
            await db.execute("select from portal_links for update")
            asked = [asyncio.create_task(flood.post(f"/{code}", form)) for _ in range(50)]
            await somebody_waits(db)
            assert (await browser.get("/conversation")).status_code == 200
        assert {answer.status_code for answer in await asyncio.gather(*asked)} <= {303, 503}


async def test_what_a_browser_asks_for_by_itself_is_no_miss(site: PortalSite) -> None:
    """Browsers that show no SVG icon ask for these on each visit, and many phones share an address."""
    paths = ("/favicon.ico", "/apple-touch-icon.png", "/apple-touch-icon-precomposed.png", "/robots.txt")
    await site.a_person()
    browser = site.browser()
    statuses = [(await browser.get(path)).status_code for path in paths * 5]
    assert statuses == [404] * 20
    misses = [(await browser.get(f"/{n:011}")).status_code for n in range(11)]
    assert misses == [404] * 10 + [429]


async def test_a_second_link_asks_before_it_replaces_a_session(site: PortalSite) -> None:
    kim = await site.a_person()
    lee = await site.a_person(phone="+447700900888")
    browser, code = await site.signed_in(kim), await site.a_link(lee)
    await site.a_message(kim, "for Kim")
    asked = await browser.open(code)
    assert (asked.status_code, "99" in asked.text) == (200, True)
    assert "data-by-itself" not in asked.text
    assert "for Kim" in (await browser.get("/conversation")).text
    assert (await browser.open(code, replace="yes")).status_code == 303
    assert "for Kim" not in (await browser.get("/conversation")).text
    assert await site.value("select count(*) from portal_sessions") == 1


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": f"https://{HOST}", "sec-fetch-site": "same-origin"}, 303),
        ({"origin": f"https://{HOST}"}, 303),
        ({"origin": "null", "sec-fetch-site": "same-origin"}, 303),
        ({"sec-fetch-site": "same-origin"}, 303),
        ({}, 303),
        ({"origin": "null"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "https://evil.example", "sec-fetch-site": "same-origin"}, 403),
        ({"origin": f"http://{HOST}"}, 403),
        ({"origin": PLATFORM}, 403),
        ({"origin": f"https://{HOST}", "sec-fetch-site": "same-site"}, 403),
        ({"origin": f"https://{HOST}", "sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "none"}, 403),
    ],
)
async def test_a_form_counts_from_our_own_page_alone(site: PortalSite, headers: dict[str, str], status: int) -> None:
    code, browser = await site.a_link(await site.a_person()), site.browser()
    page = await browser.get(f"/{code}")
    assert (await browser.post(f"/{code}", {"token": token_of(page)}, headers)).status_code == status


async def test_a_form_without_its_token_and_cookie_is_refused_and_uses_nothing(site: PortalSite) -> None:
    code, browser, other = await site.a_link(await site.a_person()), site.browser(), site.browser()
    page = await other.get(f"/{code}")
    assert (await browser.post(f"/{code}", {"token": token_of(page)})).status_code == 403  # the token of another visit
    await browser.get(f"/{code}")
    assert (await browser.post(f"/{code}", {"token": token_of(page)})).status_code == 403
    assert (await browser.post(f"/{code}", {})).status_code == 403
    refused = await browser.post(f"/{code}", {"token": "x" * 43})
    assert (refused.status_code, "cookies" in refused.text, f'href="/{code}"' in refused.text) == (403, True, True)
    assert 'id="again"' not in refused.text  # the page tries nothing by itself: it would go round for ever
    assert (await browser.open(code)).status_code == 303


async def test_an_unknown_host_is_misdirected_and_the_probes_answer(site: PortalSite) -> None:
    await site.a_person()
    for host in ("evil.example", "192.0.2.7", "tflow.link.evil.example", "localhost:8080"):
        answer = await site.browser(f"https://{host}").get("/conversation")
        assert answer.status_code == 421
    for path in ("/livez", "/readyz", "/metrics"):
        assert (await site.browser("http://10.0.0.7").get(path)).status_code == 200


async def test_every_answer_has_the_headers(site: PortalSite) -> None:
    kim = await site.a_person()
    code, browser = await site.a_link(kim), await site.signed_in(kim)
    answers = [
        *[await browser.get(path) for path in (f"/{code}", "/0", "/conversation", "/a/b", "/livez", "/static/none")],
        *[await browser.post(path, {}) for path in (f"/{code}", "/conversation/messages", "/conversation")],
        await browser.open(code, replace="yes"),
        await site.browser("https://evil.example").get("/"),
    ]
    for answer in answers:
        assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS, answer.url
        assert code not in str(answer.headers)
        assert kim.phone not in str(answer.headers) + answer.text
        assert ("strict-transport-security" in answer.headers) == (
            answer.url.host == HOST and answer.url.path != "/livez"
        )
    assert {answer.status_code for answer in answers} == {200, 303, 403, 404, 421}


@pytest.mark.parametrize("path", ["/", "/a/b", "/conversation/messages/x"])
async def test_an_address_without_its_link_is_a_page_that_says_what_to_open(site: PortalSite, path: str) -> None:
    await site.a_person()
    answer = await site.browser().get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "Please open the link of your text message." in text_of(answer.text)


async def test_the_address_of_a_form_that_was_answered_leads_back_to_the_thread(site: PortalSite) -> None:
    answer = await (await site.signed_in(await site.a_person())).get("/conversation/messages")
    assert (answer.status_code, answer.headers["location"]) == (303, "/conversation")


async def test_cookies_are_secure_wherever_the_configured_address_is_https(
    database: str, redis_url: str, kafka_of_portal: KafkaConnection, site: PortalSite
) -> None:
    kim = await site.a_person()
    code, browser = await site.a_link(kim), site.browser()
    visit = (await browser.get(f"/{code}")).headers["set-cookie"]
    session = (await browser.open(code)).headers["set-cookie"]
    for cookie, name in ((visit, "visit"), (session, "session")):
        assert cookie.startswith(f"__Host-transom-{name}=")
        assert {"Path=/", "HttpOnly", "SameSite=Strict", "Secure"} <= set(cookie.split("; "))
        assert "domain" not in cookie.lower()
    async with a_portal_site(database, redis_url, kafka_of_portal, platform="http://127.0.0.1:8085") as local:
        code, browser = await site.a_link(kim, "127.0.0.1:8085"), local.browser("http://127.0.0.1:8085")
        opened = await browser.open(code)
        assert opened.headers["set-cookie"].startswith("transom-session=")
        assert "Secure" not in opened.headers["set-cookie"]


@pytest.mark.parametrize(("policy", "opens_by_itself"), [(True, False), (False, True), ("maybe", True), ({}, True)])
async def test_a_link_waits_for_a_tap_where_the_policy_says_exactly_that(
    site: PortalSite, policy: object, *, opens_by_itself: bool
) -> None:
    code = await site.a_link(await site.a_person(policy={"portal_button": policy}))
    page = await site.browser().get(f"/{code}")
    assert (page.status_code, "data-by-itself" in page.text) == (200, opens_by_itself)
