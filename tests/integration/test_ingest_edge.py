"""The edge on a real broker: who is let in, what is answered, what stays in the log."""

import asyncio
import base64
import hashlib
import hmac
import json
import zlib
from collections.abc import AsyncIterator
from urllib.parse import quote, urlencode
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio

from deploy.local.servers.kafka import KafkaServer
from libs.common.db.pool import open_pool
from libs.common.events.inbound import MetaWebhook, TwilioStatusWebhook
from libs.common.events.topics import WEBHOOKS
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.topics import declare
from services.ingest.edge import PATIENCE_SECONDS
from services.ingest.edge_coverage import EdgeCoverage
from tests.support.edge import an_edge, in_kafka
from tests.support.ingest import PUBLIC_URL, SECRETS, TWILIO_TOKEN, VERIFY_TOKEN, now
from tests.support.logs import LogLines
from tests.support.published import Published, published_on
from tests.support.scraped import scraped
from tests.support.topics import OwnTopics
from tests.support.waiting import eventually
from tests.support.webhooks import WA_ID, a_message, as_body, of_messages, sign

META, TWILIO = "/webhooks/meta", "/webhooks/twilio/status"
FORM = {"MessageSid": "SM1", "AccountSid": "AC1", "MessageStatus": "delivered", "To": "+447700900999", "ErrorCode": ""}


@pytest_asyncio.fixture
async def http(kafka_bootstrap: str, topics: OwnTopics, log_lines: LogLines) -> AsyncIterator[httpx.AsyncClient]:
    await topics.create([WEBHOOKS])
    async with an_edge(KafkaConnection(kafka_bootstrap, topics.prefix)) as client:
        yield client


@pytest_asyncio.fixture
async def webhooks(kafka_bootstrap: str, http: httpx.AsyncClient, topics: OwnTopics) -> AsyncIterator[Published]:
    async with published_on(kafka_bootstrap, topics.prefix, [WEBHOOKS]) as published:
        yield published


def signed(body: bytes, secret: bytes = SECRETS[0]) -> dict[str, str]:
    return {"X-Hub-Signature-256": sign(body, secret)}


async def test_white_space_around_a_signature_is_none_of_it(http: httpx.AsyncClient) -> None:
    body = as_body(of_messages(a_message(now())))
    for header in (" {} ", "\t{}", "{} \t "):
        given = header.format(sign(body, SECRETS[0])).encode()
        assert (await http.post(META, content=body, headers=[(b"x-hub-signature-256", given)])).status_code == 200
    assert (await http.post(META, content=body, headers=signed(body + b" "))).status_code == 403


@pytest.mark.parametrize("secret", SECRETS)
async def test_each_app_secret_is_good(http: httpx.AsyncClient, secret: bytes) -> None:
    body = as_body(of_messages(a_message(now())))
    answer = await http.post(META, content=body, headers=signed(body, secret))
    assert (answer.status_code, answer.content) == (200, b"")


BODY = b'{"object":"whatsapp_business_account","entry":[]}'


