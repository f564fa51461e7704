"""Meta's own idea of the customer service window, and what it does to those who ignore it."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import example, given
from hypothesis import strategies as st

from deploy.local.sandbox.client import SandboxClient
from deploy.local.sandbox.customers import Windows
from tests.support.sandbox import CUSTOMER, NUMBER_ID, HookInbox, ProviderCaller

DAY = 86400
TEMPLATE = {
    "messaging_product": "whatsapp",
    "to": CUSTOMER,
    "type": "template",
    "template": {"name": "hello", "language": {"code": "en_GB"}},
}


@pytest_asyncio.fixture(autouse=True)
async def listening(sandbox: SandboxClient, hook_inbox: HookInbox) -> AsyncIterator[None]:
    await sandbox.template("hello", "en_GB", "Hello.")
    await sandbox.configure(webhook_url=hook_inbox.url, day_seconds=DAY)
    yield
    await sandbox.reset()


async def fate(sandbox: SandboxClient, inbox: HookInbox, wamid: str) -> list[str]:
    """The statuses one message got."""
    await sandbox.settled()
    items = [item for value in inbox.values() for item in value.get("statuses", [])]
    return [item["status"] for item in items if item["id"] == wamid]


def wamid_of(answer: tuple[int, Any]) -> str:
    assert answer[0] == 200, answer
    return str(answer[1]["messages"][0]["id"])


async def test_a_message_in_the_window_is_sent_delivered_and_read(
    sandbox: SandboxClient, providers: ProviderCaller, hook_inbox: HookInbox
) -> None:
    await sandbox.customer_writes(NUMBER_ID, CUSTOMER)
    wamid = wamid_of(await providers.text())
    assert await fate(sandbox, hook_inbox, wamid) == ["sent", "delivered", "read"]


async def test_a_message_out_of_the_window_is_accepted_and_fails_later_with_131047(
    sandbox: SandboxClient, providers: ProviderCaller, hook_inbox: HookInbox
) -> None:
    wamid = wamid_of(await providers.text(callback="m9:2"))
    assert await fate(sandbox, hook_inbox, wamid) == ["failed"]
    [value] = hook_inbox.values()
    assert value["statuses"][0]["errors"][0]["code"] == 131047
    assert value["statuses"][0]["biz_opaque_callback_data"] == "m9:2"
    assert "contacts" not in value


async def test_meta_may_refuse_at_once_instead(
    sandbox: SandboxClient, providers: ProviderCaller, hook_inbox: HookInbox
) -> None:
    await sandbox.configure(reengagement="sync")
    status, body = await providers.text()
    assert (status, body["error"]["code"]) == (400, 131047)
    await sandbox.settled()
    assert (await sandbox.messages(), hook_inbox.posts) == ([], [])


async def test_the_window_is_closed_at_exactly_one_day(
    sandbox: SandboxClient, providers: ProviderCaller, hook_inbox: HookInbox
) -> None:
    await sandbox.customer_writes(NUMBER_ID, CUSTOMER, age=DAY)
    assert await fate(sandbox, hook_inbox, wamid_of(await providers.text())) == ["failed"]
    await sandbox.customer_writes(NUMBER_ID, CUSTOMER, age=DAY - 60)
    assert await fate(sandbox, hook_inbox, wamid_of(await providers.text())) == ["sent", "delivered", "read"]


async def test_the_length_of_the_day_is_a_setting(
    sandbox: SandboxClient, providers: ProviderCaller, hook_inbox: HookInbox
) -> None:
    await sandbox.customer_writes(NUMBER_ID, CUSTOMER, age=100)
    await sandbox.configure(day_seconds=60)
    assert await fate(sandbox, hook_inbox, wamid_of(await providers.text())) == ["failed"]


async def test_an_old_message_that_comes_late_takes_nothing_away(
    sandbox: SandboxClient, providers: ProviderCaller, hook_inbox: HookInbox
) -> None:
    await sandbox.customer_writes(NUMBER_ID, CUSTOMER)
    await sandbox.customer_writes(NUMBER_ID, CUSTOMER, age=7 * DAY)
    assert "failed" not in await fate(sandbox, hook_inbox, wamid_of(await providers.text()))


async def test_windows_belong_to_one_number_and_one_person(
    sandbox: SandboxClient, providers: ProviderCaller, hook_inbox: HookInbox
) -> None:
    await sandbox.customer_writes("106400000000002", CUSTOMER)
    await sandbox.customer_writes(NUMBER_ID, "+447700900998")
    assert await fate(sandbox, hook_inbox, wamid_of(await providers.text())) == ["failed"]


async def test_a_template_needs_no_window_and_opens_none(
    sandbox: SandboxClient, providers: ProviderCaller, hook_inbox: HookInbox
) -> None:
    assert await fate(sandbox, hook_inbox, wamid_of(await providers.graph(TEMPLATE))) == ["sent", "delivered", "read"]
    assert await fate(sandbox, hook_inbox, wamid_of(await providers.text())) == ["failed"]


@pytest.mark.parametrize(
    "kind", ["image", "location", "contacts", "button", "button_reply", "list_reply", "order", "unsupported"]
)
async def test_whatever_a_customer_sends_opens_the_window(sandbox: SandboxClient, kind: str) -> None:
    answer = await sandbox.customer_writes(NUMBER_ID, CUSTOMER, kind=kind)
    assert (await sandbox.window(NUMBER_ID, CUSTOMER))["closes_at"] == answer["timestamp"] + DAY


async def test_a_call_opens_the_window_even_unanswered(sandbox: SandboxClient) -> None:
    answer = await sandbox.customer_calls(NUMBER_ID, CUSTOMER)
    assert (await sandbox.window(NUMBER_ID, CUSTOMER))["closes_at"] == answer["timestamp"] + DAY


@pytest.mark.parametrize("opens", [False, True])
async def test_whether_a_reaction_opens_the_window_is_a_setting(sandbox: SandboxClient, opens: bool) -> None:  # noqa: FBT001  a parameter of the test
    await sandbox.configure(reaction_opens_window=opens)
    await sandbox.customer_writes(NUMBER_ID, CUSTOMER, kind="reaction")
    assert ((await sandbox.window(NUMBER_ID, CUSTOMER))["closes_at"] is not None) is opens


async def test_a_system_notice_opens_nothing(sandbox: SandboxClient) -> None:
    await sandbox.customer_writes(NUMBER_ID, CUSTOMER, kind="system")
    assert (await sandbox.window(NUMBER_ID, CUSTOMER))["closes_at"] is None


async def test_a_hidden_number_and_its_business_scoped_id_share_a_window(
    sandbox: SandboxClient, providers: ProviderCaller, hook_inbox: HookInbox
) -> None:
    await sandbox.customer_writes(NUMBER_ID, CUSTOMER, bsuid="GB.777", hide_phone=True)
    body = {"messaging_product": "whatsapp", "recipient": "GB.777", "type": "text", "text": {"body": "Hi"}}
    assert "failed" not in await fate(sandbox, hook_inbox, wamid_of(await providers.graph(body)))
    assert "failed" not in await fate(sandbox, hook_inbox, wamid_of(await providers.text()))


@example(times=[10], now=110.0, day=100)
@example(times=[10, 5], now=109.999, day=100)
@given(times=st.lists(st.integers(0, 10_000), min_size=1), now=st.floats(0, 20_000), day=st.integers(1, 5_000))
def test_a_window_is_open_for_one_day_from_the_newest_message(times: list[int], now: float, day: int) -> None:
    windows = Windows()
    for time in times:
        windows.opened("number", "person", time)
    assert windows.is_open("number", "person", now, day) is (now < max(times) + day)
    assert windows.closes_at("number", "person", day) == max(times) + day
    assert not windows.is_open("other", "person", now, day)
