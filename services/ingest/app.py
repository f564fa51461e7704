"""Ingest: the edge that takes webhooks, and the worker that understands and records them, in one process."""

import sys
from collections.abc import Sequence
from datetime import timedelta

from libs.common.background import repeatedly
from libs.common.clock import utc_now
from libs.common.db.migrate import require_schema
from libs.common.db.pool import open_pool
from libs.common.errors import Transient
from libs.common.events.directory import DirectoryChange, decode_directory_change
from libs.common.events.topics import DIRECTORY_CHANGES, WEBHOOKS
from libs.common.kafka.consumer import BatchConsumer
from libs.common.kafka.lane import Subscription
from libs.common.kafka.producer import Producer
from libs.common.kafka.records import Received, Rejected
from libs.common.service import Service, run_service
from libs.common.settings import secrets_in
from services.ingest import consent, edge, forget, progress, worker
from services.ingest.numbers import Gate
from services.ingest.settings import IngestSettings
from services.ingest.together import Together
from services.ingest.understand import understand
from services.ingest.understood import Understood

NAME = "ingest"
TELL_EVERY = timedelta(seconds=5)
EDGE_PATIENCE_SECONDS = 3.0  # how long a provider may wait for Kafka before it gets 503


async def run(settings: IngestSettings, service: Service) -> None:
    """Take, store and tell until the service ends."""
    kafka = settings.kafka_connection("transom-ingest")
    async with (
        open_pool(
            settings.postgres_dsn.get_secret_value(),
            application_name="transom-ingest",
            size=settings.postgres_pool_size,
            command_seconds=settings.postgres_timeout_seconds,
        ) as pool,
        Producer(kafka, delivery_timeout=EDGE_PATIENCE_SECONDS) as for_edge,
        Producer(kafka) as for_worker,
    ):
        await require_schema(pool)
        numbers = Gate(pool)
        deps = worker.Deps(pool, for_worker, settings.window_length, settings.window_doubt, utc_now, numbers)
        gate = Together(for_edge)

        async def on_webhooks(batch: Sequence[Received[Understood]]) -> Sequence[Rejected]:
            return await worker.on_webhooks(batch, deps)

        async def on_changes(batch: Sequence[Received[DirectoryChange]]) -> Sequence[Rejected]:
            return await worker.on_changes(batch, deps)

        consumer = BatchConsumer(
            kafka,
            group=NAME,
            service=NAME,
            producer=for_worker,
            now=utc_now,
            dlq_run_limit=settings.dlq_run_limit,
            drain_timeout=settings.drain_seconds,
            subscriptions=[
                Subscription(
                    WEBHOOKS,
                    lambda record: understand(record.value, reaction_opens=settings.reaction_opens_window),
                    on_webhooks,
                    settings.batch_records,
                    side_by_side=2,
                ),
                Subscription(
                    DIRECTORY_CHANGES,
                    lambda record: decode_directory_change(record.value),
                    on_changes,
                    settings.batch_records,
                ),
            ],
        )

        async def kafka_answers() -> None:
            if reason := consumer.unready() or await for_edge.unready():
                raise Transient(reason)

        async with (
            consumer,
            service.background(
                repeatedly("progress", progress.PERIOD, lambda: progress.renew(pool, consumer, utc_now))
            ),
            service.background(repeatedly("strangers", TELL_EVERY, numbers.tell)),
            service.background(repeatedly("consents", consent.TELL_EVERY, lambda: consent.tell(pool, for_worker))),
            service.background(repeatedly("forget", forget.PERIOD, lambda: forget.forget(pool, utc_now))),
        ):
            await service.serve(
                checks={"kafka": kafka_answers},  # without PostgreSQL webhooks are taken all the same
                direct=edge.at_paths(
                    edge.MetaEdge(
                        secrets=secrets_in(settings.meta_app_secrets),
                        verify_token=settings.meta_verify_token.get_secret_value().encode(),
                        producer=gate,
                        now=utc_now,
                    ),
                    edge.TwilioEdge(
                        tokens=secrets_in(settings.twilio_auth_tokens),
                        public_url=settings.public_url,
                        producer=gate,
                        now=utc_now,
                    ),
                ),
            )


def main(port: int | None = None) -> int:
    """Run until a signal; returns the exit code."""
    return run_service(NAME, IngestSettings, run, port=port)


if __name__ == "__main__":
    sys.exit(main())
