"""The webhooks of the sandbox: shaped and signed like the providers', and as unreliable as theirs."""

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import pytest
import pytest_asyncio

from deploy.local.sandbox.client import SandboxClient, SandboxError
from deploy.local.sandbox.signing import twilio_signature
from tests.support.recordings import recording, recordings, shape
from tests.support.sandbox import APP_SECRET, CUSTOMER, NUMBER_ID, TWILIO_TOKEN, HookInbox, ProviderCaller

CARD = {
    "name": {"formatted_name": "Sam Smith", "first_name": "Sam"},
    "phones": [{"phone": "+44 7700 900998", "wa_id": "447700900998", "type": "MOBILE"}],
}
WRITES: dict[str, dict[str, Any]] = {
    "a_customer_writes_text": {},
    "a_customer_writes_in_many_alphabets": {"text": "äöå 😀 a/b — готово?"},
    "a_customer_replies_to_a_message": {"reply_to": "wamid.before"},
    "a_customer_sends_a_picture": {"kind": "image"},
    "a_customer_sends_a_document": {"kind": "document", "content": {"filename": "mot.pdf", "caption": "My MOT"}},
    "a_customer_sends_his_location": {"kind": "location"},
    "a_customer_sends_a_contact": {"kind": "contacts", "content": [CARD]},
    "a_customer_taps_a_template_button": {"kind": "button", "text": "Confirm"},
    "a_customer_taps_a_reply_button": {"kind": "button_reply", "content": {"id": "yes", "title": "Yes"}},
    "a_customer_picks_from_a_list": {
        "kind": "list_reply",
        "content": {"id": "slot-9", "title": "09:00", "description": "Monday"},
    },
    "a_customer_reacts": {"kind": "reaction"},
    "a_customer_sends_something_unsupported": {"kind": "unsupported"},
    "a_customer_whose_number_is_hidden_writes": {"hide_phone": True},
}
STATUSES = {"sent": "a_message_was_sent", "delivered": "a_message_was_delivered", "read": "a_message_was_read"}
FORM = {"To": CUSTOMER, "From": "+447700900001", "Body": "AcmeMotors: Update for you."}
SOON = {
    "sent_after": 0.01,
    "delivered_after": 0.01,
    "read_after": 0.01,
    "failed_after": 0.01,
    "pace": 3000,
}


@pytest_asyncio.fixture(autouse=True)
async def listening(sandbox: SandboxClient, hook_inbox: HookInbox) -> AsyncIterator[None]:
    await sandbox.configure(webhook_url=f"{hook_inbox.url}/meta", sms_url=f"{hook_inbox.url}/sms", **SOON)
    yield
    await sandbox.reset()


@pytest.mark.parametrize("name", WRITES)
async def test_what_a_customer_sends_arrives_as_recorded(
    sandbox: SandboxClient, hook_inbox: HookInbox, name: str
) -> None:
    await sandbox.customer_writes(NUMBER_ID, CUSTOMER, **WRITES[name])
    [post] = await hook_inbox.got(1)
    assert shape(post.json) == shape(recording("meta", name))


async def test_anything_else_can_be_sent_raw(sandbox: SandboxClient, hook_inbox: HookInbox) -> None:
    await sandbox.customer_writes(
        NUMBER_ID, CUSTOMER, kind="raw", content={"type": "ephemeral", "timestamp": 1795348800123}
    )
    [post] = await hook_inbox.got(1)
    [message] = post.json["entry"][0]["changes"][0]["value"]["messages"]
    assert (message["type"], message["timestamp"], message["from"]) == ("ephemeral", 1795348800123, CUSTOMER[1:])


async def test_somebody_without_a_number_is_known_by_his_business_scoped_id(
    sandbox: SandboxClient, hook_inbox: HookInbox
) -> None:
    answer = await sandbox.customer_writes(NUMBER_ID, bsuid="GB.13491208655302741918")
    [post] = await hook_inbox.got(1)
    assert shape(post.json) == shape(recording("meta", "a_customer_whose_number_is_hidden_writes"))
    assert (answer["user_id"], answer["wa_id"]) == ("GB.13491208655302741918", None)


