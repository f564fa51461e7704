"""Who gets into the inbox: by a token or a session, on its own host, and with what every answer says."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import jwt
import pytest
import pytest_asyncio
from aiohttp import web
from aiokafka.admin import AIOKafkaAdminClient
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

from libs.common.clock import utc_now
from libs.common.pages.cookies import as_text
from libs.common.pages.forms import fresh_id
from libs.common.pages.headers import HEADERS
from tests.support.databases import somebody_waits
from tests.support.inbox import ADVISOR, RunningInbox, a_token, an_inbox_of_its_own
from tests.support.logs import LogLines
from tests.support.waiting import eventually

CONVERSATIONS = "/v1/conversations"


async def test_a_person_signs_in_with_a_development_token(inbox: RunningInbox) -> None:
    org_id, kim = await inbox.an_org(), inbox.browser()
    asked = await kim.get("/inbox?view=failed")
    assert (asked.status_code, asked.headers["location"]) == (303, "/login?next=%2Finbox%3Fview%3Dfailed")
    answer = await kim.signs_in(a_token(org_id, "kim", name="Kim"), "/inbox?view=failed")
    assert (answer.status_code, answer.headers["location"]) == (303, "/inbox?view=failed")
    assert (await kim.get("/inbox")).status_code == 200


async def test_every_answer_has_the_headers(inbox: RunningInbox) -> None:
    for path in ("/login", "/inbox", "/v1/nothing", CONVERSATIONS, "/openapi.json", "/nothing", "/livez"):
        answer = await inbox.browser().get(path)
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS, path


@pytest.mark.parametrize("path", ["/login", CONVERSATIONS, "/openapi.json", "/inbox/events", "/static/inbox.css"])
@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", ""])
async def test_another_host_is_misdirected(inbox: RunningInbox, path: str, host: str) -> None:
    assert (await inbox.client().get(path, headers={"host": host})).status_code == 421
    assert (await inbox.client().get("/livez", headers={"host": host})).status_code == 200


async def test_the_api_takes_bearers_alone_and_pages_take_cookies_alone(inbox: RunningInbox) -> None:
    org_id = await inbox.an_org()
    kim, token = await inbox.staff(org_id), a_token(org_id)
    assert (await kim.get("/inbox")).status_code == 200
    assert (await kim.get(CONVERSATIONS)).status_code == 401
    for url in (f"{CONVERSATIONS}?access_token={token}", f"{CONVERSATIONS}?token={token}"):
        assert (await inbox.client().get(url)).status_code == 401
    assert (await inbox.client(authorization=f"Basic {token}").get(CONVERSATIONS)).status_code == 401
    program = inbox.client(authorization=f"Bearer {token}", accept="text/html")
    assert (await program.get(CONVERSATIONS)).status_code == 200
    assert (await program.get("/inbox")).status_code == 303


@pytest.mark.parametrize(
    ("asked", "faults"),
    [
        ("/v1/conversations?veiw=closing", [("veiw", "no such parameter is known here")]),
        ("/v1/conversations?view=all&limit=1&limit=2", [("limit", "it stands 2 times")]),
        (
            "/v1/spend?form=2026-11-01&to=2026-11-02&=",
            [(name, "no such parameter is known here") for name in ("form", "")],
        ),
        ("/v1/spend?first=2026-11-01", [("first", "no such parameter is known here")]),
        ("/v1/templates?category=UTILITY", [("category", "no such parameter is known here")]),
        ("/v1/events?view=all", [("view", "no such parameter is known here")]),
        ("/v1/conversations?" + "x" * 60, [("x" * 40, "no such parameter is known here")]),
    ],
)
async def test_a_parameter_that_would_count_for_nothing_is_named(
    inbox: RunningInbox, asked: str, faults: list[tuple[str, str]]
) -> None:
    assert (await inbox.client().get(asked)).status_code == 401
    answer = await inbox.client(authorization=f"Bearer {a_token(await inbox.an_org())}").get(asked)
    assert answer.status_code == 422
    assert [(one["field"], one["message"]) for one in answer.json()["errors"]] == faults


async def test_head_is_get_without_the_body(inbox: RunningInbox) -> None:
    program = inbox.client(authorization=f"Bearer {a_token(await inbox.an_org())}")
    for path in (CONVERSATIONS, f"{CONVERSATIONS}?limit=0", "/v1/templates", "/v1/nothing", "/openapi.json"):
        whole, head = await program.get(path), await program.head(path)
        assert (head.status_code, head.content) == (whole.status_code, b""), path
        assert {**head.headers, "date": ""} == {**whole.headers, "date": ""}
    assert (await inbox.client().head(CONVERSATIONS)).status_code == 401
    stream = await program.head("/v1/events")
    assert (stream.status_code, stream.headers["allow"]) == (405, "GET")


@pytest.mark.parametrize(
    ("token", "why", "says"),
    [
        ({"life": timedelta(minutes=-5)}, "expired", "the token ended at"),
        ({"life": timedelta(hours=2)}, "too_long", "longer than an hour"),
        ({"sub": None}, "claims", "the claim sub"),
        ({"org_id": None}, "claims", "the claim org_id"),
        ({"org_id": "no\0body"}, "claims", "the claim org_id"),
        ({"org_id": "nobody"}, "organisation", "no such organisation"),
        ({"key": "x" * 32}, "signature", None),
        ({"key": "x" * 32, "life": timedelta(minutes=-5)}, "signature", None),
        ({"key": "x" * 32, "org_id": "nobody"}, "signature", None),
    ],
)
async def test_why_a_token_does_not_count_is_said_to_its_holder_and_never_to_a_forger(
    inbox: RunningInbox, token: dict[str, Any], why: str, says: str | None, log_lines: LogLines
) -> None:
    made = a_token(**{"org_id": await inbox.an_org(), **token})
    answer = await inbox.client(authorization=f"Bearer {made}").get(CONVERSATIONS)
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"].startswith('Bearer error="invalid_token"')
    if says is None:
        assert answer.json()["detail"] == "the token does not count"
        assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'
    else:
        assert says in answer.json()["detail"]
        assert says in answer.headers["www-authenticate"]
    # of one reason the service tells at most once a second
    await eventually(lambda: why in [line["reason"] for line in log_lines.of("token.refused")], every=0.05)
    assert made not in log_lines.raw


async def test_a_flood_of_invented_sessions_keeps_nobody_else_waiting(inbox: RunningInbox) -> None:
    program, flood = inbox.api(await inbox.an_org()), inbox.client(accept="text/html")
    assert (await program.get(CONVERSATIONS)).status_code == 200
    async with inbox.pool.acquire() as db:
        async with db.transaction():
            await db.execute("lock table inbox_sessions")
            cookies = [f"transom-inbox={as_text(fresh_id())}" for _ in range(50)]
            asked = [asyncio.create_task(flood.get("/inbox", headers={"cookie": one})) for one in cookies]
            await somebody_waits(db)
            assert (await program.get(CONVERSATIONS)).status_code == 200
        assert {answer.status_code for answer in await asyncio.gather(*asked)} <= {303, 503}


@dataclass
class Signer:
    """An identity provider whose tokens programs bring, and an inbox that believes it."""

    inbox: RunningInbox
    issuer: str
    key: RSAPrivateKey

    async def asks(self, **claims: Any) -> tuple[int, str]:
        said = {
            "iss": self.issuer,
            "aud": "inbox",
            "sub": "robot",
            "exp": int((utc_now() + timedelta(minutes=5)).timestamp()),
            "capabilities": list(ADVISOR),
        } | claims
        said = {name: value for name, value in said.items() if value is not None}
        token = jwt.encode(said, self.key, "RS256", headers={"kid": "k1"})
        answer = await self.inbox.client(authorization=f"Bearer {token}").get(CONVERSATIONS)
        return answer.status_code, answer.text


@pytest_asyncio.fixture(scope="module")
async def signer(
    postgres_dsn: str, database_template: str, kafka_admin: AIOKafkaAdminClient, kafka_bootstrap: str
) -> AsyncIterator[Signer]:
    key = generate_private_key(65537, 2048)
    public = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)

    async def keys(_request: web.Request) -> web.Response:
        return web.json_response({"keys": [{**public, "kid": "k1"}]})

    app = web.Application()
    app.router.add_get("/jwks", keys)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    settings = {"jwks_url": f"{url}/jwks", "jwt_audience": "inbox", "jwt_issuer": url}
    async with an_inbox_of_its_own(postgres_dsn, database_template, kafka_admin, kafka_bootstrap, **settings) as inbox:
        yield Signer(inbox, url, key)
    await runner.cleanup()


async def test_a_platform_s_own_issuer_names_the_organisation_and_others_are_refused(signer: Signer) -> None:
    org_id = await signer.inbox.an_org()
    async with signer.inbox.pool.acquire() as db:  # no organisation names it
        await db.execute("update orgs set sign_in_issuer = null, sign_in_tenant = null")
    assert (await signer.asks(org_id=org_id))[0] == 200
    for wrong in ({"aud": "another"}, {"iss": "https://evil.example"}, {"aud": None}, {"iss": None}):
        assert (await signer.asks(org_id=org_id, **wrong))[0] == 401
    assert (await signer.asks(org_id="nobody"))[0] == 401
    assert (await signer.asks(tenant="ga\0rage"))[0] == 401


async def test_where_organisations_name_the_issuer_the_tenant_decides_and_no_claim_beside_it(signer: Signer) -> None:
    named = await signer.inbox.an_org(sign_in={"issuer": signer.issuer, "tenant": "garage"})
    victim = await signer.inbox.an_org()
    assert (await signer.asks(tenant="garage"))[0] == 200
    assert (await signer.asks(tenant="garage", org_id=named))[0] == 200
    for claims in ({"tenant": "garage", "org_id": victim}, {"tenant": "unknown", "org_id": victim}):
        assert (await signer.asks(**claims))[0] == 401


async def test_a_star_of_an_issuer_that_is_not_listed_allows_nothing(signer: Signer) -> None:
    org_id = await signer.inbox.an_org(sign_in={"issuer": signer.issuer, "tenant": "starry"})
    assert org_id
    assert (await signer.asks(tenant="starry", capabilities=["*"]))[0] == 403
    assert (await signer.asks(tenant="starry", capabilities=["*", "messages.view"]))[0] == 200
