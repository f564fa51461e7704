"""How far ingest has read each partition of ``webhooks.v1``, stored for the senders.

A provider's silence about a send proves something only while no webhook waits here. So the row in ``progress`` of every
assigned partition is renewed while nothing older than ``PATIENCE`` waits in it: all that was there so long ago is
handled or dead-lettered. A record that is retried waits all the while. A gap between renewals longer than ``GAP``
begins a new stretch.

The clocks of two hosts are never compared. How long ago is measured by this process, and what is stored is the
database's time.
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


class Watermarks(Protocol):
    """What a consumer knows of a topic."""

    async def behind(self, topic: str) -> dict[int, float]:
        """Per assigned partition, how many seconds ago the brokers named the end up to which everything is processed."""


def caught_up(behind: Mapping[int, float]) -> Sequence[int]:
    """The assigned partitions in which nothing old waits."""
    return sorted(partition for partition, age in behind.items() if age <= PATIENCE.total_seconds())


async def renew(pool: Pool, watermarks: Watermarks, clock: Clock) -> None:
    """Store which partitions are caught up now."""
    if partitions := caught_up(await watermarks.behind(WEBHOOKS.name)):
        async with pool.acquire() as db:
            await queries.caught_up(db, WEBHOOKS.name, partitions, clock(), GAP)