async def test_a_call_arrives_as_recorded(sandbox: SandboxClient, hook_inbox: HookInbox) -> None:
    await sandbox.customer_calls(NUMBER_ID, CUSTOMER)
    [connect, _terminate] = await hook_inbox.got(2)
    assert shape(connect.json) == shape(recording("meta", "a_customer_calls"))


async def test_an_error_of_the_account_arrives_as_recorded(sandbox: SandboxClient, hook_inbox: HookInbox) -> None:
    body = recording("meta", "the_number_was_throttled_as_a_whole")
    await sandbox.meta_change(NUMBER_ID, {"errors": body["entry"][0]["changes"][0]["value"]["errors"]})
    [post] = await hook_inbox.got(1)
    assert shape(post.json) == shape(body)


async def test_the_statuses_of_a_message_arrive_as_recorded(
    sandbox: SandboxClient, providers: ProviderCaller, hook_inbox: HookInbox
) -> None:
    await sandbox.customer_writes(NUMBER_ID, CUSTOMER)
    await hook_inbox.got(1)
    await providers.text()
    for post in (await hook_inbox.got(4))[1:]:
        status = post.json["entry"][0]["changes"][0]["value"]["statuses"][0]["status"]
        assert shape(post.json) == shape(recording("meta", STATUSES[status]))


@pytest.mark.parametrize("code", [131047, 131026])
async def test_a_late_failure_arrives_as_recorded(
    sandbox: SandboxClient, providers: ProviderCaller, hook_inbox: HookInbox, code: int
) -> None:
    names = {131047: "a_message_failed_because_the_window_was_closed", 131026: "a_message_was_undeliverable"}
    await sandbox.fault("meta", "fail_async", code=code, calls=1)
    await providers.text()
    [post] = await hook_inbox.got(1)
    wanted = recording("meta", names[code])
    assert shape(post.json) == shape(wanted)
    told = [body["entry"][0]["changes"][0]["value"]["statuses"][0]["errors"] for body in (post.json, wanted)]
    assert told[0] == told[1]


async def test_every_recorded_webhook_is_one_the_sandbox_can_send() -> None:
    others = {
        "a_customer_calls",
        "the_number_was_throttled_as_a_whole",
        "a_template_was_sent",
        "a_message_failed_because_the_window_was_closed",
        "a_message_was_undeliverable",
    }
    assert set(recordings("meta")) == {*WRITES, *STATUSES.values(), *others}


async def test_meta_signs_the_very_bytes_it_sends(sandbox: SandboxClient, hook_inbox: HookInbox) -> None:
    await sandbox.customer_writes(NUMBER_ID, CUSTOMER, text="Grüße, 50 €/Tag 😀")
    [post] = await hook_inbox.got(1)
    digest = hmac.new(APP_SECRET.encode(), post.raw, hashlib.sha256).hexdigest()
    assert post.headers["X-Hub-Signature-256"] == f"sha256={digest}"
    assert post.raw.isascii()
    assert rb"Gr\u00fc\u00dfe, 50 \u20ac\/Tag \ud83d\ude00" in post.raw


async def test_the_handshake_wants_the_challenge_back(sandbox: SandboxClient) -> None:
    assert await sandbox.verify_webhook() == {"verified": True, "status": 200, "error": None}
    assert await sandbox.verify_webhook("wrong") == {"verified": False, "status": 403, "error": None}


async def test_a_webhook_is_repeated_until_the_answer_is_exactly_200(
    sandbox: SandboxClient, hook_inbox: HookInbox
) -> None:
    hook_inbox.answers.extend([503, 201, 204])
    await sandbox.customer_writes(NUMBER_ID, CUSTOMER)
    posts = await hook_inbox.got(4)
    assert len({post.raw for post in posts}) == 1
    await sandbox.settled()
    [webhook] = await sandbox.webhooks()
    assert [attempt["status"] for attempt in webhook["attempts"]] == [503, 201, 204, 200]
    assert webhook["delivered"]


