"""The contract of an SMS provider (``services/sms_bridge/providers``), for each provider against its sandbox."""

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Literal
from urllib.parse import parse_qsl, urlencode
from uuid import UUID

import aiohttp
import pytest
import pytest_asyncio

from deploy.local.sandbox.client import SandboxClient
from deploy.local.sandbox.faults import Mode
from deploy.local.servers.ports import free_port
from libs.common.answers import departures
from libs.common.clock import utc_now
from libs.common.events.directory import SmsProviderName
from libs.common.faults import RecipientFault
from libs.common.ids import callback_data
from libs.common.providers import fault_of
from libs.common.providers.accounts import SmsAccounts, account_of
from libs.common.sending.outcomes import Accepted, Refused, RetryLater, Unknown
from services.ingest import twilio, vonage
from services.ingest.forms import read_form
from services.ingest.items import InboundSms, MessageStatus, SmsPart
from services.ingest.parse import parse
from services.ingest.signature import signed_by_twilio, signed_by_vonage
from services.sms_bridge.providers import OutgoingSms, SmsProvider
from services.sms_bridge.providers.opening import ProviderConfig, open_accounts
from tests.support.recordings import recording, recordings, shape
from tests.support.sandbox import (
    CUSTOMER,
    TWILIO_SID,
    TWILIO_TOKEN,
    VONAGE_KEY,
    VONAGE_SECRET,
    VONAGE_SIGNATURE,
    HookInbox,
    Post,
)

SENDER = "+447700900001"
MESSAGE_ID = "01900000-0000-7000-8000-000000000001"
PROVIDERS: tuple[SmsProviderName, ...] = ("twilio", "vonage")
Make = Callable[..., SmsProvider]


@dataclass
class Side:
    """One provider: ours, and what its sandbox posts."""

    name: SmsProviderName
    make: Make
    sandbox: SandboxClient
    hooks: HookInbox

    async def callbacks(self, kind: Literal["status", "sms"], count: int) -> list[Any]:
        """What these posts say, once ``count`` have come, each verified and read as the edge and the worker do."""
        path = f"/webhooks/{self.name}/{kind}"

        async def come() -> bool:
            return len([p for p in self.hooks.posts if p.path.startswith(path)]) >= count

        await self.sandbox.until(come)
        return [self.read(post, kind) for post in self.hooks.posts if post.path.startswith(path)]

    def read(self, post: Post, kind: str) -> Any:
        form = read_form(post.raw)
        assert form is not None
        headers = {name.lower(): told for name, told in post.headers.items()}
        if self.name == "vonage":
            assert signed_by_vonage(form, [VONAGE_SIGNATURE.encode()])
            assert abs(int(form["timestamp"]) - utc_now().timestamp()) < 300
            record = (vonage.status_record if kind == "status" else vonage.sms_record)(form, utc_now(), form["api-key"])
        else:
            url = self.hooks.url + post.path + (f"?{post.query}" if post.query else "")
            signature = headers["x-twilio-signature"].encode()
            assert signed_by_twilio([url], {k: (v,) for k, v in form.items()}, signature, [TWILIO_TOKEN.encode()])
            account, query = form["AccountSid"], post.query
            assert twilio.is_split_as_sent(query, form, is_sms=kind == "sms")
            ref = dict(parse_qsl(query)).get("ref")
            record = (
                twilio.status_record(form, utc_now(), account, ref)
                if kind == "status"
                else twilio.sms_record(form, utc_now(), account)
            )
        return parse(record[1], reaction_opens=False)


@pytest_asyncio.fixture(params=PROVIDERS)
async def side(request: pytest.FixtureRequest, sandbox: SandboxClient, hook_inbox: HookInbox) -> AsyncIterator[Side]:
    name: SmsProviderName = request.param
    await sandbox.configure(
        sent_after=0.01,
        delivered_after=0.01,
        sms_url=f"{hook_inbox.url}/webhooks/twilio/sms",
        vonage_sms_url=f"{hook_inbox.url}/webhooks/vonage/sms",
    )
    async with aiohttp.ClientSession(trace_configs=[departures()]) as http:

        def make(token: str | None = None, base_url: str | None = None, seconds: float = 20.0) -> SmsProvider:
            account = {
                "twilio": account_of("twilio", TWILIO_SID, [token or TWILIO_TOKEN]),
                "vonage": account_of("vonage", VONAGE_KEY, [token or VONAGE_SECRET]),
            }[name]
            base_urls: dict[SmsProviderName, str] = dict.fromkeys(PROVIDERS, base_url or sandbox.url)
            config = ProviderConfig(base_urls, hook_inbox.url, seconds)
            [provider] = open_accounts(SmsAccounts(name, {name: account}, {}), http, config, utc_now).values()
            return provider

        yield Side(name, make, sandbox, hook_inbox)


