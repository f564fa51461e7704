"""``transom topics --partitions N`` for topics that exist: more partitions, in a moment in which nothing waits and nobody writes.

The command waits for that moment, says what it waits for, adds, and says how to go on; ``growing`` has the rules. Until it adds, it has changed
nothing; while it adds, each topic is a step of its own, and a run that was interrupted is simply run again.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping

from libs.common.errors import ConfigurationError
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.partition_growth import Brokers, Look

LOOK_EVERY = 1.0
QUIET_SECONDS = 2.0
"""So long nothing may have been written before partitions are added."""
_STOPPING_ORDER = ("whatsapp-sender", "sms-bridge", "router", "ingest")
"""Who hears from whom: a service that is stopped before the one that reads its last words leaves nothing unread."""

Say = Callable[[str], None]


async def add_partitions(
    connection: KafkaConnection, partitions: int, *, wait: float, ignored: Collection[str] = (), say: Say
) -> None:
    """Give every declared topic that has fewer so many. Raises ConfigurationError, with nothing changed, when ``wait`` seconds bring no such moment."""
    async with Brokers.at(connection) as brokers:
        topics = await brokers.fewer_than(partitions)
        if not topics:
            return
        for name, count in topics.items():
            say(f"grows   {name}: {count} partitions become {partitions}")
        look = await _still(brokers, topics, wait=wait, ignored=ignored, say=say)
        for name in topics:
            await brokers.add(name, partitions)
            say(f"grown   {name}: {partitions} partitions")
        for name, records in (await brokers.written_since(look)).items():
            say(
                f"beware  {name}: {records} records came while it grew; the order of their conversations is not certain"
            )
        say("go on   start the services, then whoever writes from outside")


async def _still(
    brokers: Brokers, topics: Mapping[str, int], *, wait: float, ignored: Collection[str], say: Say
) -> Look:
    """Wait until the topics have stood still for a moment, everything read and every service stopped."""
    clock = asyncio.get_running_loop().time
    begun = since = clock()
    told, before = "", None
    while True:
        look = await brokers.look(topics, ignored=ignored)
        now = clock()
        moved: list[str] = (
            [] if before is None else sorted({p.topic for p, end in look.ends.items() if end != before.ends[p]})
        )
        since = now if moved or before is None else since
        before = look
        hindrance = _hindrance(look)
        if hindrance is None and now - since >= QUIET_SECONDS:
            return look
        patience = wait if hindrance else max(wait, QUIET_SECONDS + 2 * LOOK_EVERY)
        hindrance = hindrance or (f"somebody writes {', '.join(moved)}" if moved else "looks whether anybody writes")
        if now - begun >= patience:
            raise ConfigurationError(f"no partitions were added: {hindrance}")
        if hindrance != told:
            say(f"waits   {hindrance}")
            told = hindrance
        await asyncio.sleep(LOOK_EVERY)


def _hindrance(look: Look) -> str | None:
    """What must happen first, for a person; None when partitions may be added."""
    if look.unread:
        return "; ".join(
            f"{one.records} records of {one.topic} are unread by {one.group}"
            + ("" if one.service is None or one.service in look.running else f": start {one.service}")
            for one in look.unread
        )
    if look.running:
        running = [service for service in _STOPPING_ORDER if service in look.running]
        return f"everything is read; stop {', '.join(running)}, in this order"
    return None
