"""What a provider's address is made of: an id is one segment, whatever stands in it."""

import ast
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from libs.common.addresses import segment
from libs.common.clock import utc_now
from services.sms_bridge.providers import OutgoingSms
from services.sms_bridge.providers.twilio import Twilio
from services.whatsapp_sender.graph import open_graph

ROOT = Path(__file__).parents[2]
OTHER = "106400000000999"


@pytest_asyncio.fixture
async def asked() -> AsyncIterator[tuple[str, list[str]]]:
    """A server's address, and the raw paths that it is asked for."""
    paths: list[str] = []

    async def record(request: web.Request) -> web.Response:
        paths.append(request.raw_path)
        return web.json_response({"messages": [{"id": "wamid.1"}], "sid": "SM1"})

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", record)
    async with TestServer(app) as server:
        yield str(server.make_url("/")).rstrip("/"), paths


@pytest.mark.parametrize(
    "number",
    [
        f"106400000000001/../{OTHER}",
        "me/accounts?fields=access_token&x=",
        "1#2",
        "1%2F..%2F2",
        f"..%2f{OTHER}",
        "1 2",
        "é",
    ],
)  # fmt: skip -- a list
async def test_a_number_that_is_none_reaches_no_other_endpoint(asked: tuple[str, list[str]], number: str) -> None:
    url, paths = asked
    async with open_graph(
        base_url=url, version="v26.0", token="t", timeout_seconds=5, connections=1, now=utc_now
    ) as graph:
        await graph.send(number, {"type": "text"}, token=None)
    (path,) = paths
    assert path.startswith("/v26.0/")
    assert path.endswith("/messages")
    assert path.count("/") == 3
    assert "?" not in path


async def test_an_account_of_twilio_is_one_segment_too(asked: tuple[str, list[str]]) -> None:
    url, paths = asked
    async with aiohttp.ClientSession() as http:
        twilio = Twilio(
            http,
            base_url=url,
            account_sid="AC1/../AC2?x",
            auth_token="t",
            public_url=None,
            timeout_seconds=5,
            now=utc_now,
        )
        await twilio.send(OutgoingSms("+447700900001", "+447700900999", "Hi", timedelta(hours=1), "m1:1"))
    assert paths == ["/2010-04-01/Accounts/AC1%2F..%2FAC2%3Fx/Messages.json"]


@given(st.text(min_size=1))
def test_whatever_it_is_it_is_one_segment_and_comes_back_as_it_was(part: str) -> None:
    if part in (".", "..") or any(0xD800 <= ord(c) < 0xE000 for c in part):
        return
    url = URL(f"https://graph.example/v26.0/{segment(part)}/messages")
    assert url.raw_path.count("/") == 3
    assert url.query_string == url.fragment == ""
    assert url.parts == ("/", "v26.0", part, "messages")


@pytest.mark.parametrize("step", ["", ".", ".."])
def test_a_step_is_no_segment(step: str) -> None:
    with pytest.raises(ValueError, match="no segment"):
        segment(step)


CONFIGURED = {
    *("base_url", "version", "self._base_url", "self._version"),
    *("self._base", "_API", "self._account", "self._callback"),
}


def bare(tree: ast.AST) -> Iterator[str]:
    """What stands in an f-string beside a slash and is neither configured nor quoted."""
    for text in ast.walk(tree):
        if isinstance(text, ast.JoinedStr) and any(
            isinstance(p, ast.Constant) and "/" in str(p.value) for p in text.values
        ):
            for part in text.values:
                if isinstance(part, ast.FormattedValue):
                    told = ast.unparse(part.value)
                    if told not in CONFIGURED and not told.startswith(("segment(", "urlencode(")):
                        yield told


def test_no_address_is_built_from_an_id_that_is_not_quoted() -> None:
    clients = [
        p
        for folder in ("services", "libs")
        for p in (ROOT / folder).rglob("*.py")
        if "import aiohttp" in p.read_text("utf-8")
    ]
    assert len(clients) >= 2
    assert {f"{path.name}: {told}" for path in clients for told in bare(ast.parse(path.read_text("utf-8")))} == set()


@pytest.mark.parametrize("source", ['f"{base_url}/{number}/messages"', 'f"/Accounts/{sid}.json"'])
def test_the_test_above_finds_one(source: str) -> None:
    assert list(bare(ast.parse(source)))
