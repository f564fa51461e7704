"""A tail of topics: where it begins, what it leaves out, and what it does when partitions are added."""

import asyncio

import pytest
import pytest_asyncio
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

from libs.common.kafka.records import RawRecord
from libs.common.kafka.topic_tail import TopicTail
from tests.support.consumer_bench import Bench

Seen = tuple[str, int, str]


@pytest_asyncio.fixture
async def topic(bench: Bench) -> str:
    """The bench's topic, with a record in each of its first two partitions."""
    await bench.put("a", partition=0)
    await bench.put("b", partition=1)
    return bench.topic.name


def seen(record: RawRecord) -> Seen | None:
    value = (record.value or b"").decode()
    return None if value == "hidden" else (record.topic, record.partition, value)


async def first(tail: TopicTail[Seen], count: int) -> set[Seen]:
    found: list[Seen] = []
    async with asyncio.timeout(30):
        async for one in tail:
            found.append(one)
            if len(found) == count:
                break
    assert len(set(found)) == count
    return set(found)


def at(topic: str, *places: tuple[int, str]) -> set[Seen]:
    return {(topic, partition, value) for partition, value in places}


async def test_a_tail_begins_at_the_end_and_leaves_out_what_its_decoder_leaves_out(bench: Bench, topic: str) -> None:
    async with TopicTail(bench.connection, [bench.topic], seen) as tail:
        await bench.put("hidden", "c", partition=0)
        await bench.put("d", partition=1)
        assert await first(tail, 2) == at(topic, (0, "c"), (1, "d"))
        await bench.put("e", partition=0)
        assert await first(tail, 1) == at(topic, (0, "e"))


@pytest.mark.parametrize(("offsets", "expected"), [({}, "abc"), ({0: 1}, "bc"), ({0: 1, 1: 1}, "c")])
async def test_a_tail_begins_at_the_offsets_that_it_is_given(
    bench: Bench, topic: str, offsets: dict[int, int], expected: str
) -> None:
    await bench.put("c", partition=0)
    begin = {(topic, partition): offset for partition, offset in offsets.items()}
    async with TopicTail(bench.connection, [bench.topic], seen, offsets=begin) as tail:
        assert {value for _, _, value in await first(tail, len(expected))} == set(expected)


async def test_added_partitions_are_read_from_their_beginning_and_nothing_is_read_twice(
    bench: Bench, topic: str, kafka_admin: AIOKafkaAdminClient
) -> None:
    async with TopicTail(bench.connection, [bench.topic], seen) as tail:
        await bench.put("c", partition=0)
        assert await first(tail, 1) == at(topic, (0, "c"))
        many = len(await bench.raw.partitions_for(bench.connection.name(topic))) + 1
        await kafka_admin.create_partitions({bench.connection.name(topic): NewPartitions(many)})
        async with asyncio.timeout(30):
            while len(await bench.raw.partitions_for(bench.connection.name(topic))) < many:
                await bench.raw.client.force_metadata_update()
        await bench.put("new", partition=many - 1)
        assert await first(tail, 1) == at(topic, (many - 1, "new"))
        await bench.put("d", partition=0)
        assert await first(tail, 1) == at(topic, (0, "d"))


async def test_an_error_of_the_decoder_skips_nothing_but_its_record(bench: Bench, topic: str) -> None:
    def strict(record: RawRecord) -> Seen | None:
        if record.value == b"bad":
            raise ValueError("bad")
        return seen(record)

    async with TopicTail(bench.connection, [bench.topic], strict) as tail:
        await bench.put("c", "bad", "d", partition=0)
        assert await first(tail, 1) == at(topic, (0, "c"))
        with pytest.raises(ValueError, match="bad"):
            await first(tail, 1)
        assert await first(tail, 1) == at(topic, (0, "d"))


async def test_a_tail_that_is_over_ends_however_many_records_come(bench: Bench, topic: str) -> None:
    async def put_more() -> None:
        while True:
            await bench.put("hidden", partition=0)

    found: list[Seen] = []

    def note(record: RawRecord) -> Seen | None:
        found.extend(one for one in [seen(record)] if one is not None)
        return seen(record)

    async with TopicTail(bench.connection, [bench.topic], note, offsets={}, is_over=lambda: len(found) == 2) as tail:
        putting = asyncio.create_task(put_more())
        try:
            async with asyncio.timeout(30):
                assert {one async for one in tail} == at(topic, (0, "a"), (1, "b"))
        finally:
            putting.cancel()