def an_sms(text: str = "AcmeMotors: Update for you.", to: str = CUSTOMER) -> OutgoingSms:
    return OutgoingSms(SENDER, to, text, timedelta(hours=4), f"{MESSAGE_ID}:1:abcdefgh")


async def test_a_text_is_taken_once_and_arrives_as_it_was(side: Side) -> None:
    text = "{org} €5 – naïve ☂\n+&=%"  # noqa: RUF001 -- text from anywhere
    outcome = await side.make().send(an_sms(text))
    [sms] = await side.sandbox.sms()
    assert isinstance(outcome, Accepted)
    assert (outcome.account, outcome.provider_id, outcome.parts) == (side.make().key.account, sms["sid"], ())
    assert (sms["provider"], sms["message"]["body"], sms["message"]["to"], sms["message"]["from"]) == (
        *(side.name, text),
        *(CUSTOMER, SENDER),
    )


@pytest.mark.parametrize("seconds", [1, 4 * 3600, 10 * 86_400])
async def test_a_validity_beyond_what_the_provider_takes_is_brought_into_it(side: Side, seconds: int) -> None:
    sms = OutgoingSms(SENDER, CUSTOMER, "Hi", timedelta(seconds=seconds), "m1:1")
    assert isinstance(await side.make().send(sms), Accepted)


async def test_every_status_echoes_the_reference_and_the_numbers(side: Side) -> None:
    outcome = await side.make().send(an_sms())
    assert isinstance(outcome, Accepted)
    found = [one for one in await side.callbacks("status", 2) if isinstance(one, MessageStatus)]
    told = [one.status for one in found]
    assert {one.status for one in told} <= {"sent", "delivered"}
    for one in told:
        assert (one.provider, one.account, one.provider_id) == (side.name, outcome.account, outcome.provider_id)
        assert one.callback == an_sms().reference
        assert (one.item["From"], one.item["To"]) == (SENDER, CUSTOMER)


async def test_a_phone_out_of_reach_is_marked_by_a_late_status(side: Side) -> None:
    await side.sandbox.sms_recipient(CUSTOMER, "unreachable")
    await side.make().send(an_sms())
    await side.callbacks("status", 2)

    async def failed() -> bool:
        return any(
            isinstance(o, MessageStatus) and o.status.status == "failed" for o in await side.callbacks("status", 2)
        )

    await side.sandbox.until(failed)
    [failure] = [
        one.status
        for one in await side.callbacks("status", 2)
        if isinstance(one, MessageStatus) and one.status.status == "failed"
    ]
    fault = fault_of(side.name, failure.code)
    assert isinstance(fault, RecipientFault)
    assert fault.mark == "unreachable"


async def test_a_recipient_who_is_barred_is_refused_at_once_and_marked(side: Side) -> None:
    await side.sandbox.sms_recipient(CUSTOMER, "opted_out")
    outcome = await side.make().send(an_sms())
    assert isinstance(outcome, Refused)
    assert isinstance(fault_of(side.name, outcome.code), RecipientFault)
    assert await side.sandbox.sms() == []


async def test_a_throttled_account_waits_and_nothing_was_sent(side: Side) -> None:
    await side.sandbox.fault(side.name, "throttle", calls=1)
    outcome = await side.make().send(an_sms())
    assert isinstance(outcome, RetryLater)
    assert (outcome.scope, outcome.fault) == ("account", False)
    assert await side.sandbox.sms() == []


async def test_wrong_credentials_are_the_accounts_fault_for_every_sender(side: Side) -> None:
    outcome = await side.make(token="wrong").send(an_sms())
    assert isinstance(outcome, RetryLater)
    assert (outcome.scope, outcome.fault) == ("provider", True)


