"""The sandbox's controls refuse what a web page in a developer's browser could send."""

from collections.abc import Mapping

import aiohttp
import pytest

from deploy.local.sandbox.client import SandboxClient
from tests.support.sandbox import CUSTOMER, NUMBER_ID

JSON = {"content-type": "application/json"}
WRITES = f'{{"phone_number_id": "{NUMBER_ID}", "phone": "{CUSTOMER}", "text": "Hello"}}'.encode()


async def asked(
    sandbox: SandboxClient, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None
) -> int:
    skip = ["Content-Type"]  # aiohttp would add one of its own
    async with (
        aiohttp.ClientSession(skip_auto_headers=skip) as http,
        http.request(method, f"{sandbox.url}/_control/{path}", data=body, headers=headers) as answer,
    ):
        return answer.status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (JSON, 200),
        ({"content-type": "application/json; charset=utf-8"}, 200),
        (JSON | {"sec-fetch-site": "none"}, 200),
        (JSON | {"host": "localhost:1"}, 200),
        (JSON | {"host": "[::1]:1"}, 200),
        ({}, 415),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({"content-type": "multipart/form-data; boundary=x"}, 415),
        ({"content-type": "text/plain; application/json"}, 415),
        (JSON | {"origin": "https://evil.example"}, 403),
        (JSON | {"origin": "null"}, 403),
        (JSON | {"origin": "http://127.0.0.1:3000"}, 403),
        (JSON | {"sec-fetch-site": "cross-site"}, 403),
        (JSON | {"sec-fetch-site": "same-site"}, 403),
        (JSON | {"host": "evil.example"}, 403),
        (JSON | {"host": "127.0.0.1.evil.example:80"}, 403),
        (JSON | {"host": "localhost.evil.example"}, 403),
    ],
)
async def test_a_customer_writes_only_for_a_tool_of_the_developer_s(
    sandbox: SandboxClient, headers: dict[str, str], status: int
) -> None:
    await sandbox.configure(webhooks=False)
    assert await asked(sandbox, "POST", "customer/writes", headers, WRITES) == status


@pytest.mark.parametrize("headers", [{"origin": "null"}, {"sec-fetch-site": "cross-site"}, {"host": "evil.example"}])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "messages"),
        ("GET", "health"),
        ("POST", "reset"),
        ("POST", "webhooks/hold"),
        ("DELETE", "faults"),
        ("PATCH", "config"),
        ("PUT", f"sms/recipients/{CUSTOMER}"),
    ],
)
async def test_no_control_answers_a_page(
    sandbox: SandboxClient, method: str, path: str, headers: dict[str, str]
) -> None:
    assert await asked(sandbox, method, path, headers) == 403


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "reset"), ("POST", "webhooks/hold"), ("POST", "webhooks/release")]
)
async def test_what_a_form_sends_is_refused_though_it_is_empty(
    sandbox: SandboxClient, method: str, path: str, kind: str
) -> None:
    assert await asked(sandbox, method, path, {"content-type": kind}) == 415
    assert await asked(sandbox, method, path, {}) == 200
