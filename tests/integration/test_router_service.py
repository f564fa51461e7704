"""The router as a process, configured by the environment alone."""

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import orjson
import pytest
import pytest_asyncio

from deploy.cli.replay.run import Run
from deploy.cli.replay.selection import Selection
from libs.common.clock import utc_now
from libs.common.db.pool import open_pool
from libs.common.errors import Transient
from libs.common.events.topics import OUTBOUND_INTENTS, OUTBOUND_REFUSED
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.producer import Producer, Record
from libs.common.redis import open_redis
from services.router.worker import on_intents
from tests.support.command import COMMAND, running
from tests.support.command import environment as inherited
from tests.support.logs import validated
from tests.support.published import Published, published_on
from tests.support.router import DAY, OUTPUTS, Garage, a_router, as_received
from tests.support.topics import OwnTopics
from tests.support.waiting import eventually, eventually_true


@pytest_asyncio.fixture
async def published(kafka_bootstrap: str, topics: OwnTopics) -> AsyncIterator[Published]:
    await topics.create(partitions=1)
    async with published_on(kafka_bootstrap, topics.prefix, OUTPUTS) as following:
        yield following


@pytest.fixture
def environment(kafka_bootstrap: str, topics: OwnTopics, database: str, redis_url: str) -> dict[str, str]:
    return inherited(
        KAFKA_BOOTSTRAP=kafka_bootstrap,
        TOPIC_PREFIX=topics.prefix,
        POSTGRES_DSN=database,
        REDIS_URL=redis_url,
        HTTP_HOST="127.0.0.1",
        HTTP_PORT="0",
    )


class Process:
    """A running router and what it has logged."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[dict[str, Any]] = []

    async def follow(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            if line.endswith(b"\n"):  # a kill may cut the last one
                self.lines += validated(line)

    def port(self) -> int | None:
        return next((line["port"] for line in self.lines if line["event"] == "service.started"), None)


@asynccontextmanager
async def a_process(environment: Mapping[str, str]) -> AsyncIterator[Process]:
    async with running(*COMMAND, "run", "router", env=environment, stdout=asyncio.subprocess.PIPE) as process:
        router = Process(process)
        following = asyncio.create_task(router.follow())
        await eventually(router.port, "the router's line service.started")
        yield router
    await following


async def is_ready(http: httpx.AsyncClient) -> bool:
    return (await http.get("/readyz")).status_code == 200


async def a_garage(database: str, **changes: Any) -> Garage:
    garage = Garage(**{"last_customer_at": utc_now()} | changes)
    async with open_pool(database, application_name="test") as pool, pool.acquire() as db:
        await garage.store(db)
    return garage


async def test_intents_are_decided_and_refusals_decided_again(
    environment: dict[str, str], kafka_bootstrap: str, topics: OwnTopics, database: str, published: Published
) -> None:
    garage = await a_garage(database)
    intent = garage.intent()
    connection = KafkaConnection(kafka_bootstrap, topic_prefix=topics.prefix)
    seen: list[dict[str, Any]] = []
    async with Producer(connection) as producer, a_process(environment) as running:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{running.port()}", timeout=20) as http:
            await eventually_true(lambda: is_ready(http), "the router is ready")
        await producer.publish(
            [
                Record(OUTBOUND_INTENTS, b"k", b"not json"),
                Record(OUTBOUND_INTENTS, None, orjson.dumps(intent)),
                Record(OUTBOUND_INTENTS, b"k", orjson.dumps(garage.intent(org_id="a\x00b"))),
            ]
        )
        while not seen:
            seen += (await published.new())["outbound.whatsapp.v1"]
        await producer.publish([Record(OUTBOUND_REFUSED, b"k", garage.refusal(intent).encode())])
        while len(seen) < 2:
            seen += (await published.new())["outbound.whatsapp.v1"]
        await eventually(lambda: sum(line["event"] == "record.dead_lettered" for line in running.lines) == 2)
        running.process.send_signal(signal.SIGTERM)
        assert await running.process.wait() == 0
    assert [(command["message_id"], command["attempt"]) for command in seen] == [
        (intent["intent_id"], n) for n in (1, 2)
    ]
    assert [(line["intent_id"], line["attempt"]) for line in running.lines if line["event"] == "intent.decided"] == [
        (intent["intent_id"], n) for n in (1, 2)
    ]


async def test_a_router_killed_at_work_leaves_every_intent_decided_once(
    environment: dict[str, str], kafka_bootstrap: str, topics: OwnTopics, database: str, published: Published
) -> None:
    garages = [
        await a_garage(database, phone=f"+44770090{n:04d}", last_customer_at=utc_now() - n % 2 * 2 * DAY)
        for n in range(8)
    ]
    intents = [garages[n % 8].intent() for n in range(600)]
    connection = KafkaConnection(kafka_bootstrap, topic_prefix=topics.prefix)
    decisions: dict[str, bytes] = {}
    commands: dict[str, bytes] = {}

    async def read() -> None:
        for topic, events in (await published.new()).items():
            for event in events:
                as_json = orjson.dumps(event, option=orjson.OPT_SORT_KEYS)
                if topic == "outbound.decisions.v1":
                    assert decisions.setdefault(event["intent_id"], as_json) == as_json
                elif topic != "delivery.updates.v1":
                    assert commands.setdefault(event["message_id"], as_json) == as_json

    small = environment | {"TRANSOM_BATCH_RECORDS": "10"}
    async with Producer(connection) as producer:
        await producer.publish(
            [Record(OUTBOUND_INTENTS, i["conversation_id"].encode(), orjson.dumps(i)) for i in intents]
        )
    for _ in range(2):
        async with a_process(small):
            before = len(decisions)
            while len(decisions) < min(before + 50, len(intents)):
                await read()
    async with a_process(environment):
        async with asyncio.timeout(60):
            while len(decisions) < len(intents):
                await read()
    routes = [orjson.loads(d)["route"] for d in decisions.values()]
    assert (routes.count("session"), routes.count("bridge")) == (300, 4)
    assert len(commands) == 304


async def test_what_was_committed_and_not_published_is_published_by_the_redelivery(
    kafka_bootstrap: str, topics: OwnTopics, database: str, redis_url: str, published: Published
) -> None:
    connection = KafkaConnection(kafka_bootstrap, topic_prefix=topics.prefix)
    async with open_redis(redis_url) as gate, a_router(connection, database, gate, published) as router:
        garage = Garage.closed()
        async with router.pool.acquire() as db:
            await garage.store(db)
        batch = [garage.intent(), garage.intent()]
        cut_off = replace(
            router.deps, producer=Producer(connection)
        )  # never started: the process ends before it publishes
        with pytest.raises(Transient):
            await on_intents(as_received(batch), cut_off)
        stored = await router.rows("select intent_id::text, route from decisions")
        assert not any((await published.new()).values())
        await router.rows("update conversations set last_customer_at = $1", utc_now())
        seen = await router.decide(*batch)
    assert {(d["intent_id"], d["route"]) for d in seen["outbound.decisions.v1"]} == {
        (row["intent_id"], row["route"]) for row in stored
    }
    assert [c["message_id"] for c in seen["outbound.sms.v1"]] == [batch[0]["intent_id"]]
    assert [u["message_id"] for u in seen["delivery.updates.v1"]] == [batch[1]["intent_id"]]


_TAKES_TIME = """
create function take_time() returns trigger language plpgsql as $$ begin perform pg_sleep(20); return new; end $$;
create trigger takes_time before insert on messages for each row
    when (new.content ->> 'text' = 'slow') execute function take_time();
