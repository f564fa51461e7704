"""Fixtures that several files of integration tests share."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from deploy.local.sandbox.client import SandboxClient
from libs.common.db.pool import Pool
from libs.common.events.topics import PORTAL_MESSAGES, WEBHOOKS
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.producer import Producer
from libs.common.redis import open_redis
from services.sms_bridge import topology as sms_bridge
from services.whatsapp_sender import topology as whatsapp_sender
from tests.support.consumer_bench import Bench
from tests.support.inbox import RunningInbox, an_inbox_of_its_own
from tests.support.portal_site import PortalSite, a_portal_site
from tests.support.published import Published, published_on
from tests.support.router import OUTPUTS, Router, a_router
from tests.support.sandbox import HookInbox
from tests.support.sms_world import (
    SmsWorld,
    an_sms_world,
)
from tests.support.statuses import a_pool_of_statuses
from tests.support.topics import OwnTopics, used_by
from tests.support.waiting import DEADLINE_SECONDS

PARTITIONS = 2


@pytest_asyncio.fixture
async def kafka_of_senders(kafka_bootstrap: str, topics: OwnTopics) -> KafkaConnection:
    await topics.create(used_by(sms_bridge.TOPOLOGY, whatsapp_sender.TOPOLOGY))
    return KafkaConnection(kafka_bootstrap, topics.prefix)


@pytest_asyncio.fixture
async def kafka_of_portal(kafka_bootstrap: str, topics: OwnTopics) -> KafkaConnection:
    await topics.create([PORTAL_MESSAGES])
    return KafkaConnection(kafka_bootstrap, topics.prefix)


@pytest_asyncio.fixture
async def site(database: str, patient_redis_url: str, kafka_of_portal: KafkaConnection) -> AsyncIterator[PortalSite]:
    async with a_portal_site(database, patient_redis_url, kafka_of_portal) as made:
        yield made


@pytest_asyncio.fixture
async def world(
    database: str,
    patient_redis_url: str,
    kafka_of_senders: KafkaConnection,
    sandbox: SandboxClient,
    hook_inbox: HookInbox,
) -> AsyncIterator[SmsWorld]:
    servers = {"dsn": database, "redis_url": patient_redis_url, "twilio_url": sandbox.url, "public_url": hook_inbox.url}
    async with an_sms_world(kafka=kafka_of_senders, **servers) as made:
        yield made


@pytest_asyncio.fixture
async def router_published(kafka_bootstrap: str, topics: OwnTopics) -> AsyncIterator[Published]:
    await topics.create(OUTPUTS)
    async with published_on(kafka_bootstrap, topics.prefix, OUTPUTS) as following:
        yield following


@pytest.fixture
def patient_redis_url(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same Redis, which is never taken to be away because the machine is busy for a moment."""
    monkeypatch.setattr("libs.common.redis.CALL_SECONDS", DEADLINE_SECONDS)
    return redis_url


@pytest_asyncio.fixture
async def router(
    kafka_bootstrap: str, topics: OwnTopics, database: str, patient_redis_url: str, router_published: Published
) -> AsyncIterator[Router]:
    connection = KafkaConnection(kafka_bootstrap, topic_prefix=topics.prefix)
    async with open_redis(patient_redis_url) as gate, a_router(connection, database, gate, router_published) as one:
        yield one


@pytest_asyncio.fixture
async def bench(kafka_bootstrap: str, topics: OwnTopics) -> AsyncIterator[Bench]:
    await topics.create([WEBHOOKS, WEBHOOKS.dlq], partitions=PARTITIONS)
    connection = KafkaConnection(kafka_bootstrap, topic_prefix=topics.prefix)
    async with Producer(connection) as producer, AIOKafkaProducer(bootstrap_servers=kafka_bootstrap) as raw:
        yield Bench(connection, producer, raw)


@pytest_asyncio.fixture
async def status_pool(database: str) -> AsyncIterator[Pool]:
    async with a_pool_of_statuses(database) as pool:
        yield pool


@pytest_asyncio.fixture(scope="module")
async def inbox(
    postgres_dsn: str, database_template: str, kafka_admin: AIOKafkaAdminClient, kafka_bootstrap: str
) -> AsyncIterator[RunningInbox]:
    """One running inbox for a file of tests; each test has an organisation of its own (``inbox.an_org``)."""
    async with an_inbox_of_its_own(postgres_dsn, database_template, kafka_admin, kafka_bootstrap) as made:
        yield made
