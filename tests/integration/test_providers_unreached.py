"""Calls to a provider that never leave, over real sockets: the log says why, and no thousand times."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
import trustme

from deploy.local.servers.ports import LOOPBACK, free_port
from libs.common.clock import utc_now
from libs.common.providers.accounts import SmsAccounts, account_of
from services.inbox.template_graph import open_template_graph
from services.sms_bridge.providers import OutgoingSms
from services.sms_bridge.providers.opening import ProviderConfig, open_accounts, open_http
from services.whatsapp_sender.graph import open_graph
from tests.support.logs import LogLines

SECRET = "s3cret"
Call = Callable[[str], Coroutine[Any, Any, object]]


async def by_graph(url: str) -> object:
    async with open_graph(
        base_url=url, version="v26.0", token=SECRET, timeout_seconds=5, connections=4, now=utc_now
    ) as graph:
        return await asyncio.gather(*(graph.send("106", {"to": SECRET}, token=None) for _ in range(20)))


async def of_templates(url: str) -> object:
    async with open_template_graph(base_url=url, version="v26.0", timeout_seconds=5) as graph:
        return await graph.page("206", SECRET)


def by(provider: Any) -> Call:
    async def send(url: str) -> object:
        async with open_http() as http:
            config = ProviderConfig({provider: url}, None, 5.0)
            accounts = SmsAccounts(provider, {provider: account_of(provider, "A1", [SECRET])}, {})
            [client] = open_accounts(accounts, http, config, utc_now).values()
            return await client.send(OutgoingSms("+44", "+447700900001", SECRET, timedelta(hours=4), "m1:1"))

    return send


@asynccontextmanager
async def untrusted() -> AsyncIterator[str]:
    """The address of a server whose authority nobody here knows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert(LOOPBACK).configure_cert(context)
    server = await asyncio.start_server(lambda _, writer: writer.close(), LOOPBACK, 0, ssl=context)
    async with server:
        yield f"https://{LOOPBACK}:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    ("call", "provider"),
    [(by_graph, "meta"), (of_templates, "meta"), (by("twilio"), "twilio"), (by("vonage"), "vonage")],
    ids=["sending", "templates", "twilio", "vonage"],
)
async def test_the_log_says_why_no_call_leaves(call: Call, provider: str, log_lines: LogLines) -> None:
    await call(f"http://{LOOPBACK}:{free_port()}")
    await call("http://nowhere.invalid")
    async with untrusted() as url:
        await call(url)
    assert [(line["dependency"], line["detail"]) for line in log_lines.of("dependency.away")] == [
        (provider, "nothing listens there"),
        (provider, "its name does not resolve"),
        (provider, "no authority that is trusted here has signed its certificate"),
    ]
    assert SECRET not in log_lines.raw