"""


@pytest.mark.proof
async def test_an_intent_that_is_too_slow_to_record_is_set_aside_the_others_go_on_and_a_replay_brings_it(
    environment: dict[str, str], kafka_bootstrap: str, topics: OwnTopics, database: str, published: Published
) -> None:
    garages = [await a_garage(database, phone=f"+44770090{n:04d}") for n in range(6)]
    intents = [garages[n % 6].intent() for n in range(120)]
    slow = garages[2].intent(content={"kind": "text", "text": "slow"})
    intents.insert(40, slow)
    async with open_pool(database, application_name="test") as pool, pool.acquire() as db:
        await db.execute(_TAKES_TIME)
    connection = KafkaConnection(kafka_bootstrap, topic_prefix=topics.prefix)
    seen = set[str]()

    async def until_told(ids: set[str]) -> None:
        async with asyncio.timeout(60):
            while not ids <= seen:
                seen.update(command["message_id"] for command in (await published.new())["outbound.whatsapp.v1"])

    others = {intent["intent_id"] for intent in intents} - {slow["intent_id"]}
    async with (
        Producer(connection) as producer,
        a_process(environment | {"TRANSOM_POSTGRES_TIMEOUT_SECONDS": "1"}) as running,
    ):
        await producer.publish(
            [Record(OUTBOUND_INTENTS, intent["conversation_id"].encode(), orjson.dumps(intent)) for intent in intents]
        )
        await until_told(others)
        await eventually(lambda: others <= {line.get("intent_id") for line in running.lines}, "their lines are read")
        [letter] = [line for line in running.lines if line["event"] == "record.dead_lettered"]
        before = {line.get("intent_id") for line in running.lines[: running.lines.index(letter)]}
        elsewhere = {i["intent_id"] for i in intents if i["conversation_id"] != slow["conversation_id"]}
        assert elsewhere <= before, "all other conversations are served before it is clear what it is"
        assert (letter["level"], letter["reason"], letter["offset"]) == ("error", "statement_too_slow", 40)
        assert letter["detail"].startswith("57014: ")
        async with open_pool(database, application_name="test") as pool, pool.acquire() as db:
            await db.execute("drop trigger takes_time on messages")
        await Run(connection, Selection(OUTBOUND_INTENTS, "statement_too_slow")).go()
        await until_told(others | {slow["intent_id"]})
