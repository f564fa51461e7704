"""Ingest as it runs, on real servers, in the test's own loop:

``ingest`` takes webhooks and lets the test see what became of them.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import asyncpg
import pytest_asyncio
from aiokafka import AIOKafkaProducer
from pydantic import SecretStr

from deploy.local.servers.ports import free_port
from libs.common.db.pool import Pool, open_pool
from libs.common.events.base import Event
from libs.common.events.topics import (
    DELIVERY_UPDATES,
    DIRECTORY_CHANGES,
    INBOUND_MESSAGES,
    OUTBOUND_REFUSED,
    WEBHOOKS,
    Topic,
)
from libs.common.service import Service
from services.ingest import app
from services.ingest.settings import IngestSettings
from services.ingest.topology import TOPOLOGY
from tests.support import world
from tests.support.published import Published, published_on
from tests.support.topics import OwnTopics, used_by
from tests.support.waiting import DEADLINE_SECONDS
from tests.support.webhooks import NUMBER, as_body, sign

ORG = "acme"
SECRETS = (b"old-secret", b"new-secret")
VERIFY_TOKEN = "shake"
TWILIO_TOKEN = b"12345"
PUBLIC_URL = "https://hooks.example"
READ = (
    DIRECTORY_CHANGES,
    WEBHOOKS,
    WEBHOOKS.dlq,
    INBOUND_MESSAGES,
    DELIVERY_UPDATES,
    OUTBOUND_REFUSED,
    DIRECTORY_CHANGES.dlq,
)


@dataclass
class Ingest:
    """One running ingest, and eyes on its topics and tables."""

    url: str
    prefix: str
    pool: Pool
    http: aiohttp.ClientSession
    published: Published
    producer: AIOKafkaProducer

    async def post(self, webhook: Any, *, secret: bytes = SECRETS[0], headers: dict[str, str] | None = None) -> int:
        """Post a webhook signed as Meta would; the status of the answer."""
        body = webhook if isinstance(webhook, bytes) else as_body(webhook)
        given = {"X-Hub-Signature-256": sign(body, secret)} if headers is None else headers
        async with self.http.post(f"{self.url}/webhooks/meta", data=body, headers=given) as answer:
            await answer.read()
            return answer.status

    async def publish_changes(self, *changes: Event) -> None:
        """Publish changes of the directory as the platform would."""
        for change in changes:
            await self.producer.send_and_wait(f"{self.prefix}{DIRECTORY_CHANGES.name}", change.encode(), key=b"acme")

    async def reasons(self, topic: Topic, count: int) -> list[str]:
        """The reasons of a topic's dead letters."""
        return [dict(record.headers)["reason"].decode() for record in await self.published.records(topic.dlq, count)]

    async def rows(self, query: str, *values: Any) -> list[asyncpg.Record]:
        async with self.pool.acquire() as db:
            return await db.fetch(query, *values)

    async def row(self, query: str, *values: Any) -> asyncpg.Record:
        (row,) = await self.rows(query, *values)
        return row


def settings(database: str, bootstrap: str, prefix: str, redis_url: str, **more: Any) -> IngestSettings:
    values: dict[str, Any] = {
        "postgres_dsn": SecretStr(database),
        "kafka_bootstrap": bootstrap,
        "topic_prefix": prefix,
        "redis_url": SecretStr(redis_url),
        "meta_app_secrets": SecretStr(",".join(secret.decode() for secret in SECRETS)),
        "meta_verify_token": SecretStr(VERIFY_TOKEN),
        "twilio_account_sid": "AC1",
        "twilio_auth_tokens": SecretStr(TWILIO_TOKEN.decode()),
        "public_url": PUBLIC_URL,
        "http_host": "127.0.0.1",
    } | more
    return IngestSettings(**values)


@asynccontextmanager
async def running(configured: IngestSettings) -> AsyncIterator[str]:
    """Ingest's own ``run`` until the block ends; its address."""
    port = free_port()
    service = Service("ingest", host="127.0.0.1", port=port, drain_seconds=5)
    task = asyncio.create_task(app.run(configured, service))
    url = f"http://127.0.0.1:{port}"
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not await _answers(url):
                assert not task.done(), task.exception()
                await asyncio.sleep(0.02)
        yield url
    finally:
        service.stop()
        await task


async def _answers(url: str) -> bool:
    try:
        async with aiohttp.ClientSession() as http, http.get(f"{url}/readyz") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


@pytest_asyncio.fixture
async def ingest(database: str, kafka_bootstrap: str, topics: OwnTopics, redis_url: str) -> AsyncIterator[Ingest]:
    """Ingest with one organisation (``acme``) and one number, running."""
    await topics.create(used_by(TOPOLOGY))
    producer = AIOKafkaProducer(bootstrap_servers=kafka_bootstrap)
    await producer.start()
    async with open_pool(database, application_name="test", size=2, command_seconds=10) as pool:
        async with pool.acquire() as db:
            await world.an_org(db, ORG, NUMBER)
        async with (
            running(settings(database, kafka_bootstrap, topics.prefix, redis_url)) as url,
            published_on(kafka_bootstrap, topics.prefix, READ) as published,
            aiohttp.ClientSession() as http,
        ):
            yield Ingest(url, topics.prefix, pool, http, published, producer)
    await producer.stop()


def now() -> datetime:
    """Now in whole seconds, the resolution of Meta's timestamps."""
    return datetime.now(UTC).replace(microsecond=0)


DOUBT = timedelta(seconds=300)
DAY = timedelta(days=1)