@pytest.mark.parametrize("mode", ["server_error", "page", "stall", "drop_answer", "reset"])
async def test_what_may_have_been_sent_is_never_called_unsent(side: Side, mode: Any) -> None:
    await side.sandbox.fault(side.name, mode, seconds=60, calls=1)
    outcome = await side.make(seconds=1.0 if mode == "stall" else 20.0).send(an_sms())
    assert isinstance(outcome, Unknown)


async def test_a_connection_that_was_never_made_is_simply_later(side: Side) -> None:
    outcome = await side.make(base_url=f"http://127.0.0.1:{free_port()}").send(an_sms())
    assert isinstance(outcome, RetryLater)
    assert outcome.code == "never_left"


async def test_a_code_that_nobody_knows_marks_and_pauses_nothing(side: Side) -> None:
    await side.sandbox.fault(side.name, "fail", code=29_998, calls=1)
    assert await side.make().send(an_sms()) == Refused("29998")


async def test_a_customers_text_is_read_alike(side: Side) -> None:
    answer = await side.sandbox.customer_texts(CUSTOMER, SENDER, "Is my car ready? a=b & c", provider=side.name)
    [sms] = await side.callbacks("sms", 1)
    assert isinstance(sms, InboundSms)
    assert (sms.provider, sms.account, sms.provider_id) == (side.name, side.make().key.account, answer["sid"])
    assert (sms.to, sms.sender, sms.text, sms.part) == (SENDER, CUSTOMER, "Is my car ready? a=b & c", None)
    assert (sms.at is None) == (side.name == "twilio")


async def test_a_repeated_text_has_its_id_each_time(side: Side) -> None:
    answer = await side.sandbox.customer_texts(CUSTOMER, SENDER, "Hello", provider=side.name, times=3)
    assert [sms.provider_id for sms in await side.callbacks("sms", 3)] == [answer["sid"]] * 3


@pytest.mark.parametrize("text", ["x" * 400, "Готова ли машина? " * 9])
async def test_a_long_text_is_whole_or_says_which_part_it_is(side: Side, text: str) -> None:
    answer = await side.sandbox.customer_texts(CUSTOMER, SENDER, text, provider=side.name, order="reversed")
    found = await side.callbacks("sms", len(answer["ids"]))
    if side.name == "twilio":
        assert [(sms.text, sms.part) for sms in found] == [(text, None)]
        return
    parts: dict[SmsPart, str] = {sms.part: sms.text for sms in found}
    assert "".join(parts[part] for part in sorted(parts, key=lambda part: part.number)) == text
    assert {part.total for part in parts} == {len(parts)} == {3}
    assert len({part.ref for part in parts}) == 1


async def test_the_pictures_of_an_mms_are_links_at_twilio_and_vonage_has_none(
    sandbox: SandboxClient, hook_inbox: HookInbox
) -> None:
    link = "https://api.twilio.com/2010-04-01/Accounts/AC0/Messages/MM0/Media/ME0"
    await sandbox.configure(sms_url=f"{hook_inbox.url}/webhooks/twilio/sms")
    await sandbox.customer_texts(CUSTOMER, SENDER, "", media=[link])
    [post] = await hook_inbox.got(1)
    form = dict(post.form)
    sms = parse(twilio.sms_record(form, utc_now(), TWILIO_SID)[1], reaction_opens=False)
    assert isinstance(sms, InboundSms)
    assert [one.link for one in sms.media] == [link]


async def test_twilios_list_has_the_sms_that_the_callback_brought(side: Side) -> None:
    """But for its time, and not what the account sent to itself, nor what came by another channel."""
    lookup = side.make().lookup
    if lookup is None:
        assert side.name == "vonage"  # it repeats its callbacks for a day
        return
    link = f"{side.sandbox.url}/2010-04-01/Accounts/{TWILIO_SID}/Messages/MM0/Media/ME0"
    await side.sandbox.customer_texts(CUSTOMER, SENDER, "a=b & c")
    await side.sandbox.customer_texts("ORANGE", SENDER, "", media=[link])
    brought = {sms.provider_id: sms for sms in await side.callbacks("sms", 2)}
    await side.sandbox.customer_texts("whatsapp:+447700900999", SENDER, "another channel")
    assert isinstance(await side.make().send(an_sms(to=SENDER)), Accepted)
    since = utc_now() - timedelta(minutes=1)
    listed = await lookup.list_received(to=SENDER, since=since)
    assert len(listed) == 2
    for one in listed:
        found = parse((await lookup.callback_of(one, utc_now()))[1], reaction_opens=False)
        assert isinstance(found, InboundSms)
        same = brought[found.provider_id]
        assert replace(found, at=None, received_at=same.received_at) == same
        assert found.at == one.at
        assert abs(one.at - same.received_at) < timedelta(seconds=60)
    assert await lookup.list_received(to="+447700900002", since=since) == []