async def test_meta_tries_again_after_growing_pauses_of_minutes_and_hours_in_compressed_time(
    sandbox: SandboxClient, hook_inbox: HookInbox
) -> None:
    await sandbox.configure(pace=36_000, retry_most=6 * 3600)  # an hour takes a tenth of a second
    hook_inbox.answers.extend([503] * 10)
    await sandbox.customer_writes(NUMBER_ID, CUSTOMER)
    await hook_inbox.got(11)
    await sandbox.settled()
    [webhook] = await sandbox.webhooks()
    at = [attempt["at"] for attempt in webhook["attempts"]]
    hours = [(after - before) * 10 for before, after in pairwise(at)]
    asked = [min(60 * 2**n, 6 * 3600) / 3600 for n in range(10)]
    a_timer = 0.015  # of the event loop is exact to a millisecond, here a hundredth of an hour
    assert all(waited >= wanted - a_timer for waited, wanted in zip(hours, asked, strict=True)), (hours, asked)
    assert webhook["again_at"] is None


async def test_what_waits_to_be_tried_again_can_be_tried_now(sandbox: SandboxClient, hook_inbox: HookInbox) -> None:
    await sandbox.configure(pace=1)  # Meta's own pauses: a minute at first
    hook_inbox.answers.extend([503, 503])
    await sandbox.customer_writes(NUMBER_ID, CUSTOMER)
    for tries in (1, 2):
        await hook_inbox.got(tries)
        await sandbox.until(lambda: waits(sandbox))
        [webhook] = await sandbox.webhooks()
        assert webhook["again_at"] - webhook["attempts"][-1]["at"] > 59 * tries
        assert await sandbox.retry_webhooks() == 1
    await hook_inbox.got(3)
    await sandbox.settled()
    assert await sandbox.retry_webhooks() == 0


async def waits(sandbox: SandboxClient) -> bool:
    return bool((await sandbox.outstanding())["waiting"])


async def test_statuses_can_come_in_reverse_and_twice(
    sandbox: SandboxClient, providers: ProviderCaller, hook_inbox: HookInbox
) -> None:
    await sandbox.customer_writes(NUMBER_ID, CUSTOMER)
    await sandbox.configure(shuffle=1, repeat=1)
    await providers.text()
    await hook_inbox.got(7)
    assert hook_inbox.statuses() == ["read", "read", "delivered", "delivered", "sent", "sent"]


async def test_the_same_seed_makes_the_same_disorder(
    sandbox: SandboxClient, providers: ProviderCaller, hook_inbox: HookInbox
) -> None:
    await sandbox.customer_writes(NUMBER_ID, CUSTOMER)
    await sandbox.settled()
    runs = []
    for _ in range(2):
        hook_inbox.posts.clear()
        await sandbox.configure(shuffle=0.5, repeat=0.5, implied_delivery=0.3, seed=11)
        for _ in range(5):
            await providers.text()
            await sandbox.settled()
        runs.append(hook_inbox.statuses())
    assert runs[0] == runs[1]
    assert len(set(runs[0])) == 3


async def test_read_may_imply_delivered_and_is_priced_then(
    sandbox: SandboxClient, providers: ProviderCaller, hook_inbox: HookInbox
) -> None:
    await sandbox.customer_writes(NUMBER_ID, CUSTOMER)
    await sandbox.configure(implied_delivery=1)
    await providers.text()
    posts = (await hook_inbox.got(3))[1:]
    items = [post.json["entry"][0]["changes"][0]["value"]["statuses"][0] for post in posts]
    assert [(item["status"], "pricing" in item) for item in items] == [("sent", True), ("read", True)]