@pytest.mark.parametrize(
    "header",
    [
        None,
        b"",
        b"sha256=",
        b"sha256=zz",
        b"sha1=" + b"0" * 40,
        b"sha256=" + b"0" * 64,
        b"sha256=" + "é".encode() * 64,
        b"sha256=" + b"\xff" * 64,
        sign(BODY, b"stranger").encode(),
        sign(BODY + b" ", SECRETS[0]).encode(),
        sign(BODY, SECRETS[0]).encode()[7:],
    ],
)
async def test_what_is_not_signed_is_refused_and_leaves_nothing(
    http: httpx.AsyncClient, webhooks: Published, log_lines: LogLines, header: bytes | None
) -> None:
    headers = [] if header is None else [(b"x-hub-signature-256", header)]
    answer = await http.post(META, content=BODY, headers=headers)
    assert answer.status_code == 403
    assert answer.headers["content-type"] == "application/problem+json"
    assert await in_kafka(webhooks) == []
    (line,) = log_lines.of("webhook.rejected")
    assert (line["source"], line["status"], line["reason"]) == ("meta", 403, "bad_signature")
    assert header is None or len(header) < 20 or header.decode("latin-1") not in log_lines.raw


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (META, {}),
        (META, {"X-Hub-Signature-256": "sha256="}),
        (META, {"X-Hub-Signature-256": "sha256=" + "0" * 63}),
        (META, {"X-Hub-Signature-256": "sha256=" + "g" * 64}),
        (META, {"X-Hub-Signature-256": "sha1=" + "0" * 64}),
        (META, {"X-Twilio-Signature": "A" * 27 + "="}),
        (TWILIO, {}),
        (TWILIO, {"X-Twilio-Signature": "A" * 28}),
        (TWILIO, {"X-Twilio-Signature": "A" * 26 + "=="}),
        (TWILIO, {"X-Hub-Signature-256": "sha256=" + "0" * 64}),
    ],
)
async def test_without_the_form_of_a_signature_nothing_of_the_body_is_read(
    http: httpx.AsyncClient, path: str, headers: dict[str, str]
) -> None:
    asked = 0

    async def three_megabytes() -> AsyncIterator[bytes]:
        nonlocal asked
        for _ in range(48):
            asked += 1
            yield b"x" * 65_536

    answer = await http.post(path, content=three_megabytes(), headers=headers)
    assert (answer.status_code, answer.headers["connection"], asked) == (403, "close", 0)


async def test_a_flood_of_refusals_is_counted_and_told_once_a_second(
    http: httpx.AsyncClient, log_lines: LogLines
) -> None:
    counted = scraped("transom_webhook_signatures_failed_total", source="meta")
    await http.post(META, content=BODY)  # without a signature it is a stranger's
    for _ in range(50):
        await http.post(META, content=BODY, headers={"X-Hub-Signature-256": "sha256=" + "0" * 64})
    assert scraped("transom_webhook_signatures_failed_total", source="meta") == counted + 50
    await eventually(  # what an earlier test was refused may be told here too
        lambda: sum(line["times"] for line in log_lines.of("webhook.rejected")) >= 50, "all of them are told"
    )
    assert len(log_lines.of("webhook.rejected")) < 50


@pytest.mark.parametrize("body", [b"", b"no json", b"{", b'{"a": NaN}', b"\xff\xfe", b"[1] [2]"])
async def test_signed_noise_is_a_bad_request(http: httpx.AsyncClient, webhooks: Published, body: bytes) -> None:
    answer = await http.post(META, content=body, headers=signed(body))
    assert answer.status_code == 400
    assert await in_kafka(webhooks) == []


@pytest.mark.parametrize(
    "body",
    [
        b"null",
        b"0",
        b'"text"',
        b"[]",
        b"{}",
        b'{"entry": 1}',
        b'{"entry": []}',
        b'{"entry": [1, {"changes": 1}, {"changes": [1, {"value": 1}]}]}',
        b'{"n": 123456789012345678901234567890}',
        b'"\\ud800"',
        b"[" * 3000 + b"]" * 3000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"entry": ' + b"[" * 1000 + b"]" * 1000 + b"}",
        b'{"n": ' + b"1" * 5000 + b"}",
        json.dumps({"entry": [{"changes": [{"field": "messages", "value": {"messages": [1e300] * 9}}]}]}).encode(),
    ],
)
async def test_any_signed_json_is_taken(http: httpx.AsyncClient, webhooks: Published, body: bytes) -> None:
    answer = await http.post(META, content=body, headers=signed(body))
    assert answer.status_code == 200
    values = await in_kafka(webhooks)
    assert values
    assert all(MetaWebhook.decode(value).type == "webhook.meta.v1" for value in values)


async def test_three_megabytes_are_taken_and_more_is_too_large(http: httpx.AsyncClient, webhooks: Published) -> None:
    def of_size(size: int) -> bytes:
        empty = as_body(of_messages(a_message(now(), "")))
        return as_body(of_messages(a_message(now(), "x" * (size - len(empty)))))

    limit = 3 * 1024 * 1024
    for size, status in ((limit - 100, 200), (limit + 100, 413)):
        body = of_size(size)
        assert (await http.post(META, content=body, headers=signed(body))).status_code == status
    body = of_size(2_900_000)

    async def in_chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 65_536):
            yield body[start : start + 65_536]

    assert (await http.post(META, content=in_chunks(), headers=signed(body))).status_code == 200
    assert len(await in_kafka(webhooks)) == 2


