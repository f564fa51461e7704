"""A server goes away under a running inbox: what works without it works, the rest says so, and all recovers."""

import asyncio
from datetime import datetime
from functools import partial
from http import HTTPStatus
from time import monotonic
from uuid import uuid4

import httpx
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from playwright.async_api import Browser, expect

from deploy.local.servers.kafka import KafkaServer
from deploy.local.servers.postgres import PostgresServer
from libs.common.db.migrate import migrate
from libs.common.events.topics import OUTBOUND_INTENTS, TOPICS
from libs.common.kafka.connection import KafkaConnection
from services.inbox.outbox import PATIENCE_SECONDS
from tests.support import world
from tests.support.browser import phone
from tests.support.inbox import ADVISOR, a_running_inbox
from tests.support.logs import LogLines
from tests.support.published import published_on
from tests.support.topics import OwnTopics
from tests.support.waiting import eventually_true


async def is_ready(api: httpx.AsyncClient) -> bool:
    return (await api.get("/readyz")).status_code == HTTPStatus.OK


@pytest.mark.proof
async def test_without_kafka_reading_works_and_sending_says_503_and_the_same_key_sends_it_later(
    database: str, own_kafka: KafkaServer
) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=own_kafka.address)
    await admin.start()
    topics = OwnTopics(admin, "own.")
    await topics.create(TOPICS)
    await admin.close()
    async with a_running_inbox(database, KafkaConnection(own_kafka.address, topic_prefix="own.")) as inbox:
        org_id, customer, conversation = await inbox.an_org(), uuid4(), uuid4()
        async with inbox.pool.acquire() as db:
            number = await db.fetchval("select phone_number_id from whatsapp_numbers where org_id = $1", org_id)
            await world.a_customer(db, org_id, customer, "+447700900999")
            await world.a_conversation(db, org_id, conversation, customer, number)
        advisor = inbox.api(org_id, ADVISOR, "advisor-7")
        path, text = f"/v1/conversations/{conversation}", {"content": {"kind": "text", "text": "It is ready."}}

        async def send(key: str) -> int:
            return (await advisor.post(f"{path}/messages", json=text, headers={"Idempotency-Key": key})).status_code

        assert await send("before") == 202
        own_kafka.kill()
        began = monotonic()
        refused = await advisor.post(f"{path}/messages", json=text, headers={"Idempotency-Key": "meanwhile"})
        assert (refused.status_code, monotonic() - began < PATIENCE_SECONDS + 15) == (503, True)
        assert refused.headers["content-type"] == "application/problem+json"
        assert "retry-after" in refused.headers
        assert (await advisor.get(path)).status_code == 200
        await eventually_true(partial(is_ready, advisor))  # else a load balancer takes reading away
        assert (await advisor.post(f"{path}/hold")).status_code == 204  # the router asks PostgreSQL
        async with inbox.pool.acquire() as db:
            until = await db.fetchval("select until_at from conversation_holds where org_id = $1", org_id)
        assert isinstance(until, datetime)
        own_kafka.start()

        async def sends() -> bool:
            return await send("meanwhile") == HTTPStatus.ACCEPTED

        await eventually_true(sends)
        async with published_on(own_kafka.address, "own.", (OUTBOUND_INTENTS,)) as published:
            intents = {event["intent_id"] for event in await published.events(OUTBOUND_INTENTS, 2)}
        assert len(intents) == 2


@pytest.mark.proof
async def test_an_inbox_that_starts_without_kafka_reads_and_catches_up_when_it_is_back(
    database: str, own_kafka: KafkaServer, log_lines: LogLines
) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=own_kafka.address)
    await admin.start()
    await OwnTopics(admin, "late.").create(TOPICS)
    await admin.close()
    own_kafka.kill()
    kafka = KafkaConnection(own_kafka.address, topic_prefix="late.")
    async with a_running_inbox(database, kafka) as inbox:
        org_id, customer, conversation = await inbox.an_org(), uuid4(), uuid4()
        async with inbox.pool.acquire() as db:
            number = await db.fetchval("select phone_number_id from whatsapp_numbers where org_id = $1", org_id)
            await world.a_customer(db, org_id, customer, "+447700900999")
            await world.a_conversation(db, org_id, conversation, customer, number)
        advisor = inbox.api(org_id, ADVISOR, "advisor-7")
        path, text = f"/v1/conversations/{conversation}", {"content": {"kind": "text", "text": "It is ready."}}
        assert (await advisor.get(path)).status_code == 200
        await eventually_true(partial(is_ready, advisor))
        assert (await advisor.post(f"{path}/messages", json=text)).status_code == 503
        own_kafka.start()

        async def sends() -> bool:
            return (await advisor.post(f"{path}/messages", json=text)).status_code == HTTPStatus.ACCEPTED

        await eventually_true(sends)

        async def is_told() -> bool:  # the message holds the AI, and the worker has read that
            async with inbox.pool.acquire() as db:
                return bool(await db.fetchval("select last from inbox_feeds where org_id = $1", org_id))

        await eventually_true(is_told)
    events = [line["event"] for line in log_lines.all() if line.get("dependency") == "kafka"]
    assert events == ["dependency.away", "dependency.back"]


@pytest.mark.timeout(240)
async def test_without_postgresql_pages_say_so_and_come_back_by_themselves(
    own_postgres: PostgresServer,
    kafka_admin: AIOKafkaAdminClient,
    kafka_bootstrap: str,
    browser: Browser,
    log_lines: LogLines,
) -> None:
    await migrate(own_postgres.address)
    topics = OwnTopics(kafka_admin, f"away{uuid4().hex[:8]}.")
    await topics.create(TOPICS)
    kafka = KafkaConnection(kafka_bootstrap, topic_prefix=topics.prefix)
    async with a_running_inbox(own_postgres.address, kafka, postgres_timeout_seconds=2.0) as inbox:
        staff = await inbox.staff(await inbox.an_org())
        context = await phone(browser)
        cookies = staff.client.cookies.jar
        await context.add_cookies([{"name": c.name, "value": c.value or "", "url": staff.origin} for c in cookies])
        tab = await context.new_page()
        await tab.goto(f"{staff.origin}/inbox?view=unread")
        await expect(tab.locator("#live")).to_have_text("Live")
        own_postgres.kill()
        away = await staff.get("/inbox?view=unread")
        assert away.status_code == 503
        assert "Nothing is lost" in away.text
        assert away.headers["Cache-Control"] == "no-store"
        assert (await staff.get("/inbox/list", accept="application/json")).status_code == 503
        await tab.reload()
        await expect(tab.get_by_role("heading")).to_have_text("This page cannot be shown right now")
        await expect(tab.get_by_text("This page comes back by itself.")).to_be_visible()
        await asyncio.to_thread(own_postgres.start)
        await expect(tab.locator("h1")).to_have_text("Unread", timeout=60_000)
        assert tab.url.endswith("/inbox?view=unread")
        await context.close()
    assert "dependency.away" in {line["event"] for line in log_lines.all()}
    await topics.delete()
