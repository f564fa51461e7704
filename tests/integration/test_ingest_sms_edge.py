"""The edge for SMS providers on a real broker: whose secret signs for which account, and what a callback may hold."""

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
import pytest_asyncio

from libs.common.clock import utc_now
from libs.common.events.inbound import TwilioSmsWebhook, TwilioStatusWebhook, VonageSmsWebhook, VonageStatusWebhook
from libs.common.events.topics import WEBHOOKS
from libs.common.kafka.connection import KafkaConnection
from libs.common.providers.accounts import SmsAccounts, account_of, read_accounts
from tests.support.edge import an_edge, in_kafka
from tests.support.ingest import PUBLIC_URL
from tests.support.published import Published, published_on
from tests.support.topics import OwnTopics

SECRETS = {"AC1": "token-1", "AC2": "token-2", "key1": "signature-1", "key2": "signature-2"}
ACCOUNTS = SmsAccounts(
    "twilio",
    {"twilio": account_of("twilio", "AC1", ["rotated-in", "token-1"])},
    read_accounts(
        json.dumps(
            {
                "two": {"provider": "twilio", "account": "AC2", "credentials": ["token-2"]},
                "v1": {
                    "provider": "vonage",
                    "account": "key1",
                    "credentials": ["s"],
                    "signature_secrets": "signature-1",
                },
                "v2": {
                    "provider": "vonage",
                    "account": "key2",
                    "credentials": ["s"],
                    "signature_secrets": "signature-2",
                },
            }
        )
    ),
)
FORM_TYPE = {"content-type": "application/x-www-form-urlencoded"}
TWILIO = {
    "/webhooks/twilio/status": {"MessageSid": "SM1", "MessageStatus": "sent", "From": "+447700900001"},
    "/webhooks/twilio/sms": {
        "MessageSid": "SM2",
        "From": "+447700900999",
        "To": "+447700900001",
        "Body": "MessageSid, NumMedia & AccountSid?",
        "FromCity": "TO+FROM",
        "NumMedia": "0",
        "Tomorrow": "x",
        "ErrorCode": "11200",  # as at the fallback URL
        "ErrorUrl": "https://hooks.example/webhooks/twilio/sms",
    },
}
VONAGE = {
    "/webhooks/vonage/status": {
        "messageId": "0A",
        "status": "delivered",
        "msisdn": "447700900999",
        "to": "447700900001",
    },
    "/webhooks/vonage/sms": {"messageId": "0B", "msisdn": "447700900999", "to": "447700900001", "text": "a=b & c_d ü"},
}


@pytest_asyncio.fixture
async def http(kafka_bootstrap: str, topics: OwnTopics) -> AsyncIterator[httpx.AsyncClient]:
    await topics.create([WEBHOOKS])
    async with an_edge(KafkaConnection(kafka_bootstrap, topics.prefix), accounts=ACCOUNTS) as client:
        yield client


@pytest_asyncio.fixture
async def webhooks(kafka_bootstrap: str, http: httpx.AsyncClient, topics: OwnTopics) -> AsyncIterator[Published]:
    async with published_on(kafka_bootstrap, topics.prefix, [WEBHOOKS]) as published:
        yield published


async def by_twilio(
    http: httpx.AsyncClient, path: str, form: dict[str, str], token: str, *, signed: str | None = None
) -> httpx.Response:
    """A callback signed as Twilio signs it, for the address ``signed`` or the one that is called."""
    text = (signed or PUBLIC_URL + path) + "".join(name + form[name] for name in sorted(form))
    digest = base64.b64encode(hmac.digest(token.encode(), text.encode(), "sha1")).decode()
    return await http.post(path, content=urlencode(form), headers=FORM_TYPE | {"x-twilio-signature": digest})


async def by_vonage(
    http: httpx.AsyncClient,
    path: str,
    form: dict[str, str],
    secret: str,
    *,
    digest: str = "sha256",
    age: float = 0,
    upper: bool = False,
) -> httpx.Response:
    """A callback signed as Vonage signs it."""
    form = form | {"timestamp": str(int(utc_now().timestamp() - age)), "nonce": "1b2c"}
    text = "".join(f"&{name}={form[name].replace('&', '_').replace('=', '_')}" for name in sorted(form))
    sig = hmac.new(secret.encode(), text.encode(), digest).hexdigest()
    if digest == "hash":
        sig = hashlib.md5((text + secret).encode()).hexdigest()
    return await http.post(path, content=urlencode(form | {"sig": sig.upper() if upper else sig}), headers=FORM_TYPE)


