"""Our Twilio against one that plays by its own rules: what is sent, what is found again, and what is certain when
nothing comes back.
"""

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from email.utils import format_datetime
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from deploy.local.sandbox.client import SandboxClient
from deploy.local.servers.ports import free_port
from libs.common.clock import utc_now
from libs.common.errors import Transient
from libs.common.sending.outcomes import Accepted, Refused, RetryLater, Unknown
from services.sms_bridge.providers import ListUnavailable, OutgoingSms
from services.sms_bridge.providers.opening import open_http
from services.sms_bridge.providers.twilio import Twilio
from tests.support.sandbox import CUSTOMER, TWILIO_SID, TWILIO_TOKEN

SENDER = "+447700900001"
MINUTE = timedelta(minutes=1)
MakeTwilio = Callable[..., Twilio]


def an_sms(text: str = "AcmeMotors: Update for you.", to: str = CUSTOMER) -> OutgoingSms:
    return OutgoingSms(sender=SENDER, to=to, text=text, validity=timedelta(hours=4), reference="m1:1")


@pytest_asyncio.fixture
async def twilio(sandbox: SandboxClient) -> AsyncIterator[MakeTwilio]:
    async with aiohttp.ClientSession() as http:

        def make(**changes: Any) -> Twilio:
            settings: dict[str, Any] = {
                "base_url": sandbox.url,
                "account_sid": TWILIO_SID,
                "auth_token": TWILIO_TOKEN,
                "public_url": "http://127.0.0.1:9",
                "timeout_seconds": 20.0,
                "now": utc_now,
            }
            return Twilio(http, **settings | changes)

        yield make


async def test_what_is_sent_is_accepted_under_the_providers_id(twilio: MakeTwilio, sandbox: SandboxClient) -> None:
    outcome = await twilio().send(an_sms("{org} €5 – naïve ☂\n+&=%"))  # noqa: RUF001 -- text from anywhere
    [sms] = await sandbox.sms()
    assert outcome == Accepted(TWILIO_SID, sms["sid"])
    assert sms["message"]["body"] == "{org} €5 – naïve ☂\n+&=%"  # noqa: RUF001 -- text from anywhere
    assert sms["callback"] == "http://127.0.0.1:9/webhooks/twilio/status?ref=m1:1"


async def test_a_cookie_of_an_answer_goes_with_no_call_of_another_account() -> None:
    cookies = []

    async def take(request: web.Request) -> web.Response:
        cookies.append(request.headers.get("Cookie"))
        return web.json_response({"sid": "SM1"}, status=201, headers={"Set-Cookie": "session=1; Path=/"})

    app = web.Application()
    app.router.add_post("/{rest:.*}", take)
    async with TestServer(app, host="localhost") as server, open_http() as http:
        for account in ("AC1", "AC2"):
            twilio = Twilio(
                http,
                base_url=f"http://localhost:{server.port}",
                account_sid=account,
                auth_token="secret",
                public_url=None,
                timeout_seconds=20.0,
                now=utc_now,
            )
            assert isinstance(await twilio.send(an_sms()), Accepted)
    assert cookies == [None, None]


@pytest.mark.parametrize("after", ["86400", "Thu, 31 Dec 2099 23:59:59 GMT"])
async def test_a_throttle_is_not_granted_more_than_an_hour(twilio: MakeTwilio, after: str) -> None:
    async def refuse(_request: web.Request) -> web.Response:
        return web.json_response({"code": 20429}, status=429, headers={"Retry-After": after})

    app = web.Application()
    app.router.add_post("/{rest:.*}", refuse)
    async with TestServer(app) as server:
        outcome = await twilio(base_url=f"http://{server.host}:{server.port}").send(an_sms())
    assert isinstance(outcome, RetryLater)
    assert outcome.after == timedelta(hours=1)


@pytest.mark.parametrize("page_size", [1, 2, 1000])
async def test_the_list_is_read_to_its_end_whatever_the_page(
    twilio: MakeTwilio, sandbox: SandboxClient, page_size: int
) -> None:
    provider = twilio(page_size=page_size)
    texts = [f"text {n}" for n in range(5)]
    for text in texts:
        await provider.send(an_sms(text))
    await provider.send(an_sms("to somebody else", to="+447700900555"))
    listed = await provider.list_sent(sender=SENDER, to=CUSTOMER, since=utc_now() - MINUTE)
    assert [sms.text for sms in listed] == texts[::-1]
    assert {sms.provider_id for sms in listed} < {sms["sid"] for sms in await sandbox.sms()}


async def test_what_is_queued_and_not_sent_yet_is_listed(twilio: MakeTwilio, sandbox: SandboxClient) -> None:
    await sandbox.configure(sent_after=3600)
    await twilio().send(an_sms("queued"))
    [queued] = await twilio().list_sent(sender=SENDER, to=CUSTOMER, since=utc_now() - MINUTE)
    assert queued.text == "queued"


async def test_a_list_without_end_is_enough_once_it_is_too_old(twilio: MakeTwilio) -> None:
    provider = twilio(page_size=1)
    for n in range(21):
        await provider.send(an_sms(f"text {n}"))
    with pytest.raises(Transient):
        await provider.list_sent(sender=SENDER, to=CUSTOMER, since=utc_now() - MINUTE)
    assert await provider.list_sent(sender=SENDER, to=CUSTOMER, since=utc_now() + timedelta(hours=1)) == []


