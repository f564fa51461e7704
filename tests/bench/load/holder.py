"""Joins ingest's consumer group first and keeps every partition, as workers on other machines would: what then answers
webhooks is the edge alone.

``python -m tests.bench.load.holder BOOTSTRAP PREFIX`` says ``held`` and stays until it is ended. The first member of a
group deals out its partitions.
"""

import asyncio
import sys
from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor

from libs.common.events.topics import WEBHOOKS

HELD = "held"
_ME = "bench-holder"


class _Greedy(RoundRobinPartitionAssignor):  # type: ignore[misc] # aiokafka has no types
    """Deals everything to ourselves."""

    @classmethod
    def assign(cls, cluster: Any, members: Mapping[str, Any]) -> Any:
        ours = {member: found for member, found in members.items() if member.startswith(_ME)}
        dealt = super().assign(cluster, ours)
        others = {member: found for member, found in members.items() if member not in ours}
        return dealt | {member: _nothing(super(_Greedy, cls).assign(cluster, others)[member]) for member in others}


def _nothing(assignment: Any) -> Any:
    assignment.assignment = []
    return type(assignment)(assignment.version, [], assignment.user_data)


async def hold(bootstrap: str, prefix: str) -> None:
    """Until the process is ended."""
    consumer = AIOKafkaConsumer(
        f"{prefix}{WEBHOOKS.name}",
        bootstrap_servers=bootstrap,
        client_id=_ME,
        group_id=f"{prefix}ingest.{WEBHOOKS.name}",
        enable_auto_commit=False,
        partition_assignment_strategy=(_Greedy,),
        session_timeout_ms=30_000,
        heartbeat_interval_ms=500,
    )
    await consumer.start()
    consumer.pause(*consumer.assignment())
    print(HELD, flush=True)  # noqa: T201 -- for the starting process
    while True:
        await asyncio.sleep(0.2)
        consumer.pause(*consumer.assignment())


if __name__ == "__main__":
    asyncio.run(hold(sys.argv[1], sys.argv[2]))
