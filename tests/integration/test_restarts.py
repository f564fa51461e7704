"""Services as processes: they wait for their place in the group, keep it by name, and end when another process has the
name.
"""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import aiohttp
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener

from deploy.local.servers.ports import free_port
from libs.common.kafka.consumer import BatchConsumer
from tests.support.command import COMMAND, environment, running
from tests.support.topics import OwnTopics
from tests.support.waiting import eventually

pytestmark = [pytest.mark.proof, pytest.mark.timeout(300)]

GROUP, TOPIC = "router.outbound.intents.v1", "outbound.intents.v1"
LONGER_THAN_ANY_LIMIT = 13.0
"""Than the ten seconds after which a router ended once, and than those after which HTTP has to answer."""

ITS_PLACE_LASTS = BatchConsumer.SESSION_SECONDS - 3.0
"""After a kill, at the least: the last heartbeat may have been three seconds before. A slow machine starts nothing in
that time, and then the partitions move."""


class Router:
    """``transom run router`` and where it answers."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process, self.port = process, port

    async def answers(self, path: str) -> tuple[int, str]:
        """Status and body; 0 while nobody listens."""
        try:
            async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{self.port}{path}") as answer:
                return answer.status, await answer.text()
        except aiohttp.ClientError:
            return 0, ""

    async def until(self, path: str, status: int) -> str:
        """The body, once the answer has this status; fails when the process has ended."""
        async with asyncio.timeout(90):
            while True:
                assert self.process.returncode is None, self.process.returncode
                found, body = await self.answers(path)
                if found == status:
                    return body
                await asyncio.sleep(0.05)


Start = Callable[..., AbstractAsyncContextManager[Router]]


@pytest.fixture
async def start(database: str, kafka_bootstrap: str, redis_url: str, topics: OwnTopics) -> Start:
    """Starts a router with these settings."""
    await topics.create(partitions=4)

    @asynccontextmanager
    async def started(**settings: str) -> AsyncIterator[Router]:
        port = free_port()
        env = environment(
            KAFKA_BOOTSTRAP=kafka_bootstrap,
            TOPIC_PREFIX=topics.prefix,
            POSTGRES_DSN=database,
            REDIS_URL=redis_url,
            HTTP_HOST="127.0.0.1",
            **settings,
        )
        outputs = {"stdout": asyncio.subprocess.DEVNULL, "stderr": asyncio.subprocess.PIPE}
        async with running(*COMMAND, "run", "router", "--port", str(port), env=env, **outputs) as process:
            yield Router(process, port)

    return started


class Member(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka has no types
    """Another member of the router's group. ``lets_go``: until then nobody else gets a place."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.lets_go = asyncio.Event()
        self.moves = 0
        self.has = 0

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        if revoked:
            self.moves += 1
            self.asked.set()
            await self.lets_go.wait()

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self.has = len(assigned)


@asynccontextmanager
async def a_member(kafka_bootstrap: str, prefix: str) -> AsyncIterator[Member]:
    member = Member()
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka_bootstrap,
        group_id=prefix + GROUP,
        group_instance_id="other",
        enable_auto_commit=False,
        session_timeout_ms=60_000,
        rebalance_timeout_ms=60_000,
        heartbeat_interval_ms=200,
    )
    consumer.subscribe([prefix + TOPIC], listener=member)
    await consumer.start()
    try:
        yield member
    finally:
        member.lets_go.set()
        await consumer.stop()


async def test_a_service_waits_for_its_place_however_long_it_takes_and_answers_meanwhile(
    start: Start, kafka_bootstrap: str, topic_prefix: str
) -> None:
    async with a_member(kafka_bootstrap, topic_prefix) as member, start() as router:
        await member.asked.wait()
        await asyncio.sleep(LONGER_THAN_ANY_LIMIT)
        await router.until("/livez", 200)
        assert "kafka" in await router.until("/readyz", 503)
        member.lets_go.set()
        await router.until("/readyz", 200)


async def test_a_service_with_a_name_has_its_place_at_once_after_a_kill_and_moves_nobody_s_partitions(
    start: Start, kafka_bootstrap: str, topic_prefix: str
) -> None:
    async with a_member(kafka_bootstrap, topic_prefix) as member:
        member.lets_go.set()
        await eventually(lambda: member.has)
        every = member.has
        async with start(INSTANCE="router-0") as router:
            await router.until("/readyz", 200)
            await eventually(lambda: 0 < member.has < every, "they share")
            moves = member.moves
            router.process.kill()
            await router.process.wait()
        in_time = 0
        while in_time < 2:
            killed_at = time.monotonic()
            async with start(INSTANCE="router-0") as again:
                await again.until("/readyz", 200)
                if time.monotonic() - killed_at < ITS_PLACE_LASTS:
                    assert member.moves == moves
                    in_time += 1
                moves = member.moves
                again.process.kill()
                await again.process.wait()


async def test_of_two_services_with_one_name_the_older_ends_and_says_why(start: Start) -> None:
    async with start(INSTANCE="router-0") as older:
        await older.until("/readyz", 200)
        async with start(INSTANCE="router-0") as newer:
            await newer.until("/readyz", 200)
            _, said = await asyncio.wait_for(older.process.communicate(), 60)
            assert older.process.returncode == 2
            assert said.decode().count("\n") == 1
            assert "TRANSOM_INSTANCE" in said.decode()
            await newer.until("/readyz", 200)
            newer.process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(newer.process.wait(), 60) == 0
