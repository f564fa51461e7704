"""An identity provider that changes: its keys are rotated, withdrawn and moved, and only what it signs now counts."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx2
import jwt
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.typedefs import Handler
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key

from deploy.local.servers.ports import LOOPBACK, free_port
from libs.common.clock import utc_now
from services.inbox.jwks import FRESH, MOST_BYTES, STALE
from services.inbox.oidc import Attempt, Client, Provider, SignInRefused
from services.inbox.problems import ProviderAway

STOLEN, FRESH_KEY = generate_private_key(SECP256R1()), generate_private_key(SECP256R1())


@dataclass
class Changing:
    """A provider on a port of this machine. ``listed``: its keys by id, at ``keys_at``; ``signs_with`` one of any."""

    issuer: str
    listed: dict[str, EllipticCurvePrivateKey]
    signs_with: tuple[str, EllipticCurvePrivateKey]
    keys_at: str = "/jwks"
    attempt: Attempt = field(default_factory=lambda: Attempt.fresh("/inbox"))
    seconds: float = 1000.0
    is_slow: bool = False
    padding: int = 0
    """Blanks in the answer of the token endpoint."""

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._slowly])
        app.add_routes([
            web.get("/.well-known/openid-configuration", self._metadata),
            web.get("/{name:jwks.*}", self._keys),
            web.post("/token", self._token),
        ])  # fmt: skip
        return app

    @web.middleware
    async def _slowly(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Sends, where it is slow, a blank every 10 ms for ten seconds, and then the answer."""
        answer = await handler(request)
        if not self.is_slow or not isinstance(answer, web.Response):
            return answer
        slow = web.StreamResponse(headers={"Content-Type": "application/json"})
        await slow.prepare(request)
        for _ in range(1000):
            await slow.write(b" ")
            await asyncio.sleep(0.01)
        assert isinstance(answer.body, bytes)
        await slow.write(answer.body)
        return slow

    async def _metadata(self, _request: web.Request) -> web.Response:
        addresses = {"authorization_endpoint": "/authorize", "token_endpoint": "/token", "jwks_uri": self.keys_at}
        return web.json_response(
            {"issuer": self.issuer} | {name: f"{self.issuer}{path}" for name, path in addresses.items()}
        )

    async def _keys(self, request: web.Request) -> web.Response:
        if request.path != self.keys_at:
            raise web.HTTPNotFound
        algorithm = jwt.algorithms.ECAlgorithm
        return web.json_response(
            {"keys": [algorithm.to_jwk(k.public_key(), as_dict=True) | {"kid": n} for n, k in self.listed.items()]}
        )

    async def _token(self, _request: web.Request) -> web.Response:
        now = int(utc_now().timestamp())
        said: dict[str, Any] = {"iss": self.issuer, "aud": "transom", "sub": "kim", "iat": now, "exp": now + 300}
        key_id, key = self.signs_with
        token = jwt.encode(said | {"nonce": self.attempt.nonce}, key, "ES256", headers={"kid": key_id})
        said = {"access_token": "a", "token_type": "Bearer", "id_token": token, "padding": " " * self.padding}
        return web.json_response(said)

    def passes(self, delta: timedelta) -> None:
        self.seconds += delta.total_seconds() + 1


@pytest_asyncio.fixture
async def changing() -> AsyncIterator[Changing]:
    port = free_port()
    made = Changing(f"http://{LOOPBACK}:{port}", {"one": STOLEN}, ("one", STOLEN))
    runner = web.AppRunner(made.app())
    await runner.setup()
    await web.TCPSite(runner, LOOPBACK, port).start()
    yield made
    await runner.cleanup()


@pytest_asyncio.fixture
async def door(changing: Changing) -> AsyncIterator[Provider]:
    client = Client("transom", "", f"{changing.issuer}/login/callback")
    async with httpx2.AsyncClient(trust_env=False) as http:
        yield Provider(http, changing.issuer, client, utc_now, lambda: changing.seconds)


async def signs_in(door: Provider, changing: Changing) -> str:
    """Who signs in, or why nobody does."""
    try:
        claims = await door.claims(changing.attempt, {"state": changing.attempt.state, "code": "c"})
    except SignInRefused as refused:
        return refused.why
    return str(claims["sub"])


async def test_a_withdrawn_key_signs_nobody_in_though_no_other_key_was_ever_used(
    door: Provider, changing: Changing
) -> None:
    assert await signs_in(door, changing) == "kim"
    changing.listed = {"two": FRESH_KEY}
    changing.passes(FRESH)
    assert await signs_in(door, changing) == "unknown_key"
    changing.signs_with = ("two", FRESH_KEY)
    assert await signs_in(door, changing) == "kim"


async def test_a_key_that_was_exchanged_under_its_id_counts_after_a_few_minutes(
    door: Provider, changing: Changing
) -> None:
    assert await signs_in(door, changing) == "kim"
    changing.listed, changing.signs_with = {"one": FRESH_KEY}, ("one", FRESH_KEY)
    assert await signs_in(door, changing) == "signature"
    changing.passes(FRESH)
    assert await signs_in(door, changing) == "kim"


async def test_keys_that_moved_to_another_address_are_found_there(door: Provider, changing: Changing) -> None:
    assert await signs_in(door, changing) == "kim"
    changing.listed, changing.signs_with, changing.keys_at = {"two": FRESH_KEY}, ("two", FRESH_KEY), "/jwks/moved"
    changing.passes(timedelta(hours=1))
    assert await signs_in(door, changing) == "kim"


@pytest.mark.parametrize("away", [FRESH, STALE / 25])
async def test_known_keys_count_while_the_address_of_the_keys_is_away(
    door: Provider, changing: Changing, away: timedelta
) -> None:
    assert await signs_in(door, changing) == "kim"
    changing.keys_at = "/jwks/nowhere-that-the-metadata-names-yet"
    changing.passes(away)
    assert await signs_in(door, changing) == "kim"


@pytest.mark.parametrize("knows", [False, True], ids=["metadata", "token"])
async def test_an_answer_that_comes_too_slowly_is_not_waited_for(
    door: Provider, changing: Changing, monkeypatch: pytest.MonkeyPatch, *, knows: bool
) -> None:
    if knows:
        await door.address(changing.attempt, None)
    changing.is_slow = True
    for module in ("jwks", "oidc"):
        monkeypatch.setattr(f"services.inbox.{module}.ANSWER_SECONDS", 0.5)
    with pytest.raises(ProviderAway):
        await signs_in(door, changing)


async def test_an_answer_of_the_token_endpoint_is_read_up_to_a_limit(door: Provider, changing: Changing) -> None:
    changing.padding = MOST_BYTES
    with pytest.raises(ProviderAway, match="too large"):
        await signs_in(door, changing)
    changing.padding = MOST_BYTES // 2
    assert await signs_in(door, changing) == "kim"
