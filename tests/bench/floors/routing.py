"""The floor of *routing*: records in, two simple statements per batch (a router's batch of sessions makes two round
trips), two records out for each.

Conversations are looked up by the record's key alone, and what is stored and published is the intent as it came.
"""

from collections.abc import Sequence
from uuid import UUID

from aiokafka import ConsumerRecord

from libs.common.events.topics import OUTBOUND_DECISIONS, OUTBOUND_INTENTS, OUTBOUND_WHATSAPP
from tests.bench.floors import raw

_SELECT = "select conversation_id, org_id, last_customer_at from conversations where conversation_id = any($1::uuid[])"
_INSERT = "insert into floor_rows (key, value) select * from unnest($1::text[], $2::jsonb[])"


async def floor() -> None:
    """Consume, read, insert, produce."""
    async with raw.database() as db, raw.producing() as producer:

        async def handle(batch: Sequence["ConsumerRecord[bytes, bytes]"]) -> None:
            keys = [r.key.decode() for r in batch]
            await db.fetch(_SELECT, list({UUID(key) for key in keys}))
            await db.execute(_INSERT, keys, [r.value.decode() for r in batch])
            outputs = [(r.key, r.value) for r in batch]
            await raw.publish(producer, OUTBOUND_DECISIONS, outputs)
            await raw.publish(producer, OUTBOUND_WHATSAPP, outputs)

        await raw.consume(OUTBOUND_INTENTS, handle)


if __name__ == "__main__":
    raw.run(floor)