async def called(http: httpx.AsyncClient, path: str, account: str, secret: str) -> httpx.Response:
    if path in TWILIO:
        return await by_twilio(http, path, TWILIO[path] | {"AccountSid": account}, secret)
    return await by_vonage(http, path, VONAGE[path] | {"api-key": account}, secret)


async def test_a_secret_signs_for_its_own_account_and_no_other(http: httpx.AsyncClient, webhooks: Published) -> None:
    good = []
    for path in (*TWILIO, *VONAGE):
        for account in (*SECRETS, "nobody", ""):
            for owner, secret in (*SECRETS.items(), ("nobody", "a stranger's")):
                answer = await called(http, path, account, secret)
                expected = owner == account and account in SECRETS and (path in TWILIO) == account.startswith("AC")
                assert answer.status_code == (200 if expected else 403), (path, account, owner)
                good += [account] if expected else []
    records = [json.loads(value) for value in await in_kafka(webhooks)]
    assert sorted(record["verified_account"] for record in records) == sorted(good)


@pytest.mark.parametrize("token", ["rotated-in", "token-1"])
async def test_while_tokens_are_changed_either_signs(http: httpx.AsyncClient, token: str) -> None:
    assert (await called(http, "/webhooks/twilio/sms", "AC1", token)).status_code == 200


async def test_a_customers_text_becomes_one_record_of_either_provider(
    http: httpx.AsyncClient, webhooks: Published
) -> None:
    answers = [
        await called(http, path, account, SECRETS[account])
        for path, account in (("/webhooks/twilio/sms", "AC2"), ("/webhooks/vonage/sms", "key2"))
    ]
    assert [(a.status_code, a.text) for a in answers] == [(200, "<Response/>"), (200, "")]
    records = await webhooks.records(WEBHOOKS)
    assert {record.key for record in records} == {b"+447700900001:+447700900999", b"447700900001:447700900999"}
    values = {json.loads(record.value or b"")["type"]: record.value for record in records}
    twilio = TwilioSmsWebhook.decode(values["webhook.twilio_sms.v1"])
    assert twilio.form["Body"] == TWILIO["/webhooks/twilio/sms"]["Body"]
    assert "Tomorrow" not in twilio.form
    assert VonageSmsWebhook.decode(values["webhook.vonage_sms.v1"]).form["text"] == "a=b & c_d ü"


async def test_a_status_names_the_account_that_signed_it(http: httpx.AsyncClient, webhooks: Published) -> None:
    for path, account in (("/webhooks/twilio/status", "AC1"), ("/webhooks/vonage/status", "key1")):
        assert (await called(http, path, account, SECRETS[account])).status_code == 200
    found: dict[str, Any] = {json.loads(value)["type"]: value for value in await in_kafka(webhooks)}
    assert TwilioStatusWebhook.decode(found["webhook.twilio_status.v1"]).verified_account == "AC1"
    assert VonageStatusWebhook.decode(found["webhook.vonage_status.v1"]).verified_account == "key1"


@pytest.mark.parametrize(
    ("digest", "upper"), [("sha256", False), ("sha256", True), ("sha512", False), ("sha512", True)]
)
async def test_vonage_signs_with_sha_256_or_512(http: httpx.AsyncClient, digest: str, *, upper: bool) -> None:
    form = VONAGE["/webhooks/vonage/sms"] | {"api-key": "key1"}
    answer = await by_vonage(http, "/webhooks/vonage/sms", form, "signature-1", digest=digest, upper=upper)
    assert answer.status_code == 200


@pytest.mark.parametrize("digest", ["md5", "sha1"])
async def test_vonages_older_signatures_are_none(http: httpx.AsyncClient, digest: str) -> None:
    form = VONAGE["/webhooks/vonage/sms"] | {"api-key": "key1"}
    answer = await by_vonage(http, "/webhooks/vonage/sms", form, "signature-1", digest=digest)
    assert answer.status_code == 403


