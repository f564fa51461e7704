"""How far ingest has come, partition by partition, told to the senders.

A provider's silence about a send proves something only while no webhook waits here. So for every partition of ``webhooks.v1`` that is ours the
row in ``progress`` is renewed while nothing older than ``PATIENCE`` waits: all that was there so long ago is done, handled or dead-lettered (a
record that comes again and again is in hand all the while). A gap in these renewals longer than ``GAP`` begins a new stretch.

No clocks of two hosts are compared: how long ago is a time of this process, and what is stored is the database's.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
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

    async def behind(self, topic: str) -> dict[int, float]:
        """The partitions that are ours, and how many seconds ago the brokers named the latest end of each up to which all is done."""


def caught_up(behind: Mapping[int, float]) -> Sequence[int]:
    """The partitions, of those that are ours, in which nothing old waits."""
    return sorted(partition for partition, age in behind.items() if age <= PATIENCE.total_seconds())


async def renew(pool: Pool, reader: Reader, clock: Clock) -> None:
    """Tell what is caught up now."""
    if partitions := caught_up(await reader.behind(WEBHOOKS.name)):
        async with pool.acquire() as db:
            await queries.caught_up(db, WEBHOOKS.name, partitions, clock(), GAP)
