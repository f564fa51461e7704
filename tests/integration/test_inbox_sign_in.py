"""People sign in at an identity provider, in one organisation, and out again; a session ends by itself."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio
from aiokafka.admin import AIOKafkaAdminClient

from deploy.local.sandbox.client import SandboxClient
from deploy.local.servers.ports import LOOPBACK, free_port
from tests.support.form_browser import token_of
from tests.support.inbox import KEY, RunningInbox, Staff, a_token, an_inbox_of_its_own
from tests.support.logs import LogLines
from tests.support.sandbox import launched
from tests.support.waiting import eventually


@dataclass
class Door:
    """An inbox whose people sign in at the sandbox."""

    inbox: RunningInbox
    sandbox: SandboxClient

    @property
    def issuer(self) -> str:
        return f"{self.sandbox.url}/oidc"

    async def an_org(self) -> str:
        """An organisation; its id is its tenant too."""
        tenant = f"t-{uuid4().hex[:8]}"
        return await self.inbox.an_org(sign_in={"issuer": self.issuer, "tenant": tenant}, name=tenant)

    async def somebody(self, *org_ids: str, capabilities: tuple[str, ...] = ("messages.view",)) -> str:
        """The id of somebody who works for these organisations."""
        async with self.inbox.pool.acquire() as db:
            found = await db.fetch("select sign_in_tenant from orgs where org_id = any($1::text[])", org_ids)
        tenants = [row["sign_in_tenant"] for row in found]
        user_id = f"u-{uuid4().hex[:8]}"
        tenant: Any = tenants[0] if len(tenants) == 1 else tenants or "nowhere"
        await self.sandbox.employ(user_id, name="Kim", tenant=tenant, capabilities=list(capabilities))
        return user_id

    async def comes_back(self, browser: Staff, user_id: str, leads_to: str = "/inbox") -> str:
        """Begin a sign-in in the browser. Returns the path to which the provider sends it back."""
        ticket = await self.sandbox.sign_in_ticket(user_id)
        start = await browser.client.get("/login/start", params={"login_hint": ticket, "next": leads_to})
        assert start.status_code == 303, start.text
        async with httpx.AsyncClient() as outside:
            answer = await outside.get(start.headers["location"])
        assert answer.status_code == 302, answer.text
        return answer.headers["location"].removeprefix(self.inbox.url)

    async def signs_in(self, browser: Staff, user_id: str, leads_to: str = "/inbox") -> httpx.Response:
        return await browser.get(await self.comes_back(browser, user_id, leads_to))


@pytest_asyncio.fixture(scope="module")
async def door(
    postgres_dsn: str, database_template: str, kafka_admin: AIOKafkaAdminClient, kafka_bootstrap: str
) -> AsyncIterator[Door]:
    port = free_port()
    redirect = f"http://{LOOPBACK}:{port}/login/callback"
    with launched("--oidc-client", "transom", "--oidc-secret", "s3cret", "--oidc-redirect", redirect) as url:
        settings = {
            "http_port": port,
            "oidc_issuer": f"{url}/oidc",
            "oidc_client_id": "transom",
            "oidc_client_secret": "s3cret",
            "jwt_audience": "inbox",
            "jwt_issuer": "tests",
        }
        async with (
            SandboxClient(url) as sandbox,
            an_inbox_of_its_own(postgres_dsn, database_template, kafka_admin, kafka_bootstrap, **settings) as inbox,
        ):
            yield Door(inbox, sandbox)


async def test_a_person_signs_in_where_the_directory_puts_their_tenant(door: Door) -> None:
    org_id = await door.an_org()
    kim, browser = await door.somebody(org_id), door.inbox.browser()
    answer = await door.signs_in(browser, kim, "/inbox?view=failed")
    assert (answer.status_code, answer.headers["location"]) == (303, "/inbox?view=failed")
    assert (await browser.get("/inbox")).status_code == 200
    async with door.inbox.pool.acquire() as db:
        [member] = await db.fetch("select user_id, name from members where org_id = $1", org_id)
    assert (member["user_id"], member["name"]) == (kim, "Kim")


async def test_a_link_signs_in_once_and_without_one_the_provider_asks_who_it_is(door: Door) -> None:
    kim, browser = await door.somebody(await door.an_org()), door.inbox.browser()
    ticket = await door.sandbox.sign_in_ticket(kim)
    async with httpx.AsyncClient() as outside:
        for status in (302, 200):
            start = await browser.get(f"/login/start?login_hint={ticket}")
            asked = await outside.get(start.headers["location"])
            assert asked.status_code == status
        assert kim in asked.text
        query = parse_qs(urlsplit(start.headers["location"]).query)
        assert query["code_challenge_method"] == ["S256"]
        assert query["redirect_uri"] == [f"{door.inbox.url}/login/callback"]


@pytest.mark.parametrize("leads_to", ["//evil.example", "/\\evil.example", "https://evil.example", "inbox", "/a\nb"])
async def test_a_sign_in_leads_to_the_inbox_alone(door: Door, leads_to: str) -> None:
    kim, browser = await door.somebody(await door.an_org()), door.inbox.browser()
    assert (await door.signs_in(browser, kim, leads_to)).headers["location"] == "/inbox"


async def test_an_answer_counts_in_the_browser_that_asked_and_once(door: Door) -> None:
    kim, mine, theirs = await door.somebody(await door.an_org()), door.inbox.browser(), door.inbox.browser()
    back = await door.comes_back(mine, kim)
    await theirs.get("/login/start")  # a sign-in of their own, with another state
    for stranger in (door.inbox.browser(), theirs):
        answer = await stranger.get(back)
        assert answer.status_code == 401
        assert (await stranger.get("/inbox")).status_code == 303
    without_issuer = back.replace("&iss=", "&was=")
    forged = back.replace("state=", "state=x")
    for wrong in (without_issuer, forged):
        browser = door.inbox.browser()
        await door.comes_back(browser, kim)
        assert (await browser.get(wrong)).status_code == 401
    assert (await mine.get(back)).status_code == 303
    assert (await mine.get(back)).status_code == 401


async def test_who_comes_back_from_nowhere_again_and_again_fills_no_log(door: Door, log_lines: LogLines) -> None:
    times, browser = 40, door.inbox.browser()
    answers = await asyncio.gather(*(browser.get("/login/callback?code=x&state=y") for _ in range(times)))
    assert {answer.status_code for answer in answers} == {401}

    def told() -> list[int]:
        return [line["times"] for line in log_lines.of("token.refused") if line["reason"] == "attempt"]

    await eventually(lambda: sum(told()) >= times, every=0.05)
    assert len(told()) < times


async def test_of_two_tabs_that_sign_in_the_later_one_does(door: Door) -> None:
    kim, browser = await door.somebody(await door.an_org()), door.inbox.browser()
    earlier, later = [await door.comes_back(browser, kim) for _ in range(2)]
    assert (await browser.get(earlier)).status_code == 401
    assert (await browser.get(later)).status_code == 303


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "another"},
        {"aud": ["transom", "another"]},
        {"azp": "another"},
        {"iss": "https://evil.example"},
        {"nonce": "x"},
        {"exp": 1},
        {"sub": None},
        {"sub": "a\nb"},
        {"iat": 99999999999},
    ],
)
async def test_an_id_token_that_is_not_for_this_sign_in_begins_no_session(
    door: Door, claims: dict[str, Any], log_lines: LogLines
) -> None:
    kim, browser = await door.somebody(await door.an_org()), door.inbox.browser()
    await door.sandbox.say_claims(**claims)
    try:
        answer = await door.signs_in(browser, kim)
    finally:
        await door.sandbox.say_claims()
    assert answer.status_code == 401
    assert (await browser.get("/inbox")).status_code == 303
    # of one reason the service tells at most once a second
    await eventually(lambda: log_lines.of("token.refused"), every=0.05)
    assert kim not in log_lines.raw


async def test_a_tenant_of_no_organisation_and_somebody_who_may_nothing_are_turned_away(door: Door) -> None:
    nobody, idle = await door.somebody(), await door.somebody(await door.an_org(), capabilities=("unheard.of", "*"))
    for user_id, words in ((nobody, "no garage here"), (idle, "may not use the inbox")):  # * of this issuer is ignored
        browser = door.inbox.browser()
        answer = await door.signs_in(browser, user_id)
        assert answer.status_code == 401
        assert words in answer.text
        assert (await browser.get("/inbox")).status_code == 303


async def test_somebody_of_two_garages_chooses_and_the_session_holds_that_one(door: Door) -> None:
    one, two, third = [await door.an_org() for _ in range(3)]
    allowed = ("messages.view", *(f"capability.of.another.system.{n}" for n in range(90)))
    kim, browser = await door.somebody(one, two, capabilities=allowed), door.inbox.browser()
    page = await door.signs_in(browser, kim)
    assert all((org_id in page.text) == (org_id != third) for org_id in (one, two, third))
    async with door.inbox.pool.acquire() as db:
        names = await db.fetch("select name from orgs where org_id = any($1::text[])", [one, two])
    assert all(f"<bdi>{row['name']}</bdi></button>" in page.text for row in names)
    assert (await browser.get("/inbox")).status_code == 303
    fields = {"token": token_of(page)}
    assert (await browser.post("/login/organisation", fields | {"org_id": third})).status_code == 403
    assert (await browser.post("/login/organisation", {"org_id": two})).status_code == 403
    assert (await browser.post("/login/organisation", fields | {"org_id": two})).status_code == 303
    async with door.inbox.pool.acquire() as db:
        found = await db.fetch("select org_id from inbox_sessions where user_id = $1", kim)
    assert [row["org_id"] for row in found] == [two]


async def test_beside_a_provider_no_development_token_is_taken(door: Door) -> None:
    page, browser = await door.inbox.browser().get("/login"), door.inbox.browser()
    assert "development_token" not in page.text
    answer = await browser.post("/login", {"development_token": a_token(await door.an_org())})
    assert answer.status_code == 404


async def test_a_sign_in_renews_the_session_and_a_sign_out_ends_it(door: Door) -> None:
    kim, browser = await door.somebody(await door.an_org()), door.inbox.browser()
    await door.signs_in(browser, kim)
    first = browser.client.cookies["transom-inbox"]
    await door.signs_in(browser, kim)
    second = browser.client.cookies["transom-inbox"]
    page = await browser.get("/inbox")
    out = await browser.post("/logout", {"token": token_of(page)})
    assert (out.status_code, out.headers["location"]) == (303, "/login?out=1")
    assert f'href="{door.issuer}/logout"' in (await browser.get("/login?out=1")).text
    for ended in (first, second):
        browser.client.cookies.set("transom-inbox", ended)
        assert (await browser.get("/inbox")).status_code == 303


@pytest.mark.parametrize(
    ("column", "before", "after"),
    [("seen_at", "29 minutes", "31 minutes"), ("ends_at", "-1 minute", "1 second")],
)
async def test_a_session_ends_after_half_an_hour_without_a_request_and_at_its_end(
    door: Door, column: str, before: str, after: str
) -> None:
    kim, browser = await door.somebody(await door.an_org()), door.inbox.browser()
    await door.signs_in(browser, kim)
    async with door.inbox.pool.acquire() as db:
        [life] = await db.fetch("select ends_at - created_at as life from inbox_sessions where user_id = $1", kim)
        assert 12 * 3600 - 60 < life["life"].total_seconds() <= 12 * 3600
        for age, status in ((before, 200), (after, 303)):
            await db.execute(
                f"update inbox_sessions set {column} = now() - $1::text::interval where user_id = $2", age, kim
            )
            assert (await browser.get("/inbox")).status_code == status


async def test_what_an_open_page_asks_for_by_itself_keeps_no_session_alive(door: Door) -> None:
    kim, browser = await door.somebody(await door.an_org()), door.inbox.browser()
    await door.signs_in(browser, kim)
    asked = "select seen_at < now() - interval '20 minutes' as is_idle from inbox_sessions where user_id = $1"
    async with door.inbox.pool.acquire() as db:
        await db.execute("update inbox_sessions set seen_at = now() - interval '25 minutes' where user_id = $1", kim)
        for path, part in (("/inbox/list", "list"), ("/inbox/bell", "bell")):
            assert (await browser.get(path, **{"x-part": part})).status_code == 200
        async with browser.client.stream("GET", "/inbox/events", headers={"accept": "text/event-stream"}) as stream:
            assert stream.status_code == 200
        assert await db.fetchval(asked, kim)
        assert (await browser.get("/inbox")).status_code == 200
        assert not await db.fetchval(asked, kim)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 303),  # an old browser that says nothing: the token decides
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
    ],
)
async def test_a_form_counts_from_our_own_page_alone(door: Door, headers: dict[str, str], status: int) -> None:
    kim, browser = await door.somebody(await door.an_org()), door.inbox.browser()
    await door.signs_in(browser, kim)
    page = await browser.get("/inbox")
    assert (await browser.post("/logout", {"token": token_of(page)}, headers)).status_code == status


async def test_a_form_without_the_token_of_its_session_is_refused(door: Door) -> None:
    kim = await door.somebody(await door.an_org())
    browsers = [door.inbox.browser() for _ in range(2)]
    tokens = []
    for browser in browsers:
        await door.signs_in(browser, kim)
        tokens.append(token_of(await browser.get("/inbox")))
    for wrong in ({}, {"token": ""}, {"token": "x" * 43}, {"token": tokens[1]}):
        assert (await browsers[0].post("/logout", wrong)).status_code == 403


async def test_over_https_cookies_are_secure_and_bound_to_the_host(
    postgres_dsn: str, database_template: str, kafka_admin: AIOKafkaAdminClient, kafka_bootstrap: str
) -> None:
    async with an_inbox_of_its_own(
        postgres_dsn, database_template, kafka_admin, kafka_bootstrap, inbox_url="https://inbox.example", jwt_keys=KEY
    ) as inbox:
        answer = await inbox.client().get("/login", headers={"host": "inbox.example"})
        assert answer.headers["strict-transport-security"]
        [cookie] = answer.headers.get_list("set-cookie")
        assert cookie.startswith("__Host-transom-sign-in=")
        assert {"Path=/", "HttpOnly", "SameSite=Lax", "Secure"} <= set(cookie.split("; "))
        assert "nobody can sign in here" in answer.text  # no provider, and not on this machine