async def test_a_body_with_an_item_that_grows_beyond_a_record_is_kept_beside_its_others(
    http: httpx.AsyncClient, webhooks: Published
) -> None:
    beside = a_message(now(), "beside it")
    grows = a_message(now(), "x" * 1_000_000, numbers=[1e15] * 62_500)
    body = as_body(of_messages(grows, beside)).replace(b"1000000000000000.0", b"1e15")
    body = body.replace(b"1e15", b"1e15,1e15,1e15,1e15")
    assert len(body) < 3 * 1024 * 1024
    assert (await http.post(META, content=body, headers=signed(body))).status_code == 200
    other, whole = sorted(map(MetaWebhook.decode, await in_kafka(webhooks)), key=lambda one: one.item_kind == "body")
    assert (other.item_kind, other.item) == ("message", beside)
    assert zlib.decompress(base64.b64decode(whole.item["zlib_base64"])) == body


async def test_what_the_brokers_refuse_although_it_is_declared_comes_again_until_they_take_it(
    http: httpx.AsyncClient, webhooks: Published, topics: OwnTopics, log_lines: LogLines
) -> None:
    """Packed as a whole it would fit, as the dead letter of a message that nobody could replay."""
    body = as_body(of_messages(a_message(now(), "x" * 4000), a_message(now(), "small")))
    target, form = "/webhooks/twilio/sms", FORM | {"From": "+447700900999", "Body": "x" * 4000}
    sms = urlencode(form), twilio_signature(PUBLIC_URL + target, form)
    await topics.limit(WEBHOOKS, 3000)
    refused = scraped("transom_edge_refused_total", kind="refused", reason="kafka_refused")
    assert (await http.post(META, content=body, headers=signed(body))).status_code == 503
    assert (await http.post(target, content=sms[0], headers=sms[1])).status_code == 503
    assert scraped("transom_edge_refused_total", kind="refused", reason="kafka_refused") == refused + 1
    told = {(line["source"], line["status"], line["reason"]) for line in log_lines.of("webhook.rejected")}
    assert told == {("meta", 503, "kafka_refused"), ("twilio", 503, "kafka_refused")}

    await topics.limit(WEBHOOKS)
    assert (await http.post(META, content=body, headers=signed(body))).status_code == 200
    assert (await http.post(target, content=sms[0], headers=sms[1])).status_code == 200
    assert len(await in_kafka(webhooks)) == 3


async def test_the_handshake_answers_the_challenge_as_text(http: httpx.AsyncClient, log_lines: LogLines) -> None:
    asked = {"hub.mode": "subscribe", "hub.challenge": "1158201444", "hub.verify_token": VERIFY_TOKEN}
    answer = await http.get(META, params=asked)
    assert (answer.status_code, answer.text) == (200, "1158201444")
    assert answer.headers["content-type"].startswith("text/plain")
    (line,) = log_lines.of("webhook.received")
    assert (line["source"], line["status"], line["outcome"]) == ("meta", 200, "handshake")
    assert "1158201444" not in log_lines.raw


@pytest.mark.parametrize(("path", "method"), [(META, "PUT"), (TWILIO, "GET")])
async def test_another_method_is_refused_and_leaves_a_line(
    http: httpx.AsyncClient, log_lines: LogLines, path: str, method: str
) -> None:
    answer = await http.request(method, path)
    assert (answer.status_code, answer.headers["content-type"]) == (405, "application/problem+json")
    assert "POST" in answer.headers["allow"]
    (line,) = log_lines.of("webhook.rejected")
    assert (line["status"], line["reason"]) == (405, "method")


