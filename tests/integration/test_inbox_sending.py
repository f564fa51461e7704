"""What staff send through the inbox: once, in their own name, by the router's way; and who holds a conversation."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from libs.common.db.pool import Pool
from libs.common.directory import holds
from libs.common.events.content import OutText
from libs.common.events.topics import DIRECTORY_CHANGES, OUTBOUND_INTENTS
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.producer import Producer
from services.inbox.people import Person
from services.inbox.problems import Problem
from services.inbox.sending import MOST_SENDS, Sending, Wish
from tests.support import world
from tests.support.inbox import ADVISOR, TECHNICIAN, RunningInbox
from tests.support.inbox_place import Place, a_place
from tests.support.published import Published, published_on
from tests.support.waiting import eventually_true

TEXT = {"content": {"kind": "text", "text": "Your Golf is ready."}}
TEMPLATE = {"content": {"kind": "template", "name": "car_ready", "language": "en_GB", "parameters": ["Kim"]}}


@pytest_asyncio.fixture
async def place(inbox: RunningInbox) -> Place:
    return await a_place(inbox)


@pytest_asyncio.fixture(scope="module")
async def published(inbox: RunningInbox) -> AsyncIterator[Published]:
    topics = (OUTBOUND_INTENTS, DIRECTORY_CHANGES)
    async with published_on(inbox.kafka.bootstrap, inbox.kafka.topic_prefix, topics) as following:
        yield following


async def intents_of(published: Published, place: Place) -> list[dict[str, Any]]:
    return [event for event in await published.events(OUTBOUND_INTENTS) if event["org_id"] == place.org_id]


async def words_of(published: Published, place: Place) -> list[dict[str, Any]]:
    return [event for event in await published.events(DIRECTORY_CHANGES) if event["org_id"] == place.org_id]


async def rows(pool: Pool, statement: str, *values: Any) -> list[Any]:
    async with pool.acquire() as db:
        return list(await db.fetch(statement, *values))


async def test_a_message_is_an_intent_of_its_person_with_the_one_capability_that_it_needs(
    inbox: RunningInbox, place: Place, published: Published
) -> None:
    owner = inbox.api(place.org_id, ("*", "secrets.read"), "owner-1")
    answer = await owner.post(place.path("messages"), json=TEXT | {"channel": "sms", "purpose": "transactional"})
    assert answer.status_code == 202, answer.text
    [intent] = await intents_of(published, place)
    assert answer.json() == {"intent_id": intent["intent_id"], "conversation_id": str(place.conversation)}
    assert intent["actor"] == {"kind": "staff", "user_id": "owner-1", "capabilities": ["messages.send"]}
    assert (intent["content"]["text"], intent["channel"], intent["purpose"]) == (
        "Your Golf is ready.",
        "sms",
        "transactional",
    )
    [line] = await rows(inbox.pool, "select * from audit_log where org_id = $1 and action = 'send'", place.org_id)
    assert (line["customer_id"], line["detail"]["user_id"]) == (place.customer, "owner-1")
    assert line["detail"]["intent_id"] == intent["intent_id"]


async def test_the_same_key_is_the_same_message_and_another_body_under_it_is_refused(
    inbox: RunningInbox, place: Place, published: Published
) -> None:
    key = {"Idempotency-Key": "reply-1"}
    answers = await asyncio.gather(*(place.send(TEXT, **key) for _ in range(3)))
    ids = {answer.json()["intent_id"] for answer in [*answers, await place.send(TEXT, **key)]}
    assert len(ids) == 1
    intents = await intents_of(published, place)
    assert {intent["intent_id"] for intent in intents} == ids
    before = len(intents)
    for other in (TEXT | {"channel": "sms"}, TEMPLATE, TEXT | {"expires_at": "2036-01-01T00:00:00Z"}):
        refused = await place.send(other, **key)
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "Idempotency-Key")
    assert len(await intents_of(published, place)) == before
    colleague = inbox.api(place.org_id, ADVISOR, "advisor-8")
    theirs = await colleague.post(place.path("messages"), json=TEXT, headers=key)
    assert theirs.json()["intent_id"] not in ids


async def test_a_wish_that_was_published_is_not_published_again_and_holds_nothing_again(
    inbox: RunningInbox, place: Place, published: Published
) -> None:
    key = {"Idempotency-Key": "reply-2"}
    await place.send(TEXT, **key)
    assert (await place.advisor.post(place.path("release"))).status_code == 204
    before = len(await intents_of(published, place))
    assert (await place.send(TEXT, **key)).status_code == 202
    assert len(await intents_of(published, place)) == before
    async with inbox.pool.acquire() as db:
        stands = await holds.standing(db, place.org_id, place.conversation)
    assert stands is not None
    assert stands.until is None


REFUSED: list[tuple[dict[str, Any], str]] = [
    (TEXT | {"intent_id": str(uuid4())}, "intent_id"),
    (TEXT | {"actor": {"kind": "ai"}}, "actor"),
    (TEXT | {"org_id": "other"}, "org_id"),
    ({"content": {"kind": "text", "text": ""}}, "content.text"),
    ({"content": {"kind": "text", "text": "x" * 4097}}, "content.text"),
    *[({"content": {"kind": kind}}, "content") for kind in ("image", "hologram")],
    ({"content": {"kind": "sticker", "media_id": "1", "caption": "Ha"}}, "content.caption"),
    ({"content": {"kind": "contacts", "contacts": [{}]}}, "content.contacts.0.name.formatted_name"),
    ({"content": {"kind": "image", "link": "https:///golf.jpg"}}, "content.link"),
    ({}, "content"),
    (TEXT | {"channel": "pigeon"}, "channel"),
    (TEXT | {"purpose": "fun"}, "purpose"),
    (TEXT | {"reply_to": "wamid.1"}, "reply_to"),
]


@pytest.mark.parametrize(("body", "field"), REFUSED, ids=[f"{n} {field}" for n, (_, field) in enumerate(REFUSED)])
async def test_a_wrong_field_is_named_and_nothing_is_sent(
    place: Place, published: Published, body: dict[str, Any], field: str
) -> None:
    answer = await place.send(body)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert answer.json()["errors"][0]["field"] == field
    assert "hologram" not in answer.text
    assert await intents_of(published, place) == []


async def test_a_text_too_long_for_an_sms_is_refused_at_once_with_the_limit(place: Place) -> None:
    long = {"content": {"kind": "text", "text": "a" * 460}, "channel": "sms"}
    to = {"to": {"phone_number_id": place.number, "phone": "+447700900998"}}
    for path, body in ((place.path("messages"), long), ("/v1/intents", long | to)):
        assert "3 segments, and this text would need 4" in (await place.advisor.post(path, json=body)).text


async def test_the_wrong_values_of_a_known_template_are_named_and_nothing_is_sent(
    inbox: RunningInbox, place: Place, published: Published
) -> None:
    async with inbox.pool.acquire() as db:
        waba = await db.fetchval("select waba_id from whatsapp_numbers where org_id = $1", place.org_id)
        await world.a_template(db, place.org_id, waba)
        await world.a_template(db, place.org_id, waba, name="in_review", status="PENDING")
    lines = TEMPLATE["content"] | {"parameters": ["your\nGolf"]}
    fields = {name: lines[name] for name in ("name", "language", "parameters")}
    first = {"to": {"phone_number_id": place.number, "phone": "+447700900998"}, "content": lines}
    for answer, named in (
        (await place.send({"content": lines}), "content.parameters.1"),
        (await place.send(TEXT | {"fallback_template": fields}), "fallback_template.parameters.1"),
        (await place.advisor.post("/v1/intents", json=first), "content.parameters.1"),
    ):
        assert (answer.status_code, [one["field"] for one in answer.json()["errors"]]) == (422, [named])
        assert "Golf" not in answer.text
    assert await intents_of(published, place) == []
    assert await rows(inbox.pool, "select from inbox_sends where org_id = $1", place.org_id) == []
    for name in ("car_ready", "in_review", "unheard_of"):
        sound = TEMPLATE["content"] | ({"name": name, "parameters": ["Golf"] if name == "car_ready" else ["a", "b"]})
        assert (await place.send({"content": sound})).status_code == 202


STRANGE: list[tuple[str, int]] = [
    ('{"content": {"kind": "text", "text": "\\ud83d"}}', 422),
    ('{"content": {"kind": "interactive", "interactive": {"a": "\\ud83d"}}}', 422),
    ('{"content": {"kind": "contacts", "contacts": [{"\\ud83d": 1}]}}', 422),
    ('{"content": {"kind": "location", "latitude": NaN, "longitude": 1}}', 422),
    ('{"content": {"kind": "interactive", "interactive": {"a": 1e999}}}', 422),
    ('{"content": {"kind": "interactive", "interactive": {"a": 123456789012345678901234567890}}}', 422),
    ('{"content": {"kind": "interactive", "interactive": {"a": ' + "[" * 70 + "]" * 70 + "}}}", 422),
    ("[" * 100_000, 422),
    ("{bad", 422),
    ("[]", 422),
    ("", 422),
    ('{"content": {"kind": "text", "text": "a\\u0000b"}}', 202),
    ('{"content": {"kind": "text", "text": "ok", "tomorrow": 1}}', 202),
]


@pytest.mark.parametrize(("body", "status"), STRANGE, ids=range(len(STRANGE)))
async def test_whatever_the_body_is_the_answer_says_so(place: Place, body: str, status: int) -> None:
    headers = {"content-type": "application/json"}
    answer = await place.advisor.post(place.path("messages"), content=body.encode(), headers=headers)
    assert answer.status_code == status, answer.text
    assert status == 202 or answer.json()["errors"][0]["field"].split(".")[0] in ("body", "content")


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", ""])
async def test_json_that_is_called_something_else_is_answered_with_the_header_it_needs(place: Place, kind: str) -> None:
    body = b'{"content": {"kind": "text", "text": "ok"}}'
    answer = await place.advisor.post(place.path("messages"), content=body, headers={"content-type": kind})
    message = "JSON is needed, with the header Content-Type: application/json"
    assert (answer.status_code, answer.json()["errors"]) == (422, [{"field": "body", "message": message}])


@pytest.mark.parametrize("body", [b"{bad", b"[" * 100_000, b"\xff"])
async def test_the_token_is_looked_at_before_a_body_that_is_no_json(
    inbox: RunningInbox, place: Place, body: bytes
) -> None:
    headers = {"content-type": "application/json"}
    answer = await inbox.client().post(place.path("messages"), content=body, headers=headers)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize("key", ["", "a b", "x" * 201, "\u00e9"])
async def test_a_key_that_is_none_is_named(place: Place, key: str) -> None:
    answer = await place.advisor.post(place.path("messages"), json=TEXT, headers=[(b"Idempotency-Key", key.encode())])
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "Idempotency-Key")


async def test_nothing_is_sent_without_the_capability_or_into_another_organisation(
    inbox: RunningInbox, place: Place, published: Published
) -> None:
    other = await a_place(inbox)
    viewer = inbox.api(place.org_id, TECHNICIAN, "technician-1")
    asked: list[tuple[str, Any]] = [("messages", TEXT), ("bridge", None), ("hold", None), ("release", None)]
    for what, body in asked:
        assert (await viewer.post(place.path(what), json=body)).status_code == 403
        foreign = await other.advisor.post(place.path(what), json=body)
        unknown = await other.advisor.post(f"/v1/conversations/{uuid4()}/{what}", json=body)
        assert (foreign.status_code, foreign.json()) == (404, unknown.json())
    for address in (
        {"conversation_id": str(place.conversation)},
        {"to": {"phone_number_id": place.number, "phone": "+447700900111"}},
    ):
        assert (await other.advisor.post("/v1/intents", json=TEXT | address)).status_code == 404
    assert await intents_of(published, place) == await intents_of(published, other) == []
    assert await rows(inbox.pool, "select from conversation_holds where org_id = any($1)", [place.org_id]) == []


async def test_an_intent_takes_its_author_from_the_token_and_its_id_is_its_key(
    place: Place, published: Published
) -> None:
    intent_id = str(uuid4())
    body = TEMPLATE | {"intent_id": intent_id, "to": {"phone_number_id": place.number, "phone": "+447700900111"}}
    answer = await place.advisor.post("/v1/intents", json=body)
    assert (answer.status_code, answer.json()) == (202, {"intent_id": intent_id, "conversation_id": None})
    [intent] = await intents_of(published, place)
    assert (intent["to"]["phone"], intent["actor"]["user_id"]) == ("+447700900111", "advisor-7")
    again = await place.advisor.post("/v1/intents", json=body | {"channel": "sms"})
    assert (again.status_code, again.json()["errors"][0]["field"]) == (422, "intent_id")
    odd = {"to": {"phone_number_id": "1\x00", "phone": "+447700900111"}}
    assert (await place.advisor.post("/v1/intents", json=TEMPLATE | odd)).status_code == 404
    for wrong in ({}, {"conversation_id": str(place.conversation), "to": body["to"]}, {"actor": {"kind": "staff"}}):
        assert (await place.advisor.post("/v1/intents", json=TEXT | wrong)).status_code == 422


async def test_a_first_contact_needs_a_number_that_may_be_one(place: Place, published: Published) -> None:
    answer = await place.advisor.post(
        "/v1/intents", json=TEXT | {"to": {"phone_number_id": place.number, "phone": "the customer"}}
    )
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "to.phone")
    assert await intents_of(published, place) == []


async def test_a_reply_quotes_a_message_of_the_thread_and_no_other(
    inbox: RunningInbox, place: Place, published: Published
) -> None:
    other = await a_place(inbox)
    for one in (place, other):
        await rows(
            inbox.pool,
            "insert into messages (org_id, message_id, conversation_id, direction, channel, provider, account,"
            " provider_id, kind, content, status, occurred_at, received_at)"
            " values ($1, $2, $2, 'in', 'whatsapp', 'meta', $3, $4, 'text', '{}', 'received', now(), now())",
            *(one.org_id, one.conversation, one.number, f"wamid.{one.conversation}"),
        )
    taken = TEXT | {"intent_id": str(place.conversation), "conversation_id": str(place.conversation)}
    refused = await place.advisor.post("/v1/intents", json=taken)  # it would be sent and stand in no thread
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "intent_id")
    answer = await place.send(TEXT | {"reply_to": str(place.conversation)})
    assert answer.status_code == 202
    thumb = {"content": {"kind": "reaction", "message_id": str(place.conversation), "emoji": "👍"}}
    assert (await place.send(thumb)).status_code == 202
    text, reaction = await intents_of(published, place)
    assert text["reply_to"] == str(place.conversation)
    assert reaction["content"]["message_id"] == f"wamid.{place.conversation}"
    for quoted in (other.conversation, uuid4()):
        assert (await place.send(TEXT | {"reply_to": str(quoted)})).status_code == 404
        unknown = await place.send({"content": thumb["content"] | {"message_id": str(quoted)}})
        assert (unknown.status_code, unknown.json()["errors"][0]["field"]) == (422, "content.message_id")


async def test_a_person_who_sends_too_much_is_told_when_to_go_on_and_a_colleague_is_not(
    inbox: RunningInbox, place: Place
) -> None:
    now = datetime.now(UTC)
    for number in range(MOST_SENDS):
        await rows(
            inbox.pool,
            "insert into inbox_sends (org_id, intent_id, user_id, body_hash, sent_at) values ($1, $2, $3, '', $4)",
            *(place.org_id, uuid4(), "advisor-7", now - timedelta(seconds=number / 10)),
        )
    answer = await place.send(TEXT)
    assert (answer.status_code, 0 < int(answer.headers["retry-after"]) <= 60) == (429, True)
    colleague = inbox.api(place.org_id, ADVISOR, "advisor-8")
    assert (await colleague.post(place.path("messages"), json=TEXT)).status_code == 202


async def test_staff_who_send_free_form_hold_the_ai_for_as_long_as_the_policy_says(
    inbox: RunningInbox, published: Published
) -> None:
    place = await a_place(inbox, policy={"hold_minutes": 7})
    thumb = {"content": {"kind": "reaction", "message_id": "wamid.1", "emoji": "👍"}}
    for body in (TEMPLATE, thumb):
        assert (await place.send(body)).status_code == 202
    assert (await place.advisor.post(place.path("bridge"))).status_code == 202
    assert await words_of(published, place) == []
    assert (await place.send(TEXT)).status_code == 202
    [word] = await words_of(published, place)
    assert (word["type"], word["user_id"], word["conversation_id"]) == (
        *("conversation.held.v1", "advisor-7"),
        str(place.conversation),
    )
    lasts = datetime.fromisoformat(word["until"]) - datetime.fromisoformat(word["at"])
    assert lasts == timedelta(minutes=7)
    [row] = await rows(inbox.pool, "select published from conversation_holds where org_id = $1", place.org_id)
    assert row["published"]


async def test_the_button_holds_and_releases_and_each_is_told_and_written_down(
    inbox: RunningInbox, place: Place, published: Published
) -> None:
    for what in ("hold", "release"):
        assert (await place.advisor.post(place.path(what))).status_code == 204
    assert [word["type"] for word in await words_of(published, place)] == [
        "conversation.held.v1",
        "conversation.released.v1",
    ]
    lines = await rows(inbox.pool, "select * from audit_log where org_id = $1 order by audit_id", place.org_id)
    assert [(line["action"], line["detail"]["user_id"]) for line in lines] == [
        ("hold", "advisor-7"),
        ("release", "advisor-7"),
    ]


@pytest_asyncio.fixture
async def away(inbox: RunningInbox) -> AsyncIterator[Sending]:
    """Sending whose Kafka takes nothing: the topics under its prefix are not there."""
    nowhere = KafkaConnection(inbox.kafka.bootstrap, topic_prefix=f"nowhere-{uuid4().hex[:8]}.")
    async with Producer(nowhere, delivery_timeout=0.5) as producer:
        yield Sending(inbox.pool, producer, inbox.pool.now)


def a_person(place: Place) -> Person:
    return Person(place.org_id, "advisor-7", frozenset(ADVISOR), datetime.now(UTC) + timedelta(hours=1))


async def test_while_kafka_is_away_nothing_is_sent_or_held_and_the_same_key_sends_it_later(
    inbox: RunningInbox, place: Place, published: Published, away: Sending
) -> None:
    wish = Wish(OutText(text="Your Golf is ready."), conversation_id=place.conversation)
    with pytest.raises(Problem) as problem:
        await away.send(a_person(place), wish, "reply-3")
    assert problem.value.status == 503
    async with inbox.pool.acquire() as db:
        stands = await holds.standing(db, place.org_id, place.conversation)
    assert stands is not None
    assert stands.until is None
    assert await intents_of(published, place) == []
    assert (await place.send(TEXT, **{"Idempotency-Key": "reply-3"})).status_code == 202
    assert len(await intents_of(published, place)) == 1
    async with inbox.pool.acquire() as db:
        stands = await holds.standing(db, place.org_id, place.conversation)
    assert stands is not None
    assert stands.until is not None


async def test_a_hold_that_a_crash_left_unpublished_is_published_by_the_task(
    inbox: RunningInbox, place: Place, published: Published, away: Sending
) -> None:
    await away.hold(a_person(place), place.conversation)
    async with Producer(inbox.kafka) as producer:
        sending = Sending(inbox.pool, producer, inbox.pool.now)

        async def is_published() -> bool:  # where the inbox's own task is at it, this one leaves it to that
            await sending.publish_left()
            [row] = await rows(inbox.pool, "select published from conversation_holds where org_id = $1", place.org_id)
            return bool(row["published"])

        await eventually_true(is_published)
    [word] = await words_of(published, place)
    assert word["type"] == "conversation.held.v1"


async def test_keys_are_forgotten_after_eight_days(inbox: RunningInbox, place: Place) -> None:
    for days in (7, 9):
        await rows(
            inbox.pool,
            "insert into inbox_sends (org_id, intent_id, user_id, body_hash, sent_at) values ($1, $2, 'u', '', $3)",
            *(place.org_id, uuid4(), datetime.now(UTC) - timedelta(days=days)),
        )
    async with Producer(inbox.kafka) as producer:
        await Sending(inbox.pool, producer, inbox.pool.now).forget()
    assert len(await rows(inbox.pool, "select from inbox_sends where org_id = $1", place.org_id)) == 1
