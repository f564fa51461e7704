"""The producer on a real broker: acknowledged in order, or refused in bounded time, and usable again afterwards."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from deploy.local.servers.kafka import KafkaServer
from deploy.local.servers.ports import free_port
from libs.common.errors import ConfigurationError, Permanent, Transient
from libs.common.events.topics import OUTBOUND_SMS, OUTBOUND_WHATSAPP, WEBHOOKS, Topic
from libs.common.kafka.batch_limits import DOUBLES_AFTER
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.producer import Producer, Record
from libs.common.kafka.topics import declare
from tests.support.topics import OwnTopics
from tests.support.waiting import DEADLINE_SECONDS, eventually_true


@pytest_asyncio.fixture
async def connection(kafka_bootstrap: str, topics: OwnTopics) -> KafkaConnection:
    await topics.create([WEBHOOKS, WEBHOOKS.dlq], partitions=2)
    return KafkaConnection(kafka_bootstrap, topic_prefix=topics.prefix)


@pytest_asyncio.fixture
async def own_connection(own_kafka: KafkaServer) -> AsyncIterator[KafkaConnection]:
    connection = KafkaConnection(own_kafka.address)
    await declare(connection, [WEBHOOKS], partitions=1)
    yield connection


async def lying(connection: KafkaConnection, count: int, last: bytes | None = None) -> list[bytes | None]:
    """The first ``count`` values on the webhooks topic, those up to ``last``, and whatever else comes with them."""
    async with AIOKafkaConsumer(
        connection.name(WEBHOOKS.name), **connection.client_options(), auto_offset_reset="earliest"
    ) as consumer:
        values: list[bytes | None] = []
        async with asyncio.timeout(30):
            while len(values) < count or (last is not None and last not in values):
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    values += [record.value for record in records]
    return values


async def test_a_published_batch_lies_there_in_order(connection: KafkaConnection) -> None:
    values = [str(number).encode() for number in range(2000)]
    async with Producer(connection) as producer:
        await producer.publish([Record(WEBHOOKS, b"one conversation", value) for value in values])
        assert await lying(connection, 2000) == values


async def test_more_than_batches_hold_lies_there_in_order_also_beside_others(connection: KafkaConnection) -> None:
    mine = [b"%04d" % number + b"m" * 20_000 for number in range(100)]
    others = [b"%04d" % number + b"o" * 20_000 for number in range(100)]
    async with Producer(connection) as producer:
        await asyncio.gather(
            producer.publish([Record(WEBHOOKS, b"one conversation", value, (("k", b"v"),)) for value in mine]),
            producer.publish([Record(WEBHOOKS, b"one conversation", value) for value in others]),
        )
        found = await lying(connection, 200)
    assert [value for value in found if value in mine] == mine
    assert [value for value in found if value in others] == others


async def test_publishing_nothing_is_nothing(connection: KafkaConnection) -> None:
    async with Producer(connection) as producer:
        await producer.publish([])


async def test_the_largest_record_passes_and_its_dead_letter_too(connection: KafkaConnection) -> None:
    largest = Record(WEBHOOKS, b"k", b"x" * (WEBHOOKS.max_record_bytes - 129))
    async with Producer(connection) as producer:
        await producer.publish([largest])
        await producer.publish([largest._replace(topic=WEBHOOKS.dlq, headers=(("detail", b"d" * 500),))])


async def test_a_record_too_large_is_refused_before_its_neighbours_are_sent(connection: KafkaConnection) -> None:
    async with Producer(connection) as producer:
        with pytest.raises(Permanent) as refusal:
            await producer.publish(
                [Record(WEBHOOKS, b"k", b"small"), Record(WEBHOOKS, b"k", b"x" * WEBHOOKS.max_record_bytes)]
            )
        await producer.publish([Record(WEBHOOKS, b"k", b"later")])
        assert await lying(connection, 1) == [b"later"]
    assert refusal.value.reason == "record_too_large"


async def test_after_the_broker_refused_a_record_the_next_ones_pass(
    connection: KafkaConnection, kafka_admin: AIOKafkaAdminClient
) -> None:
    """The refusal leaves a gap in the idempotent producer's sequence."""
    narrow = NewTopic(connection.name(OUTBOUND_SMS.name), 1, 1, topic_configs={"max.message.bytes": "2000"})
    await kafka_admin.create_topics([narrow])
    async with Producer(connection) as producer:
        await producer.publish([Record(OUTBOUND_SMS, b"k", b"first")])
        with pytest.raises(Permanent, match="record_too_large"):
            await producer.publish([Record(OUTBOUND_SMS, b"k", b"x" * 3000)])
        for _ in range(3):
            await producer.publish([Record(OUTBOUND_SMS, b"k", b"next")])


async def test_what_a_topic_takes_one_by_one_but_not_together_arrives_in_order(
    connection: KafkaConnection, topics: OwnTopics
) -> None:
    """The brokers' limit is for a batch, which may hold hundreds of records, also of other publishes."""
    await topics.limit(WEBHOOKS, 20_000)
    mine, others = ([b"%03d" % number + name * 300 for number in range(200)] for name in (b"m", b"o"))
    async with Producer(connection, delivery_timeout=DEADLINE_SECONDS) as producer:
        await asyncio.gather(
            producer.publish([Record(WEBHOOKS, b"one conversation", value) for value in mine]),
            *(producer.publish([Record(WEBHOOKS, b"one conversation", value)]) for value in others),
        )
        found = await lying(connection, 400, mine[-1])
    assert [value for value in dict.fromkeys(found) if value in mine] == mine
    assert {*others} < {*found}


