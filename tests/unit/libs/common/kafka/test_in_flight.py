"""Which partitions are in flight, and waiting for another state of them."""

import asyncio

from libs.common.kafka.in_flight import InFlight

PATIENCE, FOR_EVER = 30.0, 3600.0


async def test_a_wait_ends_when_partitions_are_given_back_also_before_it_has_begun() -> None:
    in_flight = InFlight()
    held = in_flight.take({0: 7, 3: 9}.keys())  # as a batch names them
    seen = in_flight.partitions
    waiting = asyncio.create_task(in_flight.change(seen, FOR_EVER))
    in_flight.give_back(held)
    async with asyncio.timeout(PATIENCE):
        await waiting
        await in_flight.change(seen, FOR_EVER)
    assert (seen, in_flight.partitions) == (held, frozenset())


async def test_a_wait_goes_on_while_the_same_partitions_are_in_flight() -> None:
    in_flight = InFlight()
    in_flight.take({0})
    in_flight.give_back(frozenset({5}))
    await in_flight.change(in_flight.partitions, 0.01)
    assert in_flight.partitions == {0}