@pytest.mark.parametrize(
    "wrong", [{"hub.verify_token": "x"}, {"hub.verify_token": "é"}, {"hub.mode": "unsubscribe"}, {"hub.mode": ""}]
)
async def test_a_stranger_gets_no_handshake(http: httpx.AsyncClient, wrong: dict[str, str]) -> None:
    asked = {"hub.mode": "subscribe", "hub.challenge": "1", "hub.verify_token": VERIFY_TOKEN} | wrong
    assert (await http.get(META, params=asked)).status_code == 403
    assert (await http.get(META)).status_code == 403


async def test_one_line_per_webhook_and_nothing_private(http: httpx.AsyncClient, log_lines: LogLines) -> None:
    body = as_body(of_messages(a_message(now(), "my secret"), a_message(now())))
    await http.post(META, content=body, headers=signed(body))
    (line,) = log_lines.of("webhook.received")
    assert (line["source"], line["status"], line["items"]) == ("meta", 200, 2)
    for private in ("my secret", WA_ID, signed(body)["X-Hub-Signature-256"], SECRETS[0].decode()):
        assert private not in log_lines.raw


def twilio_signature(url: str, form: dict[str, str], token: bytes = TWILIO_TOKEN) -> dict[str, str]:
    text = url + "".join(name + form[name] for name in sorted(form))
    digest = hmac.new(token, text.encode(), hashlib.sha1).digest()
    return {
        "X-Twilio-Signature": base64.b64encode(digest).decode(),
        "content-type": "application/x-www-form-urlencoded",
    }


async def test_a_signed_status_callback_is_one_record(http: httpx.AsyncClient, webhooks: Published) -> None:
    target = f"{TWILIO}?who=a%20b&x=+1"
    headers = twilio_signature(PUBLIC_URL + target, FORM)
    answer = await http.post(target, content=urlencode(FORM), headers=headers)
    assert (answer.status_code, answer.text) == (200, "<Response/>")
    assert answer.headers["content-type"].startswith("text/xml")
    (value,) = await in_kafka(webhooks)
    assert (TwilioStatusWebhook.decode(value).form, TwilioStatusWebhook.decode(value).ref) == (FORM, None)


async def test_a_callback_carries_what_its_send_put_into_the_address(
    http: httpx.AsyncClient, webhooks: Published
) -> None:
    ref = f"{uuid4()}:1"
    for target in (f"{TWILIO}?ref={ref}", f"{TWILIO}?ref={quote(ref, safe='')}"):
        headers = twilio_signature(PUBLIC_URL + target, FORM)
        assert (await http.post(target, content=urlencode(FORM), headers=headers)).status_code == 200
    assert [TwilioStatusWebhook.decode(value).ref for value in await in_kafka(webhooks)] == [ref, ref]


@pytest.mark.parametrize("url", ["http://edge", "https://elsewhere.example"])
async def test_a_callback_signed_for_another_address_is_refused(
    http: httpx.AsyncClient, webhooks: Published, url: str
) -> None:
    counted = scraped("transom_webhook_signatures_failed_total", source="twilio")
    answer = await http.post(TWILIO, content=urlencode(FORM), headers=twilio_signature(url + TWILIO, FORM))
    assert answer.status_code == 403
    assert scraped("transom_webhook_signatures_failed_total", source="twilio") == counted + 1
    assert (await http.post(TWILIO, content=b"\xff\xff")).status_code == 403
    assert await in_kafka(webhooks) == []