# ── Vonage alone: the answers as recorded, and the parts of a long text ─────────────────────────────────────────────

ANSWERS = [name for name in recordings("vonage") if "form" in recording("vonage", name) and "callback_" not in name]


@pytest.mark.parametrize("name", ANSWERS)
async def test_vonage_answers_a_send_as_recorded(sandbox: SandboxClient, name: str) -> None:
    scenario: dict[str, Any] = recording("vonage", name)
    if "recipient" in scenario:
        await sandbox.sms_recipient(f"+{scenario['form']['to']}", scenario["recipient"])
    if "fault" in scenario:
        await sandbox.fault("vonage", calls=1, **scenario["fault"])
    keys = {"api_key": VONAGE_KEY, "api_secret": scenario.get("secret", VONAGE_SECRET)}
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{sandbox.url}/sms/json", data=keys | scenario["form"]) as answer,
    ):
        status, body = answer.status, json.loads(await answer.read())
    assert status == scenario["status"]
    assert shape(body) == shape(scenario["body"])
    assert [part.get("status") for part in body.get("messages", [])] == [
        part.get("status") for part in scenario["body"].get("messages", [])
    ]


@pytest.mark.parametrize("name", recordings("vonage", "callback_a_text"))
def test_vonages_receipts_are_read_as_recorded(name: str) -> None:
    form = recording("vonage", name)["form"]
    assert isinstance(parse(vonage.status_record(form, utc_now(), VONAGE_KEY)[1], reaction_opens=False), MessageStatus)


async def test_a_long_text_is_taken_in_parts_under_an_id_each(sandbox: SandboxClient) -> None:
    async with aiohttp.ClientSession(trace_configs=[departures()]) as http:
        config = ProviderConfig({"vonage": sandbox.url}, None, 20.0)
        accounts = SmsAccounts("vonage", {"vonage": account_of("vonage", VONAGE_KEY, [VONAGE_SECRET])}, {})
        [provider] = open_accounts(accounts, http, config, utc_now).values()
        outcome = await provider.send(an_sms("x" * 400))
    assert isinstance(outcome, Accepted)
    [sms] = await sandbox.sms()
    assert [outcome.provider_id, *outcome.parts] == sms["message"]["parts"]
    assert len(outcome.parts) == 2


def test_the_reference_of_a_send_fits_what_vonage_echoes() -> None:
    assert len(callback_data("o" * 100, UUID(MESSAGE_ID), 999_999)) <= 100
    assert urlencode({"ref": callback_data("acme", UUID(MESSAGE_ID), 1)}, safe=":").count(":") == 2


async def test_any_answer_to_a_read_of_the_account_shows_that_the_provider_is_there(side: Side) -> None:
    assert await side.make().answers()
    assert await side.make(token="another").answers()
    await side.sandbox.fault(side.name, "fail", endpoint="account", http_status=429, calls=1)
    assert await side.make().answers()
    assert await side.sandbox.sms() == []


@pytest.mark.parametrize("mode", ["page", "server_error", "reset", "stall"])
async def test_a_read_of_the_account_in_an_outage_is_not_answered(side: Side, mode: Mode) -> None:
    await side.sandbox.fault(side.name, mode, endpoint="account")
    assert not await side.make(seconds=0.4).answers()
    await side.sandbox.clear_faults()
    await side.sandbox.fault(side.name, "page", endpoint="account", http_status=200)
    assert not await side.make().answers()
    assert not await side.make(base_url=f"http://127.0.0.1:{free_port()}").answers()
