"""The floor of *through*: records in, one ``unnest`` insert per batch, as many records out."""

from collections.abc import Sequence

from aiokafka import ConsumerRecord

from libs.common.events.topics import INBOUND_MESSAGES, WEBHOOKS
from tests.bench.floors import raw

_INSERT = "insert into floor_rows (key, value) select * from unnest($1::text[], $2::jsonb[])"


async def floor() -> None:
    """Consume, insert, produce."""
    async with raw.database() as db, raw.producing() as producer:

        async def handle(batch: Sequence["ConsumerRecord[bytes, bytes]"]) -> None:
            await db.execute(_INSERT, [r.key.decode() for r in batch], [r.value.decode() for r in batch])
            await raw.publish(producer, INBOUND_MESSAGES, [(r.key, r.value) for r in batch])

        await raw.consume(WEBHOOKS, handle)


if __name__ == "__main__":
    raw.run(floor)
