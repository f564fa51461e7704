"""The WhatsApp sender: commands from ``outbound.whatsapp.v1`` to the Graph API."""

import sys
from collections.abc import Sequence
from datetime import timedelta

from libs.common.accounts.cover import Waits
from libs.common.clock import utc_now
from libs.common.db.pool import open_pool
from libs.common.db.schema import require_schema, schema_check
from libs.common.errors import Transient
from libs.common.events.outbound import WhatsappCommand
from libs.common.events.topics import OUTBOUND_WHATSAPP, WEBHOOKS
from libs.common.kafka.consumer import BatchConsumer
from libs.common.kafka.parked import Traces
from libs.common.kafka.producer import Producer
from libs.common.kafka.records import of_values
from libs.common.kafka.subscription import Subscription
from libs.common.sending.line import Line
from libs.common.sending.outcomes import Timings
from libs.common.service import Service, run_service
from services.whatsapp_sender.carrier import WhatsappCarrier
from services.whatsapp_sender.graph import open_graph
from services.whatsapp_sender.settings import WhatsappSenderSettings
from services.whatsapp_sender.worker import Deps, decode_command, on_commands

NAME = "whatsapp-sender"
CONCURRENCY = 320  # calls under way, of one number at most 256; at 100 ms each that is 2,560 of its sends per second


async def run(settings: WhatsappSenderSettings, service: Service) -> None:
    """Serve until the service is to end; leaving drains: no new command, no new claim, calls under way end and are recorded."""
    kafka = settings.kafka_connection(f"transom-{NAME}")
    timings = Timings(
        timeout=timedelta(seconds=settings.send_timeout_seconds), lease=settings.send_lease, grace=settings.send_grace
    )
    async with (
        open_pool(
            settings.postgres_dsn.get_secret_value(),
            application_name=f"transom-{NAME}",
            size=settings.postgres_pool_size,
            command_seconds=settings.postgres_timeout_seconds,
            drain=service.drain,
        ) as pool,
        Producer(kafka, drain=service.drain) as producer,
        open_graph(
            base_url=settings.graph_base_url,
            version=settings.graph_version,
            token=settings.whatsapp_token.get_secret_value(),
            timeout_seconds=settings.send_timeout_seconds,
            connections=CONCURRENCY,
            now=pool.now,
        ) as graph,
    ):
        await require_schema(pool)
        carrier = WhatsappCarrier(
            graph,
            pool,
            window_length=settings.window_length,
            window_doubt=settings.window_doubt,
            waits=Waits(settings.send_grace, settings.send_settling),
            partitions=lambda: producer.partitions(WEBHOOKS),
        )
        async with Line(
            carrier, pool, producer, timings, now=pool.now, concurrency=CONCURRENCY, drain=service.drain
        ) as line:
            deps = Deps(line)

            async def handle(commands: Sequence[WhatsappCommand]) -> None:
                await on_commands(commands, deps)

            consumer = BatchConsumer(
                kafka,
                group=NAME,
                service=NAME,
                producer=producer,
                now=utc_now,
                remember=Traces(pool),
                dlq_run_limit=settings.dlq_run_limit,
                instance_id=settings.instance,
                drain=service.drain,
                subscriptions=[
                    Subscription(OUTBOUND_WHATSAPP, decode_command, of_values(handle), settings.batch_records)
                ],
            )

            async def sending() -> None:
                if reason := line.unready():
                    raise Transient(reason)

            async def kafka_answers() -> None:
                if reason := consumer.unready() or await producer.unready():
                    raise Transient(reason)

            async with service.background(line.watch()), consumer, service.background(consumer.watch()):
                await service.serve(checks={"postgres": schema_check(pool), "kafka": kafka_answers, "sending": sending})


def main(port: int | None = None) -> int:
    """Run the service; returns the exit code."""
    return run_service(NAME, WhatsappSenderSettings, run, port=port)


if __name__ == "__main__":
    sys.exit(main())