async def test_a_refused_batch_makes_those_of_its_topic_smaller_and_no_other_ones_until_the_limit_is_gone(
    connection: KafkaConnection, topics: OwnTopics
) -> None:
    """A batch that holds all of a publish is seen by a limit that it does not pass: the producer begins a new one."""
    await topics.create([OUTBOUND_SMS])
    now = 0.0

    async def publishes_at_once(topic: Topic, size: int) -> bool:
        """Whether a batch of this topic holds more than ``size`` bytes."""
        await topics.limit(topic, size)
        before = producer._inner
        await producer.publish([Record(topic, b"one conversation", b"x" * 300) for _ in range(200)])
        await topics.limit(topic)
        return producer._inner is not before

    async with Producer(connection, delivery_timeout=DEADLINE_SECONDS, seconds=lambda: now) as producer:
        assert await publishes_at_once(WEBHOOKS, 20_000)
        assert not await publishes_at_once(WEBHOOKS, 20_000)
        assert await publishes_at_once(OUTBOUND_SMS, 60_000)
        now += DOUBLES_AFTER
        assert await publishes_at_once(WEBHOOKS, 20_000)
        assert not await publishes_at_once(WEBHOOKS, 20_000)
        now += 5 * DOUBLES_AFTER
        assert await publishes_at_once(WEBHOOKS, 60_000)


async def test_what_fails_with_a_replaced_producer_does_not_spoil_the_new_one(
    connection: KafkaConnection, kafka_admin: AIOKafkaAdminClient
) -> None:
    narrow = NewTopic(connection.name(OUTBOUND_SMS.name), 1, 1, topic_configs={"max.message.bytes": "2000"})
    going = NewTopic(connection.name(OUTBOUND_WHATSAPP.name), 1, 1)
    await kafka_admin.create_topics([narrow, going])
    async with Producer(connection, delivery_timeout=8) as producer:
        await producer.publish([Record(OUTBOUND_WHATSAPP, b"k", b"arrives")])
        await kafka_admin.delete_topics([going.name])
        while going.name in await kafka_admin.list_topics():  # noqa: ASYNC110 -- the brokers tell only who asks
            await asyncio.sleep(0.05)
        under_way = asyncio.create_task(producer.publish([Record(OUTBOUND_WHATSAPP, b"k", b"waits")]))
        with pytest.raises(Permanent, match="record_too_large"):
            await producer.publish([Record(OUTBOUND_SMS, b"k", b"x" * 3000)])
        await producer.publish([Record(WEBHOOKS, b"k", b"with a new one")])
        renewed = producer._inner
        with pytest.raises(Transient):
            await under_way
        await producer.publish([Record(WEBHOOKS, b"k", b"with the same")])
        assert producer._inner is renewed


async def test_a_topic_that_does_not_exist_is_trouble_in_bounded_time(connection: KafkaConnection) -> None:
    async with Producer(connection, delivery_timeout=1.0) as producer:
        with pytest.raises(Transient):
            await producer.publish([Record(OUTBOUND_SMS, b"k", b"v")])


async def test_it_does_not_start_without_a_broker_and_says_which_and_how_to_mend_it() -> None:
    producer = Producer(KafkaConnection(f"127.0.0.1:{free_port()}"))
    with pytest.raises(ConfigurationError, match="TRANSOM_KAFKA_BOOTSTRAP"):
        await producer.start()
    with pytest.raises(Transient):
        await producer.publish([Record(WEBHOOKS, b"k", b"v")])
    assert await producer.unready() == "kafka: the producer is not started"


@pytest.mark.parametrize("away", [KafkaServer.kill, KafkaServer.pause], ids=["killed", "black hole"])
async def test_with_the_broker_away_it_gives_up_in_time_and_recovers_by_itself(
    own_kafka: KafkaServer, own_connection: KafkaConnection, away: Callable[[KafkaServer], None]
) -> None:
    async def nothing_listens() -> bool:
        return "nothing listens there" in (await producer.unready() or "")

    async with Producer(own_connection, delivery_timeout=1.5) as producer:
        await _publishes(producer, b"before")
        await _is_ready(producer)
        await asyncio.to_thread(away, own_kafka)

        for _ in range(2):
            with pytest.raises(Transient):
                async with asyncio.timeout(20):
                    await producer.publish([Record(WEBHOOKS, b"k", b"meanwhile")])
        why = await producer.unready()
        assert why is not None
        if away is KafkaServer.pause:
            assert "(" not in why, "a black hole gives no cause"
        else:
            await eventually_true(nothing_listens, "the cause is found within its moment")

        await asyncio.to_thread(KafkaServer.resume if away is KafkaServer.pause else KafkaServer.start, own_kafka)
        await _publishes(producer, b"after")
        await _is_ready(producer)
        values = await lying(own_connection, 2, b"after")
    assert values[0] == b"before"
    assert b"after" in values


async def test_it_stops_in_bounded_time_with_the_broker_away(
    own_kafka: KafkaServer, own_connection: KafkaConnection
) -> None:
    producer = Producer(own_connection, delivery_timeout=1.0)
    await producer.start()
    await _publishes(producer, b"before")
    await asyncio.to_thread(own_kafka.kill)
    with pytest.raises(Transient):
        await producer.publish([Record(WEBHOOKS, b"k", b"meanwhile")])
    async with asyncio.timeout(20):
        await producer.stop(timeout=0.5)


async def _publishes(producer: Producer, value: bytes) -> None:
    """However long the broker takes: it has just started, and the limits under test are short."""
    async with asyncio.timeout(60):
        while True:
            try:
                await producer.publish([Record(WEBHOOKS, b"k", value)])
            except Transient:
                continue
            return


async def _is_ready(producer: Producer) -> None:
    async with asyncio.timeout(60):
        while await producer.unready() is not None:  # noqa: ASYNC110 -- the broker tells only who asks
            await asyncio.sleep(0.1)
