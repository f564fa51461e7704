import asyncio
from collections.abc import Mapping
from typing import Any, cast

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import IllegalStateError

from libs.common.clock import utc_now
from libs.common.kafka.partitions import Partitions


class SlowBroker:
    """What aiokafka does with a commit: it waits for the broker, and refuses one that names a partition which is not ours."""

    def __init__(self) -> None:
        self.ours = {0, 1}
        self.asked = asyncio.Event()
        self.answers = asyncio.Event()
        self.committed: dict[int, int] = {}

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        if any(place.partition not in self.ours for place in offsets):
            raise IllegalStateError
        self.asked.set()
        await self.answers.wait()
        self.committed |= {place.partition: offset for place, offset in offsets.items()}


@pytest.mark.parametrize("kept", [{0}, {0, 1}])
async def test_a_commit_that_waited_while_the_partitions_were_given_out_anew_is_dropped_and_owes_nothing(
    kept: set[int],
) -> None:
    broker = SlowBroker()
    partitions = Partitions(
        "webhooks.v1", "webhooks.v1", utc_now, 100, lambda: cast(AIOKafkaConsumer, cast(Any, broker))
    )
    first = asyncio.create_task(partitions.commit({0: 10}))
    await broker.asked.wait()
    behind = asyncio.create_task(partitions.commit({1: 20}))
    await asyncio.sleep(0)
    partitions.lost()
    broker.ours = kept
    broker.answers.set()
    await asyncio.gather(first, behind)
    assert (broker.committed, partitions.owed) == ({0: 10}, {})
    await partitions.commit({0: 30})
    assert broker.committed == {0: 30}
