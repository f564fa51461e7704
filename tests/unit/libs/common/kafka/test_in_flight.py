"""Which partitions are in flight, and the block that ends when some are given back."""

import asyncio

import pytest

from libs.common.kafka.in_flight import InFlight

PATIENCE, FOR_EVER = 30.0, 3600.0


def test_partitions_that_a_batch_names_are_in_flight_until_they_are_given_back() -> None:
    in_flight = InFlight()
    held = in_flight.take({0: 7, 3: 9}.keys())
    before = in_flight.partitions
    in_flight.give_back(in_flight.take({5}))
    assert (before, in_flight.partitions) == (frozenset({0, 3}), held)


async def test_the_block_is_broken_off_when_partitions_are_given_back_also_two_batches_in_one_turn() -> None:
    in_flight = InFlight()
    one, another = in_flight.take({0}), in_flight.take({1})
    after: list[str] = []

    async def wait() -> None:
        async with in_flight.until_given_back():
            await asyncio.sleep(FOR_EVER)
            after.append("slept")
        after.append("behind it")

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    in_flight.give_back(one)
    await asyncio.sleep(0)  # it is being broken off
    in_flight.give_back(another)
    async with asyncio.timeout(PATIENCE):
        await waiting
    assert after == ["behind it"]


async def test_a_block_that_is_over_is_not_broken_off() -> None:
    in_flight = InFlight()
    held = in_flight.take({0})
    async with in_flight.until_given_back():
        pass
    in_flight.give_back(held)
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_a_time_limit_of_the_block_itself_is_passed_on() -> None:
    in_flight = InFlight()
    in_flight.take({0})

    async def beyond_its_own_limit() -> None:
        async with in_flight.until_given_back(), asyncio.timeout(0):
            await asyncio.sleep(FOR_EVER)

    with pytest.raises(TimeoutError):
        await beyond_its_own_limit()
