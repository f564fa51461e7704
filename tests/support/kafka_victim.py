"""A consumer to be killed: it says what it handled and never returns, so that nothing is committed.

Arguments: bootstrap, prefix.
"""

import asyncio
import sys
from collections.abc import Sequence

from libs.common.clock import utc_now
from libs.common.events.topics import WEBHOOKS
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.consumer import BatchConsumer
from libs.common.kafka.producer import Producer
from libs.common.kafka.records import Received
from libs.common.kafka.topology import Subscription
from tests.support.consumer_bench import GROUP, text


async def main(bootstrap: str, prefix: str) -> None:
    async def handle(batch: Sequence[Received[str]]) -> None:
        sys.stdout.write(f"handled {' '.join(received.value for received in batch)}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()

    connection = KafkaConnection(bootstrap, topic_prefix=prefix)
    async with Producer(connection) as producer:
        consumer = BatchConsumer(
            connection,
            group=GROUP,
            service="victim",
            subscriptions=[Subscription(WEBHOOKS, text, handle)],
            producer=producer,
            now=utc_now,
        )
        async with consumer:
            await asyncio.sleep(60)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
