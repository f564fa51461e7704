"""How far ingest has come, partition by partition, told to the senders.

A provider's silence about a send proves something only while no webhook waits here. So for every partition of ``webhooks.v1`` that is ours the
row in ``progress`` is renewed while nothing older than ``PATIENCE`` waits: the partition is read to its end and nothing of it is in hand (a
record that comes again and again is in hand all the while), or what was handled last is younger than that. A gap in these renewals longer
than ``GAP`` begins a new stretch.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from libs.common.clock import Clock
from libs.common.db.pool import Pool
from libs.common.events.topics import WEBHOOKS
from libs.common.kafka.records import RawRecord
from services.ingest import queries

PATIENCE = timedelta(seconds=2)
GAP = timedelta(seconds=5)
PERIOD = timedelta(seconds=1)


class Reader(Protocol):
    """Of the consumer: the partitions of a topic that are ours, and whether each was read and handled to its end, as the brokers said lately."""

    async def read_to_end(self, topic: str) -> dict[int, bool]: ...


@dataclass(slots=True)
class Progress:
    """What was handled last, by partition."""

    now: Clock
    _handled_ms: dict[int, int] = field(default_factory=dict)

    def done(self, records: Iterable[RawRecord]) -> None:
        """These are handled."""
        for record in records:
            self._handled_ms[record.partition] = record.timestamp_ms

    def caught_up(self, at_end: Mapping[int, bool]) -> Sequence[int]:
        """The partitions, of those that are ours, in which nothing old waits."""
        oldest_ms = round((self.now() - PATIENCE).timestamp() * 1000)
        return sorted(
            partition for partition, ended in at_end.items() if ended or self._handled_ms.get(partition, 0) >= oldest_ms
        )


async def renew(pool: Pool, progress: Progress, reader: Reader) -> None:
    """Tell what is caught up now."""
    partitions = progress.caught_up(await reader.read_to_end(WEBHOOKS.name))
    if partitions:
        async with pool.acquire() as db:
            await queries.caught_up(db, WEBHOOKS.name, partitions, progress.now(), GAP)
