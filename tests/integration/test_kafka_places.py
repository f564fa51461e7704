"""A place in a consumer group: waited for however long it takes, kept over a restart under a name, lost to whoever took
the name since.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.abc import ConsumerRebalanceListener

from libs.common.drain import Drain
from libs.common.errors import ConfigurationError
from libs.common.kafka.consumer import BatchConsumer
from tests.support.consumer_bench import GROUP, Bench, Handled
from tests.support.waiting import eventually, eventually_true

LONG = 60.0
REACHED = 4.0
"""By then a consumer has reached the broker, also on a busy machine, and goes on without its place."""


class _Holder(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka has no types
    """A member that lets nobody else in: to the brokers one that was killed, for as long as the test wants."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.lets_go = asyncio.Event()

    async def on_partitions_revoked(self, revoked: object) -> None:
        if revoked:
            self.asked.set()
            await self.lets_go.wait()

    async def on_partitions_assigned(self, assigned: object) -> None:
        pass


@asynccontextmanager
async def held(bench: Bench, group: str = GROUP) -> AsyncIterator[_Holder]:
    """The group, with a member whose place nobody gets before it lets go."""
    holder = _Holder()
    consumer = AIOKafkaConsumer(
        **bench.connection.client_options(),
        group_id=bench.connection.name(f"{group}.{bench.topic.name}"),
        enable_auto_commit=False,
        session_timeout_ms=int(LONG * 1000),
        rebalance_timeout_ms=int(LONG * 1000),
        heartbeat_interval_ms=200,
    )
    consumer.subscribe([bench.connection.name(bench.topic.name)], listener=holder)
    await consumer.start()
    try:
        yield holder
    finally:
        holder.lets_go.set()
        await consumer.stop()


async def test_a_consumer_waits_for_its_place_however_long_it_takes_and_says_so(bench: Bench) -> None:
    await bench.put("waits")
    handled = Handled()
    async with held(bench) as holder, bench.consumer(handled, START_SECONDS=REACHED) as consumer:
        await holder.asked.wait()
        assert "waits for its place in the group" in str(consumer.unready())
        assert handled.records == []
        holder.lets_go.set()
        await eventually(lambda: consumer.unready() is None)
    async with bench.consumer(handled) as consumer:  # the holder may have got the partition of the record
        await eventually(lambda: handled.values() == ["waits"])


async def test_whoever_waits_for_a_place_can_be_stopped(bench: Bench) -> None:
    async with held(bench) as holder:
        consumer = bench.consumer(Handled(), START_SECONDS=REACHED, drain=Drain(1.0, asyncio.get_running_loop().time))
        await consumer.start()
        await holder.asked.wait()
        async with asyncio.timeout(LONG / 2):
            await consumer.stop()


async def test_of_two_with_one_name_the_older_ends_and_the_newer_is_left_alone(bench: Bench) -> None:
    def router_0(handled: Handled) -> BatchConsumer:
        return bench.consumer(handled, instance_id="router-0", SESSION_SECONDS=LONG)

    async def committed() -> bool:
        return await bench.committed(0) == [1]

    older, newer = Handled(), Handled()
    async with router_0(older) as first:
        await bench.put("before")
        await eventually_true(committed, "the older is done with the first record")
        async with router_0(newer) as second:
            with pytest.raises(ConfigurationError, match="TRANSOM_INSTANCE"):
                async with asyncio.timeout(LONG / 2):
                    await first.watch()
            await bench.put("after")
            await eventually(lambda: newer.values() == ["after"])
            moves = moved(second)
            await bench.put("and later", partition=1)
            await eventually(lambda: newer.values() == ["after", "and later"])
            await asyncio.sleep(3)  # longer than between two heartbeats of either
            assert (moved(second), second.unready()) == (moves, None)
    assert older.values() == ["before"]


async def test_a_member_with_a_name_that_starts_again_moves_no_partition_of_another(bench: Bench) -> None:
    def member(handled: Handled, name: str) -> BatchConsumer:
        return bench.consumer(handled, instance_id=name, SESSION_SECONDS=LONG)

    handled = Handled()
    async with member(handled, "router-0") as other:
        async with member(handled, "router-1"):
            await eventually(lambda: moved(other) == 2 and other.unready() is None, "both have a place")
        for number in range(2):
            async with member(handled, "router-1"):
                await bench.put(f"{number}", partition=0)
                await bench.put(f"{number}", partition=1)
                await eventually(lambda: len(handled.records) == 2 * (number + 1))  # noqa: B023 -- asked within the turn
        assert moved(other) == 2


def moved(consumer: BatchConsumer) -> int:
    """How often its partitions were given out anew."""
    (runner,) = consumer._runners
    return runner.partitions.generation