@pytest.mark.parametrize("page_size", [1, 1000])
async def test_what_is_shown_with_another_number_is_found_by_its_sender(
    twilio: MakeTwilio, sandbox: SandboxClient, page_size: int
) -> None:
    await sandbox.configure(sent_after=0, sms_redact_numbers=True)
    provider = twilio(page_size=page_size)
    for text, to in (("ours", CUSTOMER), ("a neighbour's", "+447711000555"), ("another's", CUSTOMER[:-4] + "0000")):
        await provider.send(an_sms(text, to=to))
    since = utc_now() - MINUTE
    assert await provider.list_sent(sender=SENDER, to=CUSTOMER, since=since) == []
    found = await provider.list_obscured(sender=SENDER, to=[CUSTOMER], since=since)
    assert [sms.text for sms in found] == ["another's", "ours"]
    later = utc_now() + timedelta(hours=1)
    assert await provider.list_obscured(sender=SENDER, to=[CUSTOMER], since=later) == []


async def test_what_was_sent_long_before_is_not_listed(twilio: MakeTwilio) -> None:
    provider = twilio()
    await provider.send(an_sms())
    assert await provider.list_sent(sender=SENDER, to=CUSTOMER, since=utc_now() + timedelta(hours=1)) == []


async def test_twilio_may_count_whole_days_and_what_is_still_coming_is_left(twilio: MakeTwilio) -> None:
    """Twilio documents days for the filter. A list that shows what is no SMS of a customer with a date is not read."""
    since = utc_now().replace(microsecond=0)
    shown: dict[str, Any] = {"sid": "SM1", "direction": "inbound", "status": "received", "from": CUSTOMER, "to": SENDER}
    shown |= {"date_sent": format_datetime(since)}
    older = shown | {"sid": "SM2", "date_sent": format_datetime(since - timedelta(seconds=1))}
    coming = shown | {"sid": "SM3", "status": "receiving"}
    without = shown | {"date_sent": None}
    pages = [[shown, older, coming], [without], [without | {"date_created": shown["date_sent"]}], ["no record"]]

    async def answer(_request: web.Request) -> web.Response:
        return web.json_response({"messages": pages.pop(0), "next_page_uri": None})

    app = web.Application()
    app.router.add_get("/{tail:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        provider = twilio(base_url=f"http://127.0.0.1:{runner.addresses[0][1]}")
        assert [sms.provider_id for sms in await provider.list_received(to=SENDER, since=since)] == ["SM1"]
        with pytest.raises(ListUnavailable):
            await provider.list_received(to=SENDER, since=since)
        assert [sms.at for sms in await provider.list_received(to=SENDER, since=since)] == [since]
        with pytest.raises(ListUnavailable):
            await provider.list_received(to=SENDER, since=since)
    finally:
        await runner.cleanup()


async def test_what_was_received_is_read_no_further_than_it_is_asked_for(twilio: MakeTwilio) -> None:
    """A filter by whole days lists all of a busy day, which has more pages than are read."""
    since, asked = utc_now().replace(microsecond=0), 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        at = format_datetime(since + timedelta(seconds=3 - asked))
        shown = {"sid": f"SM{asked}", "direction": "inbound", "status": "received", "from": CUSTOMER, "to": SENDER}
        more = f"{request.path}?Page={asked}"
        return web.json_response({"messages": [shown | {"date_sent": at}], "next_page_uri": more})

    app = web.Application()
    app.router.add_get("/{tail:.*}", answer)
    async with TestServer(app) as server:
        provider = twilio(base_url=f"http://{server.host}:{server.port}", page_size=1)
        found = await provider.list_received(to=SENDER, since=since)
    assert [sms.provider_id for sms in found] == ["SM1", "SM2", "SM3"]
    assert asked == 4


@pytest.mark.parametrize("mode", ["server_error", "stall", "drop_answer", "reset"])
async def test_what_may_have_been_sent_is_never_called_unsent(
    twilio: MakeTwilio, sandbox: SandboxClient, mode: Any
) -> None:
    await sandbox.fault("twilio", mode, seconds=60, calls=1)
    assert isinstance(await twilio(timeout_seconds=1.0 if mode == "stall" else 20.0).send(an_sms()), Unknown)


async def test_a_connection_that_was_never_made_is_simply_later(twilio: MakeTwilio) -> None:
    for base_url in (f"http://127.0.0.1:{free_port()}", "http://nowhere.invalid"):
        outcome = await twilio(base_url=base_url).send(an_sms())
        assert isinstance(outcome, RetryLater)
        assert outcome.code == "never_left"


async def test_a_wrong_token_is_not_the_messages_fault(twilio: MakeTwilio) -> None:
    outcome = await twilio(auth_token="wrong").send(an_sms())
    assert isinstance(outcome, RetryLater)
    assert (outcome.scope, outcome.code, outcome.fault) == ("provider", "20003", True)


async def test_a_text_beyond_the_limit_is_refused(twilio: MakeTwilio) -> None:
    assert await twilio().send(an_sms("x" * 1601)) == Refused("21617")


@pytest.mark.parametrize("mode", ["server_error", "throttle", "stall"])
async def test_half_a_list_is_no_list(twilio: MakeTwilio, sandbox: SandboxClient, mode: Any) -> None:
    await twilio().send(an_sms())
    await sandbox.fault("twilio", mode, endpoint="list", seconds=60, calls=1)
    with pytest.raises(Transient):
        await twilio(timeout_seconds=1.0 if mode == "stall" else 20.0).list_sent(
            sender=SENDER, to=CUSTOMER, since=utc_now() - MINUTE
        )
