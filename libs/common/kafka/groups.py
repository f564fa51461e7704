"""What consumer groups have committed, and how many members they have. Their coordinators are asked.

A coordinator moves with its broker, loads its groups first, and a fresh cluster has none. Such an answer says nothing
about the group, so it is asked again for ``PATIENCE_SECONDS``.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import TypeVar

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    KafkaError,
    NotCoordinatorForGroupError,
    for_code,
)

PATIENCE_SECONDS = 15.0
_ASK_EVERY = 0.1
_MOVING = (GroupCoordinatorNotAvailableError, GroupLoadInProgressError, NotCoordinatorForGroupError)
T = TypeVar("T")


async def committed(
    admin: AIOKafkaAdminClient, group: str, places: Collection[TopicPartition] | None = None
) -> dict[TopicPartition, int]:
    """The offsets that the group has committed, of these partitions or of all. Raises KafkaError."""

    async def ask() -> dict[TopicPartition, int]:
        found = await admin.list_consumer_group_offsets(group, partitions=None if places is None else list(places))
        if not set(places or ()) <= found.keys():  # aiokafka 0.14 drops the error of an answer without partitions
            raise GroupLoadInProgressError(f"the coordinator of {group} answers without its offsets")
        return {place: known.offset for place, known in found.items() if known.offset >= 0}

    return await _settled(ask)


async def members(admin: AIOKafkaAdminClient, group: str) -> int:
    """How many members the group has. Raises KafkaError."""

    async def ask() -> int:
        # one group at a time: aiokafka 0.14 reads an answer about several wrongly
        (answer,) = await admin.describe_consumer_groups([group])
        (found,) = answer.to_object()["groups"]
        if found["error_code"]:
            raise for_code(found["error_code"])(f"the coordinator cannot describe {group}")
        return len(found["members"])

    return await _settled(ask)


async def _settled(ask: Callable[[], Awaitable[T]]) -> T:
    """The answer of a coordinator that is there. Raises KafkaError: its last answer where none comes in time."""
    clock = asyncio.get_running_loop().time
    until = clock() + PATIENCE_SECONDS
    while True:
        try:
            return await ask()
        except KafkaError as error:
            if not isinstance(error, _MOVING) or clock() >= until:
                raise
        await asyncio.sleep(_ASK_EVERY)
