"""``transom topics --partitions N`` for existing topics: add partitions while no record is unread and none is written.

The rules are in ``libs.common.kafka.partition_growth``. The procedure:

1. Wait until every group has read everything and every service is stopped; say what is missing.
2. Add partitions topic by topic. Nothing was changed before. An interrupted run can be repeated.
3. Say what to start again.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping

from libs.common.errors import ConfigurationError
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.partition_growth import PartitionAdmin, TopicsState

LOOK_EVERY = 1.0
QUIET_SECONDS = 2.0
"""Nothing may be written for this time before partitions are added."""
_STOPPING_ORDER = ("whatsapp-sender", "sms-bridge", "router", "ingest", "inbox")
"""Each service is stopped before those that read what it publishes, so that nothing stays unread."""

Say = Callable[[str], None]


async def add_partitions(
    connection: KafkaConnection, partitions: int, *, wait: float, ignored: Collection[str] = (), say: Say
) -> None:
    """Give every declared topic at least this many partitions.

    Raises ConfigurationError, with nothing changed, when no safe moment comes within ``wait`` seconds.
    """
    async with PartitionAdmin.at(connection) as brokers:
        topics = await brokers.fewer_than(partitions)
        if not topics:
            return
        for name, count in topics.items():
            say(f"grows   {name}: {count} partitions become {partitions}")
        state = await _still(brokers, topics, wait=wait, ignored=ignored, say=say)
        for name in topics:
            await brokers.add(name, partitions)
            say(f"grown   {name}: {partitions} partitions")
        for name, records in (await brokers.written_since(state)).items():
            say(
                f"beware  {name}: {records} records came while it grew; the order of their conversations is not certain"
            )
        say("go on   start the services, then the producers outside")


async def _still(
    brokers: PartitionAdmin, topics: Mapping[str, int], *, wait: float, ignored: Collection[str], say: Say
) -> TopicsState:
    """Wait until everything is read, every service is stopped, and nothing was written for ``QUIET_SECONDS``."""
    clock = asyncio.get_running_loop().time
    begun = since = clock()
    said, before = "", None
    while True:
        state = await brokers.state(topics, ignored=ignored)
        now = clock()
        moved: list[str] = (
            [] if before is None else sorted({p.topic for p, end in state.ends.items() if end != before.ends[p]})
        )
        since = now if moved or before is None else since
        before = state
        hindrance = _hindrance(state)
        if hindrance is None and now - since >= QUIET_SECONDS:
            return state
        patience = wait if hindrance else max(wait, QUIET_SECONDS + 2 * LOOK_EVERY)
        hindrance = hindrance or (
            f"records are written to {', '.join(moved)}" if moved else "looks whether records are written"
        )
        if now - begun >= patience:
            raise ConfigurationError(f"no partitions were added: {hindrance}")
        if hindrance != said:
            say(f"waits   {hindrance}")
            said = hindrance
        await asyncio.sleep(LOOK_EVERY)


def _hindrance(state: TopicsState) -> str | None:
    """What the operator must do first; None when partitions may be added."""
    if state.unread:
        return "; ".join(
            f"{one.records} records of {one.topic} are unread by {one.group}"
            + ("" if one.service is None or one.service in state.running else f": start {one.service}")
            for one in state.unread
        )
    if state.running:
        running = [service for service in _STOPPING_ORDER if service in state.running]
        return f"everything is read; stop {', '.join(running)}{', in this order' if running[1:] else ''}"
    return None