async def test_read_receipts_can_be_off(
    sandbox: SandboxClient, providers: ProviderCaller, hook_inbox: HookInbox
) -> None:
    await sandbox.customer_writes(NUMBER_ID, CUSTOMER)
    await sandbox.configure(read_receipts=False)
    await providers.text()
    await sandbox.settled()
    assert hook_inbox.statuses() == ["sent", "delivered"]


async def test_webhooks_are_held_and_released_together_in_any_order(
    sandbox: SandboxClient, providers: ProviderCaller, hook_inbox: HookInbox
) -> None:
    await sandbox.hold_webhooks()
    await sandbox.customer_writes(NUMBER_ID, CUSTOMER, text="one")
    await sandbox.customer_writes(NUMBER_ID, "+447700900998", text="two", name="Sam")
    await providers.text()
    await sandbox.settled()
    assert (hook_inbox.posts, (await sandbox.outstanding())["held"]) == ([], 5)

    assert await sandbox.release_webhooks("reversed", together=True) == 5

    [post] = await hook_inbox.got(1)
    [entry] = post.json["entry"]
    [statuses, messages] = [change["value"] for change in entry["changes"]]
    assert [item["status"] for item in statuses["statuses"]] == ["read", "delivered", "sent"]
    assert [message["text"]["body"] for message in messages["messages"]] == ["two", "one"]
    assert [contact["profile"]["name"] for contact in messages["contacts"]] == ["Sam", "Kim"]
    await sandbox.customer_writes(NUMBER_ID, CUSTOMER)
    await hook_inbox.got(2)


async def test_held_webhooks_can_come_several_times(sandbox: SandboxClient, hook_inbox: HookInbox) -> None:
    await sandbox.hold_webhooks()
    answer = await sandbox.customer_writes(NUMBER_ID, CUSTOMER)
    await sandbox.until(lambda: _held(sandbox))
    await sandbox.release_webhooks(times=3)
    posts = await hook_inbox.got(3)
    assert {post.json["entry"][0]["changes"][0]["value"]["messages"][0]["id"] for post in posts} == {answer["wamid"]}


async def test_meta_puts_several_updates_into_one_post(sandbox: SandboxClient, hook_inbox: HookInbox) -> None:
    await sandbox.number("106400000000001", waba_id="206400000000001")
    await sandbox.number("106400000000002", waba_id="206400000000002")
    await sandbox.configure(batch=1, batch_wait=2)
    numbers = ("106400000000001", "106400000000002", "106400000000001")
    await asyncio.gather(*(sandbox.customer_writes(number, CUSTOMER) for number in numbers))
    [post] = await hook_inbox.got(1)
    found = [(entry["id"], len(entry["changes"][0]["value"]["messages"])) for entry in post.json["entry"]]
    assert sorted(found) == [("206400000000001", 2), ("206400000000002", 1)]


async def test_a_number_may_have_a_webhook_of_its_own(sandbox: SandboxClient, hook_inbox: HookInbox) -> None:
    await sandbox.number(NUMBER_ID, webhook_url=f"{hook_inbox.url}/of-its-own")
    await sandbox.customer_writes(NUMBER_ID, CUSTOMER)
    assert await hook_inbox.got(1, "/of-its-own")


async def test_a_text_reports_its_way_to_the_callback(
    sandbox: SandboxClient, providers: ProviderCaller, hook_inbox: HookInbox
) -> None:
    url = f"{hook_inbox.url}/twilio/status?org=acme"
    _, created = await providers.sms(FORM | {"StatusCallback": url})
    posts = await hook_inbox.got(3, "/twilio")
    forms = [dict(post.form) for post in posts]
    assert [form["MessageStatus"] for form in forms] == ["queued", "sent", "delivered"]
    assert {form["MessageSid"] for form in forms} == {created["sid"]}
    assert shape(forms[1]) == shape(recording("twilio", "callback_a_text_was_sent")["form"])
    assert shape(forms[2]) == shape(recording("twilio", "callback_a_text_was_delivered")["form"])
    for post in posts:
        assert post.headers["X-Twilio-Signature"] == twilio_signature(TWILIO_TOKEN, url, post.form)