@pytest.mark.parametrize(("age", "status"), [(290, 200), (-290, 200), (310, 403), (-310, 403), (86_400, 403)])
async def test_a_captured_callback_of_vonage_is_good_for_five_minutes(
    http: httpx.AsyncClient, age: int, status: int
) -> None:
    form = VONAGE["/webhooks/vonage/sms"] | {"api-key": "key1"}
    answer = await by_vonage(http, "/webhooks/vonage/sms", form, "signature-1", age=age)
    assert answer.status_code == status


async def test_fields_of_vonage_cannot_be_divided_anew_under_their_signature(http: httpx.AsyncClient) -> None:
    form = {"api-key": "key1", "messageId": "0B", "text": "hi", "timestamp": str(int(utc_now().timestamp())), "to": "1"}
    text = "".join(f"&{name}={form[name]}" for name in sorted(form))
    sig = hmac.digest(b"signature-1", text.encode(), "sha256").hex()
    whole, cut = form | {"sig": sig}, {name: told for name, told in form.items() if name not in ("text", "timestamp")}
    cut |= {"text=hi&timestamp": form["timestamp"], "sig": sig}
    answers = [await http.post("/webhooks/vonage/sms", content=urlencode(f), headers=FORM_TYPE) for f in (whole, cut)]
    assert [answer.status_code for answer in answers] == [200, 403]


SPELLINGS = [
    (PUBLIC_URL, "?ref=m:1:abcdefgh"),
    (PUBLIC_URL + ":443", "?ref=m:1:abcdefgh"),
]


@pytest.mark.parametrize("sent", ["?ref=m:1:abcdefgh", "?ref=m%3A1%3Aabcdefgh", "?ref=m%3a1%3aabcdefgh"])
@pytest.mark.parametrize(("base", "query"), SPELLINGS)
async def test_what_a_proxy_makes_of_the_address_does_not_break_its_signature(
    http: httpx.AsyncClient, base: str, query: str, sent: str
) -> None:
    path = "/webhooks/twilio/status"
    form = TWILIO[path] | {"AccountSid": "AC1"}
    answer = await by_twilio(http, path + sent, form, "token-1", signed=base + path + query)
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "signed",
    [
        "http://edge/webhooks/twilio/status",
        PUBLIC_URL.replace("https", "http") + "/webhooks/twilio/status",
        PUBLIC_URL + ":8443/webhooks/twilio/status",
        PUBLIC_URL + "/webhooks/twilio/sms",
        PUBLIC_URL + "/webhooks/twilio/status?ref=another",
    ],
)
async def test_no_other_spelling_counts(http: httpx.AsyncClient, signed: str) -> None:
    path = "/webhooks/twilio/status"
    form = TWILIO[path] | {"AccountSid": "AC1"}
    assert (await by_twilio(http, path, form, "token-1", signed=signed)).status_code == 403


@pytest.mark.parametrize("path", [*TWILIO, *VONAGE])
async def test_json_is_no_form_and_a_field_comes_once(http: httpx.AsyncClient, webhooks: Published, path: str) -> None:
    headers = {"x-twilio-signature": "A" * 27 + "="}
    body = await http.post(
        path, content=b'{"AccountSid": "AC1"}', headers=headers | {"content-type": "application/json"}
    )
    none = await http.post(path, content=b"AccountSid=AC1", headers=headers)
    twice = await http.post(path, content=b"api-key=key1&api-key=key1", headers=headers | FORM_TYPE)
    get = await http.get(path)
    assert [answer.status_code for answer in (body, none, twice, get)] == [415, 415, 403, 405]
    assert await in_kafka(webhooks) == []


@pytest.mark.parametrize(
    "cut",
    [
        {"Body": "hi", "From": "+447700900666", "FromCity": "From+447700900999MessageSidSM2"},  # another sender
        {"Body": "hiFrom+447700900999", "MessageSid": "SM2"},  # no sender
        {"Body": "hi", "From": "+447700900999", "FromCityMessageSidSM2": ""},
    ],
)
async def test_a_text_divided_otherwise_than_it_was_signed_is_refused_or_has_no_sender(
    http: httpx.AsyncClient, webhooks: Published, cut: dict[str, str]
) -> None:
    path = "/webhooks/twilio/sms"
    answer = await by_twilio(http, path, {"AccountSid": "AC1", "To": "+447700900001"} | cut, "token-1")
    if answer.status_code == 200:
        [value] = await in_kafka(webhooks)
        assert "From" not in TwilioSmsWebhook.decode(value).form
    else:
        assert answer.status_code == 403
