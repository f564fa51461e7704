"""What another release writes is parked: readable, loud, fed through again once the code knows it.

It stops nobody, and an intent leaves a trace.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
from aiokafka import AIOKafkaProducer

from deploy.cli.replay.run import Run
from deploy.cli.replay.selection import Selection
from libs.common.clock import utc_now
from libs.common.errors import Undecodable
from libs.common.events.outbound import OutboundRefused, WhatsappCommand
from libs.common.events.topics import OUTBOUND_INTENTS, OUTBOUND_REFUSED, OUTBOUND_WHATSAPP, Topic
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.consumer import BatchConsumer
from libs.common.kafka.parked import Traces
from libs.common.kafka.records import RawRecord, Received
from libs.common.kafka.topology import Subscription
from libs.common.sending import queries as sends
from services.router.worker import on_intents, on_refusals, read_intent
from services.whatsapp_sender.worker import decode_command, new_send
from tests.support.command import environment, transom
from tests.support.logs import LogLines
from tests.support.reconciling import reconcile
from tests.support.router import DAY, NOW, Garage, Router, stored
from tests.support.topics import OwnTopics
from tests.support.waiting import eventually

MINUTE = timedelta(minutes=1)
Publish = Callable[..., Any]


@pytest.fixture
def connection(kafka_bootstrap: str, topics: OwnTopics) -> KafkaConnection:
    return KafkaConnection(kafka_bootstrap, topic_prefix=topics.prefix)


@pytest.fixture
async def publish(kafka_bootstrap: str, topics: OwnTopics) -> AsyncIterator[Publish]:
    """Values into a topic of this test; all on one partition, in their order."""
    await topics.create([t for one in (OUTBOUND_INTENTS, OUTBOUND_REFUSED) for t in (one, one.dlq)], partitions=1)
    async with AIOKafkaProducer(bootstrap_servers=kafka_bootstrap) as raw:

        async def put(topic: Topic, *values: dict[str, Any]) -> None:
            name = f"{topics.prefix}{topic.name}"
            await asyncio.gather(*[await raw.send(name, orjson.dumps(value), key=b"k") for value in values])

        yield put


def read_refusal(record: RawRecord) -> OutboundRefused:
    return OutboundRefused.decode(record.value)


def tomorrow(today: Callable[[RawRecord], Any]) -> Callable[[RawRecord], Any]:
    """The decoder of a release that knows version 2, which means the same."""
    return lambda record: today(record._replace(value=(record.value or b"").replace(b".v2", b".v1")))


@asynccontextmanager
async def consuming(
    connection: KafkaConnection, router: Router, decode: Callable[[Any], Any] = lambda today: today
) -> AsyncIterator[BatchConsumer]:
    """The router's own consumer, with a session that a test can wait for."""
    consumer = BatchConsumer(
        connection,
        group="router",
        service="router",
        producer=router.deps.producer,
        now=utc_now,
        remember=Traces(router.pool),
        subscriptions=[
            Subscription(OUTBOUND_INTENTS, decode(read_intent), lambda batch: on_intents(batch, router.deps)),
            Subscription(OUTBOUND_REFUSED, decode(read_refusal), lambda batch: on_refusals(batch, router.deps)),
        ],
    )
    async with consumer:
        yield consumer


async def rows(router: Router, count: int, statement: str) -> list[dict[str, Any]]:
    """What the statement finds, once it finds so many."""
    async with asyncio.timeout(30):
        while len(found := await router.rows(statement)) < count:  # noqa: ASYNC110 -- another task makes it true
            await asyncio.sleep(0.05)
    return found


async def decided(router: Router, count: int) -> list[dict[str, Any]]:
    return await rows(router, count, "select intent_id, attempt from decisions")


async def parked(router: Router, count: int) -> list[dict[str, Any]]:
    columns = "topic, reason, event_type, message_id"
    return await rows(router, count, f"select {columns} from parked_records order by record_offset")


async def test_more_intents_of_tomorrow_than_stop_a_partition_are_parked_and_fed_through_by_the_release_that_knows_them(
    router: Router, connection: KafkaConnection, publish: Publish, log_lines: LogLines, database: str
) -> None:
    garage = await stored(router, Garage())
    at = utc_now().isoformat()  # no replay feeds through what is older than the topic keeps
    strange = [garage.intent(type="outbound.intent.v2", mood="glad", created_at=at) for _ in range(110)]
    plain = garage.intent(mood="glad")
    async with consuming(connection, router) as consumer:
        await publish(OUTBOUND_INTENTS, *strange, {"type": "outbound.intent.v2", "org_id": "é"}, plain)
        assert [row["intent_id"] for row in await decided(router, 1)] == [UUID(plain["intent_id"])]
        assert consumer.unready() is None
        traces = await parked(router, 110)
    assert {(t["topic"], t["reason"], t["event_type"]) for t in traces} == {
        ("outbound.intents.v1", "unknown_type", "outbound.intent.v2")
    }
    lines = log_lines.of("record.dead_lettered")
    assert {(line["level"], line["reason"], line["kind"]) for line in lines} == {
        ("error", "unknown_type", "outbound.intent.v2")
    }
    assert sum(line["records"] for line in lines) == 111

    env = environment(POSTGRES_DSN=database, KAFKA_BOOTSTRAP=connection.bootstrap, TOPIC_PREFIX=connection.topic_prefix)
    told = await asyncio.to_thread(transom, "explain", strange[0]["intent_id"], env=env)
    assert "1 record(s) of outbound.intents.v1 as unknown_type, of type outbound.intent.v2" in told.stdout

    selection = Selection(OUTBOUND_INTENTS, "unknown_type")
    would = await Run(connection, selection, dry=True).go()
    assert would[:2] == [
        "outbound.intents.v1.dlq: 111 letters read, 111 would be fed through again",
        "  111 unknown_type, of type outbound.intent.v2",
    ]
    await Run(connection, selection).go()
    async with consuming(connection, router, tomorrow):
        found = await decided(router, 111)
    assert {str(row["intent_id"]) for row in found} == {i["intent_id"] for i in [*strange, plain]}