async def test_a_text_that_cannot_be_delivered_says_why(
    sandbox: SandboxClient, providers: ProviderCaller, hook_inbox: HookInbox
) -> None:
    await sandbox.sms_recipient(CUSTOMER, "unreachable")
    _, created = await providers.sms(FORM | {"StatusCallback": f"{hook_inbox.url}/twilio/status"})
    form = dict((await hook_inbox.got(3, "/twilio"))[-1].form)
    wanted = recording("twilio", "callback_a_text_was_not_delivered")["form"]
    assert (shape(form), form["ErrorCode"]) == (shape(wanted), wanted["ErrorCode"])
    assert (await providers.sms_get(f"/{created['sid']}"))[1]["error_code"] == 30003


async def test_a_callback_shows_a_masked_number_where_the_account_has_numbers_masked(
    sandbox: SandboxClient, providers: ProviderCaller, hook_inbox: HookInbox
) -> None:
    await sandbox.configure(sms_redact_numbers=True)
    await providers.sms(FORM | {"StatusCallback": f"{hook_inbox.url}/twilio/status"})
    posts = await hook_inbox.got(3, "/twilio")
    assert {dict(post.form)["To"] for post in posts} == {FORM["To"][:-4] + "XXXX"}


async def test_callbacks_can_come_in_reverse_and_twice(
    sandbox: SandboxClient, providers: ProviderCaller, hook_inbox: HookInbox
) -> None:
    await sandbox.configure(shuffle=1, repeat=1)
    await providers.sms(FORM | {"StatusCallback": f"{hook_inbox.url}/twilio/status"})
    posts = await hook_inbox.got(6, "/twilio")
    assert [dict(post.form)["MessageStatus"] for post in posts] == ["delivered"] * 2 + ["sent"] * 2 + ["queued"] * 2


async def test_a_customer_texts_and_stop_opts_him_out(
    sandbox: SandboxClient, providers: ProviderCaller, hook_inbox: HookInbox
) -> None:
    await sandbox.customer_texts(CUSTOMER, "+447700900001", "Is my car ready?")
    [post] = await hook_inbox.got(1, "/sms")
    assert shape(dict(post.form)) == shape(recording("twilio", "callback_a_customer_texts")["form"])
    assert (await providers.sms(FORM))[0] == 201
    await sandbox.customer_texts(CUSTOMER, "+447700900001", " cancel ")
    assert (await providers.sms(FORM))[1]["code"] == 21610
    await sandbox.customer_texts(CUSTOMER, "+447700900001", "YES")
    assert (await providers.sms(FORM))[0] == 201


async def test_an_immediate_provider_sends_no_webhooks(
    sandbox: SandboxClient, providers: ProviderCaller, hook_inbox: HookInbox
) -> None:
    await sandbox.configure(webhooks=False)
    await sandbox.customer_writes(NUMBER_ID, CUSTOMER)
    assert (await providers.text())[0] == 200
    assert (await providers.sms(FORM | {"StatusCallback": f"{hook_inbox.url}/twilio"}))[0] == 201
    assert await sandbox.outstanding() == {"under_way": 0, "waiting": 0, "held": 0, "lost": 0, "flowing": True}
    assert hook_inbox.posts == []


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"shuffle": 2}, "shuffle"), ({"no_such_setting": 1}, "no_such_setting"), ({"day_seconds": 0}, "day_seconds")],
)
async def test_a_wrong_setting_is_named(sandbox: SandboxClient, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SandboxError, match=said):
        await sandbox.configure(**settings)


async def _held(sandbox: SandboxClient) -> bool:
    return int((await sandbox.outstanding())["held"]) == 1