@pytest.mark.timeout(180)
async def test_without_kafka_the_answer_is_503_and_remembered_and_200_again_after(
    own_kafka: KafkaServer, log_lines: LogLines, database: str
) -> None:
    connection = KafkaConnection(own_kafka.address)
    await declare(connection, [WEBHOOKS], partitions=1)
    body = as_body(of_messages(a_message(now())))
    coverage = EdgeCoverage()
    coverage.begin()
    async with an_edge(connection, coverage, patience=PATIENCE_SECONDS) as http:
        assert (await http.post(META, content=body, headers=signed(body))).status_code == 200
        refused = scraped("transom_edge_refused_total", kind="refused", reason="kafka_away")
        unavailable = scraped("transom_webhooks_total", source="meta", status="503")
        await asyncio.to_thread(own_kafka.kill)
        answer = await http.post(META, content=body, headers=signed(body))
        assert answer.status_code == 503
        assert scraped("transom_edge_refused_total", kind="refused", reason="kafka_away") == refused + 1
        assert scraped("transom_webhooks_total", source="meta", status="503") == unavailable + 1
        assert "retry-after" in answer.headers
        assert "kafka_away" in {line["reason"] for line in log_lines.of("webhook.rejected")}
        async with open_pool(database, application_name="test", size=1) as pool, pool.acquire() as db:
            await coverage.store(db, pool.now.earliest)
            [stored] = await db.fetch("select kind, reason, times from webhook_refusals")
        assert tuple(stored) == ("refused", "kafka_away", 1)
        await asyncio.to_thread(own_kafka.start)
        async with asyncio.timeout(60):
            while (await http.post(META, content=body, headers=signed(body))).status_code != 200:  # noqa: ASYNC110 -- as Meta does
                await asyncio.sleep(0.2)


CALLBACK = {
    "AccountSid": "AC1",
    "ErrorCode": "30007",
    "MessageSid": "SM1",
    "MessageStatus": "undelivered",
    "RawDlrDoneDate": "2611230000",
    "To": "+447700900999",
}


@pytest.mark.parametrize(
    ("target", "form"),
    [
        (f"{TWILIO}?ref=m1:1", {"AccountSid": "AC1ErrorCode30007", **{k: CALLBACK[k] for k in list(CALLBACK)[2:]}}),
        (f"{TWILIO}?ref=m1:1AccountSidAC1ErrorCode30007", {k: CALLBACK[k] for k in list(CALLBACK)[2:]}),
        (TWILIO, {"?ref=m1:1AccountSid": "AC1", **{k: CALLBACK[k] for k in list(CALLBACK)[1:]}}),
        (
            f"{TWILIO}?ref=m1:1",
            {**{k: CALLBACK[k] for k in ("AccountSid", "ErrorCode")}, "MessageSid": "SM1MessageStatusundelivered"}
            | {k: CALLBACK[k] for k in ("RawDlrDoneDate", "To")},
        ),
    ],
)
async def test_a_callback_divided_otherwise_than_it_was_signed_is_refused(
    http: httpx.AsyncClient, webhooks: Published, target: str, form: dict[str, str]
) -> None:
    headers = twilio_signature(f"{PUBLIC_URL}{TWILIO}?ref=m1:1", CALLBACK)
    assert twilio_signature(PUBLIC_URL + target, form) == headers  # the signature is good
    assert (await http.post(target, content=urlencode(form), headers=headers)).status_code == 403
    assert await in_kafka(webhooks) == []
    whole = await http.post(f"{TWILIO}?ref=m1:1", content=urlencode(CALLBACK), headers=headers)
    assert whole.status_code == 200


async def test_a_field_that_comes_twice_is_refused(http: httpx.AsyncClient, webhooks: Published) -> None:
    headers = twilio_signature(PUBLIC_URL + TWILIO, FORM)
    twice = urlencode([*FORM.items(), ("MessageStatus", "delivered")])
    assert (await http.post(TWILIO, content=twice, headers=headers)).status_code == 403
    assert await in_kafka(webhooks) == []


async def test_a_slash_behind_the_path_and_a_look_at_whether_it_is_there_are_served_alike(
    http: httpx.AsyncClient, webhooks: Published
) -> None:
    asked = {"hub.mode": "subscribe", "hub.verify_token": VERIFY_TOKEN, "hub.challenge": "42"}
    assert (await http.get(f"{META}/", params=asked)).text == "42"
    body = as_body(of_messages(a_message(now())))
    answer = await http.post(f"{META}/", content=body, headers={"X-Hub-Signature-256": sign(body, SECRETS[0])})
    assert answer.status_code == 200
    assert [MetaWebhook.decode(value).item_kind for value in await in_kafka(webhooks)] == ["message"]
    for path in (META, f"{META}/"):
        assert ((await http.head(path)).status_code, (await http.head(path)).content) == (200, b"")
