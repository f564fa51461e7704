"""The sandbox's OpenID provider: one client, codes and tickets that count once, and no sign-in from elsewhere."""

import base64
import hashlib
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import pytest
import pytest_asyncio

from deploy.local.sandbox.client import SandboxClient, SandboxError
from tests.support.sandbox import ROOT, launched

REDIRECT = "http://127.0.0.1:1/login/callback"
VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")
ASKED = {
    "client_id": "transom",
    "redirect_uri": REDIRECT,
    "response_type": "code",
    "scope": "openid profile",
    "state": "s",
    "nonce": "n",
    "code_challenge": CHALLENGE,
    "code_challenge_method": "S256",
}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with launched("--oidc-client", "transom", "--oidc-secret", "s3cret", "--oidc-redirect", REDIRECT) as url:
        yield url


@dataclass
class Provider:
    http: httpx.AsyncClient
    sandbox: SandboxClient

    async def authorize(self, **asked: str) -> httpx.Response:
        return await self.http.get("/oidc/authorize", params=ASKED | asked)

    async def code(self, user_id: str = "olivia") -> str:
        answer = await self.authorize(user_id=user_id)
        return parse_qs(urlsplit(answer.headers["location"]).query)["code"][0]

    async def token(self, code: str, secret: str = "s3cret", **form: str) -> httpx.Response:
        said = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": REDIRECT,
            "code_verifier": VERIFIER,
        }
        return await self.http.post("/oidc/token", data=said | form, auth=("transom", secret))


@pytest_asyncio.fixture
async def provider(address: str) -> AsyncIterator[Provider]:
    async with httpx.AsyncClient(base_url=address) as http, SandboxClient(address) as sandbox:
        await sandbox.reset()
        yield Provider(http, sandbox)


async def test_a_code_gives_an_id_token_of_its_person_once(provider: Provider) -> None:
    code = await provider.code("marek")
    told = (await provider.token(code)).json()
    [key] = (await provider.http.get("/oidc/jwks")).json()["keys"]
    claims = jwt.decode(told["id_token"], jwt.PyJWK(key).key, algorithms=["ES256"], audience="transom")
    metadata = (await provider.http.get("/oidc/.well-known/openid-configuration")).json()
    assert claims["iss"] == metadata["issuer"]
    assert (claims["sub"], claims["nonce"], claims["tenant"]) == ("marek", "n", "example")
    assert "messages.send" in claims["capabilities"]
    again = await provider.token(code)
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")


@pytest.mark.parametrize(
    ("wrong", "status", "error"),
    [
        ({"code_verifier": "w" * 43}, 400, "invalid_grant"),
        ({"code_verifier": ""}, 400, "invalid_grant"),
        ({"redirect_uri": f"{REDIRECT}/"}, 400, "invalid_grant"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"secret": "another"}, 401, "invalid_client"),
    ],
)
async def test_a_code_is_for_its_client_address_and_verifier(
    provider: Provider, wrong: dict[str, str], status: int, error: str
) -> None:
    answer = await provider.token(await provider.code(), **wrong)
    assert (answer.status_code, answer.json()["error"]) == (status, error)


@pytest.mark.parametrize("wrong", [{"client_id": "other"}, {"redirect_uri": f"{REDIRECT}?x"}, {"redirect_uri": ""}])
async def test_nobody_is_sent_to_an_address_that_is_not_registered(provider: Provider, wrong: dict[str, str]) -> None:
    answer = await provider.authorize(user_id="olivia", **wrong)
    assert answer.status_code == 400
    assert "location" not in answer.headers


@pytest.mark.parametrize(
    "wrong",
    [{"response_type": "token"}, {"code_challenge_method": "plain"}, {"code_challenge": ""}, {"scope": "profile"}],
)
async def test_a_request_without_pkce_or_openid_gets_an_error_and_no_code(
    provider: Provider, wrong: dict[str, str]
) -> None:
    answer = await provider.authorize(user_id="olivia", **wrong)
    said: dict[str, Any] = parse_qs(urlsplit(answer.headers["location"]).query)
    assert "code" not in said
    assert said["error"]


async def test_a_ticket_counts_once_and_of_nobody_there_is_none(provider: Provider) -> None:
    ticket = await provider.sandbox.sign_in_ticket("tom")
    assert [(await provider.authorize(login_hint=ticket)).status_code for _ in range(2)] == [302, 200]
    with pytest.raises(SandboxError, match="user_id"):
        await provider.sandbox.sign_in_ticket("nobody")


async def test_it_answers_on_this_machine_s_names_alone(provider: Provider) -> None:
    answer = await provider.http.get("/oidc/.well-known/openid-configuration", headers={"host": "evil.example"})
    assert answer.status_code == 403


def test_it_does_not_start_where_others_could_reach_it() -> None:
    options = ["--host", "0.0.0.0", "--oidc-client", "c", "--oidc-redirect", REDIRECT]
    command = [sys.executable, "-m", "deploy.local.sandbox", *options]
    told = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=30)
    assert told.returncode == 2
    assert "loopback" in told.stderr
