"""Keys of an identity provider: rotated, withdrawn, asked for seldom, and never symmetric."""

import asyncio
import base64
from typing import Any

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from libs.common.errors import Transient
from services.inbox.admission import claims_of_provider
from services.inbox.jwks import FRESH, MOST_BYTES, PATIENCE, STALE, Jwks, keys_of
from services.inbox.tokens import TokenRefused

ADDRESS = "https://login.example/jwks"
OLD, NEW, SHORT = (rsa.generate_private_key(65537, bits) for bits in (2048, 2048, 1024))
CURVE, EDWARDS = ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()
CLAIMS = {"sub": "olga"}


def public(key: Any, key_id: str | None, **more: Any) -> dict[str, Any]:
    kind = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    named = {} if key_id is None else {"kid": key_id}
    return kind.to_jwk(key.public_key(), as_dict=True) | named | more


class Provider:
    """Publishes ``keys`` and counts who asks. ``seconds`` is the time."""

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.keys = list(keys)
        self.asked = 0
        self.seconds = 1000.0
        self.answer: httpx2.Response | Exception | None = None
        http = httpx2.AsyncClient(transport=httpx2.MockTransport(self._respond))
        self.jwks = Jwks(http, ADDRESS, lambda: self.seconds)

    def _respond(self, request: httpx2.Request) -> httpx2.Response:
        assert str(request.url) == ADDRESS
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer or httpx2.Response(200, json={"keys": self.keys})

    def passes(self, delta: Any) -> None:
        self.seconds += delta.total_seconds() + 0.1

    async def reads(self, key: Any, key_id: str | None, algorithm: str = "RS256", **header: Any) -> str:
        """What becomes of a token of this key."""
        token = jwt.encode(CLAIMS, key, algorithm, headers=header | ({} if key_id is None else {"kid": key_id}))
        try:
            return str((await claims_of_provider(token, self.jwks))["sub"])
        except (TokenRefused, Transient) as refused:
            return str(refused)


async def test_a_fresh_key_counts_at_once_and_a_withdrawn_one_after_the_next_round() -> None:
    provider = Provider(public(OLD, "old"))
    assert await provider.reads(OLD, "old") == "olga"
    provider.keys = [public(OLD, "old"), public(NEW, "new")]
    provider.passes(PATIENCE)
    assert await provider.reads(NEW, "new") == "olga"
    provider.keys = [public(NEW, "new")]
    assert await provider.reads(OLD, "old") == "olga"
    provider.passes(FRESH)
    await provider.jwks.refresh()
    assert await provider.reads(OLD, "old") == "unknown_key"
    assert await provider.reads(NEW, "new") == "olga"


async def test_a_thousand_tokens_with_unknown_keys_ask_once_a_minute() -> None:
    provider = Provider(public(OLD, "old"))
    for _ in range(2):
        answers = await asyncio.gather(*(provider.reads(NEW, f"unknown-{n}") for n in range(500)))
        assert set(answers) == {"unknown_key"}
    assert provider.asked == 1
    provider.passes(PATIENCE)
    await provider.reads(NEW, "unknown")
    assert provider.asked == 2


async def test_while_the_provider_is_away_the_known_keys_count_for_a_day() -> None:
    provider = Provider(public(OLD, "old"))
    provider.answer = httpx2.ConnectError("away")
    assert "away" in await provider.reads(OLD, "old")
    provider.answer = None
    provider.passes(PATIENCE)
    assert await provider.reads(OLD, "old") == "olga"
    provider.answer = httpx2.Response(503)
    provider.passes(STALE / 2)
    await provider.jwks.refresh()
    assert await provider.reads(OLD, "old") == "olga"
    provider.passes(STALE)
    assert "away" in await provider.reads(OLD, "old")


@pytest.mark.parametrize(
    "answer",
    [
        httpx2.Response(200, text="no JSON"),
        httpx2.Response(200, json=["keys"]),
        httpx2.Response(302, headers={"location": "https://evil.example/jwks"}),
        httpx2.Response(200, content=b'{"keys": [' + b" " * MOST_BYTES + b"]}"),
    ],
    ids=["text", "list", "redirect", "large"],
)
async def test_an_answer_that_is_no_set_of_keys_is_none(answer: httpx2.Response) -> None:
    provider = Provider()
    provider.answer = answer
    assert "identity provider" in await provider.reads(OLD, "old")
    assert provider.asked == 1


async def test_the_kind_of_a_key_decides_its_algorithms() -> None:
    provider = Provider(public(OLD, "rsa"), public(CURVE, "ec"), public(NEW, "one", alg="RS256"))
    assert [await provider.reads(OLD, "rsa", f"RS{bits}") for bits in (256, 384, 512)] == ["olga"] * 3
    assert await provider.reads(OLD, "rsa", "PS256") == "algorithm"
    assert await provider.reads(CURVE, "ec", "ES256") == "olga"
    assert await provider.reads(OLD, "ec") == "unknown_key"
    assert await provider.reads(NEW, "one", "RS384") == "unknown_key"
    assert await provider.reads(EDWARDS, "rsa", "EdDSA") == "algorithm"
    for secret in ("x" * 32, base64.b64encode(b"y" * 64).decode()):
        assert await provider.reads(secret, "rsa", "HS256") == "algorithm"


async def test_a_token_that_names_another_address_for_its_key_is_read_with_ours() -> None:
    provider = Provider(public(OLD, "old"))
    headers: dict[str, Any] = {
        "jku": "https://evil.example/jwks",
        "x5u": "https://evil.example/x",
        "jwk": public(NEW, "old"),
    }
    assert await provider.reads(NEW, "old", **headers) == "signature"
    assert await provider.reads(OLD, "old", **headers) == "olga"


async def test_without_an_id_the_only_fitting_key_counts() -> None:
    assert await Provider(public(OLD, None), public(CURVE, "ec")).reads(OLD, None) == "olga"
    assert await Provider(public(OLD, "a"), public(NEW, "b")).reads(OLD, None) == "unknown_key"


@pytest.mark.parametrize(
    "key",
    [
        {"kty": "oct", "k": base64.urlsafe_b64encode(b"x" * 32).decode(), "kid": "k"},
        {"kty": "OKP", "crv": "Ed25519", "x": "AA", "kid": "k"},
        {"kty": "RSA", "kid": "k"},
        {"kty": "RSA", "n": "!", "e": "AQAB", "kid": "k"},
        {"kty": ["RSA"]},
        "RSA",
        None,
        public(SHORT, "k"),
        public(OLD, "k", use="enc"),
    ],
)
def test_what_is_no_key_for_signatures_is_left_out(key: Any) -> None:
    assert keys_of({"keys": [key]}) == {}


@pytest.mark.parametrize("told", [{}, {"keys": None}, {"keys": {}}, {"keys": []}])
def test_no_keys_are_no_keys(told: dict[str, Any]) -> None:
    assert keys_of(told) == {}