async def test_a_refusal_of_tomorrow_is_parked_and_that_of_a_message_that_a_later_release_moved_too(
    router: Router, connection: KafkaConnection, publish: Publish, log_lines: LogLines
) -> None:
    garage = await stored(router, Garage())
    intents = [garage.intent() for _ in range(5)]
    await router.decide(*intents)
    strange, moved, recorded, plain = (garage.refusal(intent).model_dump(mode="json") for intent in intents[:4])
    await router.rows("alter table messages drop constraint messages_status_check")
    await router.rows("update messages set status = 'held_back' where message_id = $1", UUID(moved["intent_id"]))
    await router.rows(
        """update decisions set record = jsonb_set(record::jsonb, '{v}', '2')::json where intent_id = $1""",
        UUID(recorded["intent_id"]),
    )
    await router.rows("update conversations set identity_changed_at = $1", NOW)
    async with consuming(connection, router) as consumer:
        strange |= {"reason": "made_up_later"}
        await publish(OUTBOUND_REFUSED, strange, moved, recorded, plain)
        await decided(router, 6)
        traces = await parked(router, 3)
        assert consumer.unready() is None
    assert [(str(t["message_id"]), t["reason"]) for t in traces] == [
        (strange["intent_id"], "unknown_value"),
        (moved["intent_id"], "unknown_value"),
        (recorded["intent_id"], "unknown_version"),
    ]
    again = await router.rows("select intent_id from decisions where attempt = 2")
    assert [str(row["intent_id"]) for row in again] == [plain["intent_id"]]


async def test_a_command_that_an_old_sender_parks_goes_once_with_the_new_one(
    router: Router, connection: KafkaConnection, topics: OwnTopics
) -> None:
    await topics.create([OUTBOUND_WHATSAPP.dlq], partitions=1)
    intent = (await stored(router, Garage())).intent()
    await router.decide(intent)
    async with a_sender(connection, router, lambda record: decode_command(in_words_of_tomorrow(record))):
        await parked(router, 1)
        await reconcile(router, NOW + MINUTE, MINUTE)
        traces = await parked(router, 2)
    assert [(t["topic"], t["reason"], str(t["message_id"])) for t in traces] == 2 * [
        ("outbound.whatsapp.v1", "unknown_value", intent["intent_id"])
    ]
    assert (await router.message(intent))["status"] == "pending"
    selection = Selection(OUTBOUND_WHATSAPP, "unknown_value")
    told = await Run(connection, selection).go()
    assert told[1] == "  2 unknown_value, of type outbound.whatsapp.v1"
    async with a_sender(connection, router, decode_command) as handled:
        await eventually(lambda: len(handled) == 2, "both letters are handled")
    assert [str(row["message_id"]) for row in await router.rows("select message_id from sends")] == [
        intent["intent_id"]
    ]
    await router.published.new()
    await reconcile(router, NOW + 3 * MINUTE, MINUTE)
    assert not any((await router.published.new()).values())


def in_words_of_tomorrow(record: RawRecord) -> RawRecord:
    """What an old sender makes of a kind of content that only the new one knows."""
    return record._replace(value=(record.value or b"").replace(b'"kind":"text"', b'"kind":"hologram"'))


@asynccontextmanager
async def a_sender(
    connection: KafkaConnection, router: Router, decode: Callable[[RawRecord], WhatsappCommand]
) -> AsyncIterator[list[WhatsappCommand]]:
    """The part of a sender that stores commands, and which it has stored."""
    handled: list[WhatsappCommand] = []

    async def store(batch: Sequence[Received[WhatsappCommand]]) -> None:
        async with router.pool.acquire() as db:
            await sends.store(db, "whatsapp", [new_send(one.value) for one in batch], NOW, NOW + DAY)
        handled.extend(one.value for one in batch)

    consumer = BatchConsumer(
        connection,
        group="whatsapp-sender",
        service="whatsapp-sender",
        producer=router.deps.producer,
        now=utc_now,
        remember=Traces(router.pool),
        subscriptions=[Subscription(OUTBOUND_WHATSAPP, decode, store)],
    )
    async with consumer:
        yield handled


@pytest.mark.parametrize("header", ["schema_version", "version"])
def test_a_version_stands_in_the_type_alone_and_headers_are_passed_on_unread(header: str) -> None:
    record = RawRecord("outbound.intents.v1", 0, 0, 0, None, orjson.dumps(Garage().intent()), ((header, b"9"),))
    assert str(read_intent(record).intent_id)
    with pytest.raises(Undecodable):
        read_intent(record._replace(value=orjson.dumps({"type": "outbound.intent.v9", "intent_id": str(uuid4())})))
