"""The floor of *statuses*: records in, one update per batch, as many records out.

A message is found by the id in its status, and what is published is that status alone.
"""

from collections.abc import Sequence

import orjson
from aiokafka import ConsumerRecord

from libs.common.events.topics import DELIVERY_UPDATES, WEBHOOKS
from tests.bench.floors import raw

_UPDATE = """
update floor_statuses s set status = u.status
  from unnest($1::text[], $2::text[]) u (id, status)
 where s.id = u.id
"""


async def floor() -> None:
    """Consume, update, produce."""
    async with raw.database() as db, raw.producing() as producer:

        async def handle(batch: Sequence["ConsumerRecord[bytes, bytes]"]) -> None:
            items = [orjson.loads(r.value)["item"] for r in batch]
            await db.execute(_UPDATE, [item["id"] for item in items], [item["status"] for item in items])
            outputs = [(r.key, orjson.dumps(item)) for r, item in zip(batch, items, strict=True)]
            await raw.publish(producer, DELIVERY_UPDATES, outputs)

        await raw.consume(WEBHOOKS, handle)


if __name__ == "__main__":
    raw.run(floor)
