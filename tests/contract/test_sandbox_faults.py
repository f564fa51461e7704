"""Trouble on demand: what a caller sees of each fault, and what the provider really did."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from deploy.local.sandbox.client import SandboxClient, SandboxError
from tests.support.sandbox import CUSTOMER, NUMBER_ID, HookInbox, ProviderCaller

FORM = {"To": CUSTOMER, "From": "+447700900001", "Body": "AcmeMotors: Update for you."}
DISCONNECTED = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)


@pytest_asyncio.fixture(autouse=True)
async def listening(sandbox: SandboxClient, hook_inbox: HookInbox) -> AsyncIterator[None]:
    await sandbox.configure(webhook_url=hook_inbox.url)
    await sandbox.customer_writes(NUMBER_ID, CUSTOMER)
    await sandbox.settled()
    hook_inbox.posts.clear()
    yield
    await sandbox.reset()


async def test_a_dropped_answer_is_a_message_sent_whose_evidence_is_a_webhook(
    sandbox: SandboxClient, providers: ProviderCaller, hook_inbox: HookInbox
) -> None:
    await sandbox.fault("meta", "drop_answer", calls=1)
    with pytest.raises(DISCONNECTED):
        await providers.text(callback="m1:1")
    await sandbox.settled()
    [message] = await sandbox.messages()
    assert hook_inbox.statuses() == ["sent", "delivered", "read"]
    echoed = {item["biz_opaque_callback_data"] for value in hook_inbox.values() for item in value["statuses"]}
    assert (message["callback"], echoed) == ("m1:1", {"m1:1"})
    assert (await sandbox.calls())[-1]["http_status"] is None


async def test_a_reset_connection_sent_nothing(
    sandbox: SandboxClient, providers: ProviderCaller, hook_inbox: HookInbox
) -> None:
    await sandbox.fault("meta", "reset", calls=1)
    with pytest.raises(DISCONNECTED):
        await providers.text()
    await sandbox.settled()
    assert (await sandbox.messages(), hook_inbox.posts) == ([], [])


@pytest.mark.parametrize("sent", [False, True])
async def test_a_stalled_request_gets_no_answer_whether_sent_or_not(
    sandbox: SandboxClient,
    providers: ProviderCaller,
    sent: bool,  # noqa: FBT001  a parameter of the test
) -> None:
    await sandbox.fault("meta", "stall", calls=1, seconds=30, sent=sent)
    sending = asyncio.create_task(providers.text())
    await sandbox.until(lambda: _met(sandbox))
    assert (sending.done(), len(await sandbox.messages())) == (False, int(sent))
    sending.cancel()
    assert (await providers.text())[0] == 200


async def _met(sandbox: SandboxClient) -> bool:
    """Every fault has struck as often as it was to."""
    return not await sandbox._call("GET", "faults")


async def test_a_stall_ends_with_the_connection_closed(sandbox: SandboxClient, providers: ProviderCaller) -> None:
    await sandbox.fault("meta", "stall", calls=1, seconds=0.05)
    with pytest.raises(DISCONNECTED):
        await providers.text()


async def test_a_slow_answer_is_overtaken_by_its_webhooks(
    sandbox: SandboxClient, providers: ProviderCaller, hook_inbox: HookInbox
) -> None:
    await sandbox.fault("meta", "slow", calls=1, seconds=600)
    sending = asyncio.create_task(providers.text())
    await hook_inbox.got(1)
    assert not sending.done()
    await sandbox.clear_faults()
    assert (await sending)[0] == 200
    await sandbox.fault("meta", "slow", calls=1, seconds=0.05)
    assert (await providers.text())[0] == 200


async def test_throttling_lasts_for_the_calls_it_was_set_for(sandbox: SandboxClient, providers: ProviderCaller) -> None:
    await sandbox.fault("meta", "throttle", calls=2)
    answers = [await providers.text() for _ in range(3)]
    assert [status for status, _ in answers] == [429, 429, 200]
    assert answers[0][1]["error"]["code"] == 130429
    assert len(await sandbox.messages()) == 1


async def test_a_pair_can_be_throttled_while_others_go_through(
    sandbox: SandboxClient, providers: ProviderCaller
) -> None:
    fault = await sandbox.fault("meta", "throttle", code=131056, to=CUSTOMER)
    assert [(await providers.text())[0] for _ in range(3)] == [400, 400, 400]
    assert (await providers.text(to="+447700900998"))[0] == 200
    await sandbox.clear_faults(fault)
    assert (await providers.text())[0] == 200


async def test_a_fault_can_be_of_one_number(sandbox: SandboxClient, providers: ProviderCaller) -> None:
    await sandbox.fault("meta", "fail", code=131031, number="106400000000002")
    body = {"messaging_product": "whatsapp", "to": CUSTOMER, "type": "text", "text": {"body": "Hi"}}
    assert (await providers.graph(body))[0] == 200
    status, answer = await providers.graph(body, number="106400000000002")
    assert (status, answer["error"]["code"]) == (403, 131031)


async def test_a_server_error_of_meta_sends_nothing_unless_told(
    sandbox: SandboxClient, providers: ProviderCaller
) -> None:
    await sandbox.fault("meta", "server_error", calls=1)
    assert (await providers.text())[0] == 500
    assert await sandbox.messages() == []


async def test_an_error_page_of_something_on_the_way_is_no_json_and_sends_nothing(sandbox: SandboxClient) -> None:
    await sandbox.fault("meta", "page", http_status=403, calls=1)
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{sandbox.url}/v26.0/106400000000001/messages", json={}) as answer,
    ):
        assert (answer.status, answer.content_type) == (403, "text/html")
    assert await sandbox.messages() == []


async def test_a_failure_can_come_late(
    sandbox: SandboxClient, providers: ProviderCaller, hook_inbox: HookInbox
) -> None:
    await sandbox.fault("meta", "fail_async", code=131049, calls=1)
    assert (await providers.text())[0] == 200
    await sandbox.settled()
    assert hook_inbox.statuses() == ["failed"]


async def test_twilio_is_not_idempotent_and_a_500_may_have_sent(
    sandbox: SandboxClient, providers: ProviderCaller
) -> None:
    await sandbox.fault("twilio", "server_error", calls=1, sent=True)
    assert (await providers.sms(FORM))[0] == 500
    assert (await providers.sms(FORM))[0] == 201
    _, page = await providers.sms_get(query={"To": CUSTOMER})
    assert len(page["messages"]) == 2


async def test_a_dropped_answer_of_twilio_is_found_in_its_list(
    sandbox: SandboxClient, providers: ProviderCaller
) -> None:
    await sandbox.fault("twilio", "drop_answer", calls=1)
    with pytest.raises(DISCONNECTED):
        await providers.sms(FORM)
    _, page = await providers.sms_get(query={"To": CUSTOMER})
    assert [message["body"] for message in page["messages"]] == [FORM["Body"]]


async def test_a_fault_may_spare_the_first_requests(sandbox: SandboxClient, providers: ProviderCaller) -> None:
    await sandbox.fault("twilio", "server_error", endpoint="list", spares=1, calls=1)
    assert [(await providers.sms_get())[0] for _ in range(3)] == [200, 500, 200]


async def test_twilio_throttled_did_not_send(sandbox: SandboxClient, providers: ProviderCaller) -> None:
    await sandbox.fault("twilio", "throttle", calls=1)
    status, body = await providers.sms(FORM)
    assert (status, body["code"]) == (429, 20429)
    assert (await providers.sms_get())[1]["messages"] == []


async def test_the_list_itself_can_fail(sandbox: SandboxClient, providers: ProviderCaller) -> None:
    await sandbox.fault("twilio", "fail", code=20500, endpoint="list", calls=1)
    assert (await providers.sms(FORM))[0] == 201
    assert (await providers.sms_get())[0] == 500
    assert (await providers.sms_get())[0] == 200


async def test_chance_strikes_some_and_spares_others(sandbox: SandboxClient, providers: ProviderCaller) -> None:
    await sandbox.configure(webhooks=False, seed=3)
    await sandbox.fault("meta", "throttle", chance=0.5)
    assert {(await providers.text())[0] for _ in range(40)} == {200, 429}


async def test_an_unknown_fault_is_refused_with_a_sentence(sandbox: SandboxClient) -> None:
    with pytest.raises(SandboxError, match="phone or bsuid"):
        await sandbox.customer_writes(NUMBER_ID)


async def test_reset_forgets_everything(
    sandbox: SandboxClient, providers: ProviderCaller, hook_inbox: HookInbox
) -> None:
    await sandbox.fault("meta", "throttle")
    await sandbox.hold_webhooks()
    await sandbox.customer_writes(NUMBER_ID, CUSTOMER)
    await providers.sms(FORM)
    await sandbox.reset()
    health = await sandbox.health()
    assert [health[name] for name in ("calls", "messages", "sms", "webhooks", "held", "under_way")] == [0] * 6
    assert (await sandbox.window(NUMBER_ID, CUSTOMER))["closes_at"] is None
    assert (await providers.text())[0] == 200


async def test_a_call_that_a_reset_overtakes_is_forgotten_with_the_rest(
    sandbox: SandboxClient, providers: ProviderCaller
) -> None:
    await sandbox.fault("meta", "slow", seconds=600)
    await sandbox.fault("twilio", "slow", seconds=600)
    sending = [asyncio.create_task(providers.text()), asyncio.create_task(providers.sms(FORM))]
    await sandbox.until(lambda: _both_taken(sandbox))
    await sandbox.reset()
    assert [status for status, _ in await asyncio.gather(*sending)] == [200, 201]
    assert await sandbox.calls() == []


async def _both_taken(sandbox: SandboxClient) -> bool:
    return bool(await sandbox.messages() and await sandbox.sms())


async def test_the_ledger_can_be_read_on_from_where_one_was(sandbox: SandboxClient, providers: ProviderCaller) -> None:
    for i in range(3):
        await providers.text(callback=f"m{i}:1")
    messages = await sandbox.messages()
    assert [message["callback"] for message in messages] == ["m0:1", "m1:1", "m2:1"]
    assert [message["callback"] for message in await sandbox.messages(after=messages[1]["n"])] == ["m2:1"]
