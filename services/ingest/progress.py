"""How far ingest has come, partition by partition, told to the senders.

A provider's silence about a send proves something only while no webhook waits here. So for every partition of ``webhooks.v1`` that is ours the
row in ``progress`` is renewed while nothing older than ``PATIENCE`` waits: the partition is read to its end and nothing of it is in hand (a
record that comes again and again is in hand all the while), or what was done last, handled or dead-lettered, is younger than that. A gap in these renewals longer
than ``GAP`` begins a new stretch.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from libs.common.clock import Clock
from libs.common.db.pool import Pool
from libs.common.events.topics import WEBHOOKS
from services.ingest import queries

PATIENCE = timedelta(seconds=2)
GAP = timedelta(seconds=5)
PERIOD = timedelta(seconds=1)


class Reader(Protocol):
    """What a consumer knows of a topic."""

    async def read_to_end(self, topic: str) -> dict[int, bool]:
        """The partitions that are ours, and whether each was read and handled to its end, as the brokers said lately."""

    def done_ms(self, topic: str) -> dict[int, int]:
        """By partition, when the last record that is done was produced."""


def caught_up(at_end: Mapping[int, bool], done_ms: Mapping[int, int], now: datetime) -> Sequence[int]:
    """The partitions, of those that are ours, in which nothing old waits."""
    oldest_ms = round((now - PATIENCE).timestamp() * 1000)
    return sorted(partition for partition, ended in at_end.items() if ended or done_ms.get(partition, 0) >= oldest_ms)


async def renew(pool: Pool, reader: Reader, clock: Clock) -> None:
    """Tell what is caught up now."""
    at_end = await reader.read_to_end(WEBHOOKS.name)
    now = clock()
    if partitions := caught_up(at_end, reader.done_ms(WEBHOOKS.name), now):
        async with pool.acquire() as db:
            await queries.caught_up(db, WEBHOOKS.name, partitions, now, GAP)
