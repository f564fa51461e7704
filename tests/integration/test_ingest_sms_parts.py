"""Concatenated SMS of Vonage, over its callbacks and on real servers."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer
from pydantic import SecretStr

from libs.common.db.columns import as_columns
from libs.common.db.pool import open_pool
from libs.common.events.directory import OrgUpserted
from libs.common.events.topics import INBOUND_MESSAGES, WEBHOOKS
from services.ingest import sms_parts, sms_queries
from services.ingest.tasks import PARTS_KEPT
from tests.support import world
from tests.support.ingest import ORG, READ, Ingest, now, running, settings
from tests.support.published import published_on
from tests.support.texts import CALLED, VONAGE_KEY, VONAGE_SECRET, WRITER, a_part, a_vonage_sms, post_vonage
from tests.support.topics import OwnTopics
from tests.support.webhooks import NUMBER

VONAGE: dict[str, Any] = {
    "sms_provider": "vonage",
    "vonage_api_key": VONAGE_KEY,
    "vonage_api_secret": SecretStr("their api secret"),
    "vonage_signature_secret": SecretStr(VONAGE_SECRET.decode()),
}


@pytest_asyncio.fixture
async def two(database: str, kafka_bootstrap: str, topics: OwnTopics, redis_url: str) -> AsyncIterator[list[Ingest]]:
    """Two replicas of ingest, with one garage on Vonage."""
    await topics.create()
    producer = AIOKafkaProducer(bootstrap_servers=kafka_bootstrap)
    await producer.start()
    configured = settings(database, kafka_bootstrap, topics.prefix, redis_url, **VONAGE)
    async with open_pool(database, application_name="test", size=2, command_seconds=10) as pool:
        async with pool.acquire() as db:
            await world.an_org(db, ORG, NUMBER)
        async with (
            running(configured) as one,
            running(configured) as other,
            published_on(kafka_bootstrap, topics.prefix, READ) as published,
            aiohttp.ClientSession() as http,
        ):
            yield [Ingest(url, topics.prefix, pool, http, published, producer) for url in (one, other)]
    await producer.stop()


async def post(ingest: Ingest, form: dict[str, str]) -> None:
    assert await post_vonage(ingest.http, ingest.url, form, int(time.time())) == 200


async def test_parts_in_any_order_over_replicas_are_one_message_each(two: list[Ingest]) -> None:
    messages = {f"4477009002{n:02}": [f"{n}.{k} " for k in range(1, 4)] for n in range(12)}
    forms = [
        a_part(text, number, 3, msisdn=sender)
        for sender, texts in messages.items()
        for number, text in enumerate(texts, 1)
    ]
    random.Random(7).shuffle(forms)
    await asyncio.gather(*(post(two[n % 2], form) for n, form in enumerate(forms)))
    events = await two[0].published.events(INBOUND_MESSAGES, len(messages))
    assert sorted(one["content"]["text"] for one in events) == sorted("".join(texts) for texts in messages.values())
    assert all("incomplete" not in one for one in events)
    await post(two[0], forms[0])  # a repeated part tells the same message again
    await post(two[0], a_vonage_sms("A short one."))
    again = (await two[0].published.events(INBOUND_MESSAGES, len(messages) + 2))[len(messages) :]
    (repeated,) = [one for one in again if one["content"]["text"] != "A short one."]
    assert repeated in events
    assert len(await two[0].rows("select 1 from messages")) == len(messages) + 1


async def test_what_waited_too_long_is_published_without_the_part_and_marked(two: list[Ingest]) -> None:
    await post(two[0], a_part("Is my ", 1, 3))
    async with asyncio.timeout(30):
        while not await two[0].rows("select 1 from sms_parts"):  # noqa: ASYNC110 -- a row, not an event
            await asyncio.sleep(0.02)
    await post(two[1], a_vonage_sms("Hello?"))
    (hello,) = await two[0].published.events(INBOUND_MESSAGES, 1)
    assert hello["content"]["text"] == "Hello?"
    async with two[0].pool.acquire() as db:
        await db.execute("update sms_joins set opened_at = opened_at - $1::interval", sms_parts.WAIT)
    (_, late) = await two[0].published.events(INBOUND_MESSAGES, 2)
    assert late["content"]["text"] == "Is my […]"
    assert late["incomplete"] == {"parts": [1], "total": 3}
    await post(two[1], a_part("ready?", 3, 3))
    async with asyncio.timeout(30):
        while len(await two[0].rows("select 1 from sms_joins")) < 2:  # noqa: ASYNC110 -- a row, not an event
            await asyncio.sleep(0.02)
    async with two[0].pool.acquire() as db:
        await db.execute("update sms_joins set opened_at = opened_at - $1::interval", sms_parts.WAIT)
    rest = (await two[0].published.events(INBOUND_MESSAGES, 3))[2]
    assert (rest["content"]["text"], rest["incomplete"]) == ("[…]ready?", {"parts": [3], "total": 3})
    async with two[0].pool.acquire() as db:
        now = two[0].pool.now()
        assert await sms_queries.purge_joins(db, now - timedelta(days=1), 10) == 0
        async with asyncio.timeout(30):
            while await db.fetchval("select count(*) from sms_joins where not published"):  # noqa: ASYNC110 -- a row
                await asyncio.sleep(0.02)
        await db.execute("update sms_joins set opened_at = $1", now - PARTS_KEPT - timedelta(days=1))
        assert await sms_queries.purge_joins(db, now - PARTS_KEPT, 10) == 2
        assert await db.fetchval("select count(*) from sms_parts") == 0


async def test_a_part_that_comes_again_when_another_garage_has_the_number_is_of_the_message_it_was(
    two: list[Ingest],
) -> None:
    forms = [a_part(text, n, 2) for n, text in enumerate(("Is my ", "Golf ready?"), 1)]
    for form in forms:
        await post(two[0], form)
    [first] = await two[0].published.events(INBOUND_MESSAGES, 1)
    async with two[0].pool.acquire() as db:
        left = OrgUpserted(org_id=ORG, at=now(), name="AcmeMotors", sms_number=None)
        await world.change(
            db, left, left.model_copy(update={"org_id": "beta", "sms_number": CALLED, "sms_active": True})
        )
    await post(two[0], forms[0])
    again = (await two[0].published.events(INBOUND_MESSAGES, 2))[1]
    assert again == first
    assert await two[0].published.records(WEBHOOKS.dlq) == []


async def test_who_leaves_very_many_messages_incomplete_delays_and_costs_nobody(two: list[Ingest]) -> None:
    flood = "into sms_joins (org_id, provider, account, sender, ref, total, opened_at)"
    async with two[0].pool.acquire() as db:
        for ref in ("17", "18"):
            await db.execute(
                f"insert {flood} select $1, 'vonage', $2, $3, $4, 3, now() from generate_series(1, 700)",
                *(ORG, CALLED, WRITER, ref),
            )
        concat = sms_queries.Concat(ORG, "vonage", CALLED, WRITER, "17", 3)
        async with db.transaction():
            looked_at = await sms_queries.joins_of(db, [concat], [("vonage", CALLED, "none")])
            assert len(looked_at) == sms_queries.MOST_OPEN
    forms = [a_part(text, n, 3) for n, text in enumerate(("Is my ", "Golf ", "ready?"), 1)]
    for form in forms:  # they go to one message, the oldest that waits for them
        await post(two[0], form)
    (whole,) = await two[0].published.events(INBOUND_MESSAGES, 1)
    assert whole["content"]["text"] == "Is my Golf ready?"


async def test_messages_with_other_references_are_not_read(two: list[Ingest]) -> None:
    async with two[0].pool.acquire() as db:
        await db.execute(
            "insert into sms_joins (org_id, provider, account, sender, ref, total, opened_at)"
            " select $1, 'vonage', $2, $3, n::text, 3, now() from generate_series(1, 2000) n",
            *(ORG, CALLED, WRITER),
        )
        concats = [sms_queries.Concat(ORG, "vonage", CALLED, WRITER, f"new {n}", 3) for n in range(50)]
        asked = *as_columns(concats), *as_columns([("vonage", CALLED, "none")])
        [plan] = await db.fetchval(f"explain (analyze, format json) {sms_queries._JOINS}", *asked)
    nodes, passed_over = [plan["Plan"]], 0.0
    while nodes:
        node = nodes.pop()
        nodes += node.get("Plans", [])
        passed_over += node.get("Rows Removed by Filter", 0) * node["Actual Loops"]
    assert passed_over < 100


async def test_more_messages_than_a_slice_are_published_in_one_run(two: list[Ingest]) -> None:
    number = 2 * sms_parts.AT_ONCE + 1
    async with two[0].pool.acquire() as db:
        await db.execute(
            "with j as (insert into sms_joins (org_id, provider, account, sender, ref, total, opened_at)"
            " select $1, 'vonage', $2, '+4477009' || lpad(n::text, 5, '0'), '1', 2, now() - interval '2 minutes'"
            " from generate_series(1, $3::int) n returning join_id)"
            " insert into sms_parts select 'vonage', $2, join_id::text, $1, join_id, 1, 'half', now(), now() from j",
            *(ORG, CALLED, number),
        )
        async with asyncio.timeout(60):
            while await db.fetchval("select count(*) from sms_joins where not published"):  # noqa: ASYNC110 -- a row
                await asyncio.sleep(0.05)
    assert len(await two[0].published.events(INBOUND_MESSAGES, number)) == number


@pytest.mark.parametrize(("texts", "keyword"), [(("STOP" + " " * 149, "  ."), "stop"), (("STOP ", "by at 5"), None)])
async def test_a_keyword_is_the_whole_text_also_where_it_came_in_parts(
    two: list[Ingest], texts: tuple[str, str], keyword: str | None
) -> None:
    for number, text in enumerate(texts, 1):
        await post(two[number - 1], a_part(text, number, 2))
    (told,) = await two[0].published.events(INBOUND_MESSAGES, 1)
    assert told.get("keyword") == keyword
    assert len(await two[0].rows("select 1 from consents where category = 'sms' and not allowed")) == bool(keyword)


async def test_a_message_that_cannot_be_stored_keeps_no_other_of_its_slice_from_being_published(
    two: list[Ingest],
) -> None:
    async with two[0].pool.acquire() as db:
        await db.execute(
            "create function refuses() returns trigger language plpgsql as $$ begin"
            " if new.from_wa_id = '447700900013' then raise exception 'a bug'; end if; return new; end $$"
        )
        await db.execute("create trigger refuses before insert on messages for each row execute function refuses()")
        await db.execute(
            "with j as (insert into sms_joins (org_id, provider, account, sender, ref, total, opened_at)"
            " select $1, 'vonage', $2, '+4477009000' || n, '1', 2, now() - interval '2 minutes'"
            " from generate_series(10, 19) n returning join_id)"
            " insert into sms_parts select 'vonage', $2, join_id::text, $1, join_id, 1, 'half', now(), now() from j",
            *(ORG, CALLED),
        )
    assert len(await two[0].published.events(INBOUND_MESSAGES, 9)) == 9
    assert len(await two[0].rows("select 1 from messages")) == 9
