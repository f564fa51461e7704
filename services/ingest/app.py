"""Ingest: the edge that takes webhooks, and the worker that understands and records them, in one process or in two."""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Literal

from libs.common.clock import utc_now
from libs.common.db.errors import transient_db
from libs.common.db.pool import Pool, open_pool
from libs.common.db.schema import require_schema
from libs.common.drain import BESIDE
from libs.common.errors import ConfigurationError, Transient
from libs.common.events.directory import DirectoryChange, decode_directory_change
from libs.common.events.topics import DIRECTORY_CHANGES, WEBHOOKS
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.consumer import BatchConsumer
from libs.common.kafka.producer import Producer
from libs.common.kafka.records import Received, Reject
from libs.common.kafka.subscription import Subscription
from libs.common.logging import get_logger
from libs.common.periodic import run_periodically
from libs.common.service import Service, run_service
from libs.common.settings import secrets_in
from services.ingest import consent, edge, forget, merges, progress, worker
from services.ingest.cover import Served
from services.ingest.numbers import Gate
from services.ingest.precedence import Precedence
from services.ingest.settings import IngestSettings
from services.ingest.together import Together
from services.ingest.understand import understand
from services.ingest.understood import Understood

log = get_logger()

NAME = "ingest"
CONNECT_AGAIN_SECONDS, TELL_TRIES = 2.0, 30
TELL_EVERY = timedelta(seconds=5)
EDGE_PATIENCE_SECONDS = 3.0  # how long a provider may wait for Kafka before it gets 503


Role = Literal["edge", "worker", "all"]
"""The edge needs Kafka alone, and tells PostgreSQL what it refused when that is there. Together with the worker it serves while PostgreSQL is away, also at the start."""


async def run(settings: IngestSettings, service: Service, role: Role = "all") -> None:
    """Take, store and tell until the service ends; of it what ``role`` says."""
    kafka = settings.kafka_connection("transom-ingest")
    if role == "worker":
        async with (
            _postgres(settings, service) as pool,
            _worker(settings, service, kafka, pool, Precedence()) as consumer,
        ):
            await service.serve(checks={"kafka": lambda: _ready(consumer.unready())})
        return
    async with (
        Producer(kafka, delivery_timeout=EDGE_PATIENCE_SECONDS, drain=service.drain) as for_edge,
        AsyncExitStack() as beside,
    ):
        gate = Together(for_edge)
        work = _Work(Precedence(gate))
        if role == "all":
            await beside.enter_async_context(_beside(work, settings, service, kafka))

        async def kafka_answers() -> None:
            await _ready(work.unready(role) or await for_edge.unready())

        served = Served()
        service.turned_away = served.refused
        dsn, seconds = settings.postgres_dsn.get_secret_value(), settings.postgres_timeout_seconds
        async with served.told(dsn, seconds, service, kafka_answers):
            await service.serve(
                checks={"kafka": kafka_answers},  # without PostgreSQL webhooks are taken all the same
                direct=edge.at_paths(
                    edge.MetaEdge(
                        secrets=secrets_in(settings.meta_app_secrets),
                        verify_token=settings.meta_verify_token.get_secret_value().encode(),
                        producer=gate,
                        now=utc_now,
                        served=served,
                    ),
                    edge.TwilioEdge(
                        tokens=secrets_in(settings.twilio_auth_tokens),
                        public_url=settings.public_url,
                        producer=gate,
                        now=utc_now,
                    ),
                ),
            )


@dataclass(slots=True)
class _Work:
    """How far the worker beside the edge has come."""

    precedence: Precedence
    consumer: BatchConsumer | None = None
    away: bool = False
    ends: asyncio.Event = field(default_factory=asyncio.Event)

    def unready(self, role: Role) -> str | None:
        if self.consumer is not None:
            return self.consumer.unready(but_away=True)  # webhooks are taken without PostgreSQL
        return None if role == "edge" or self.away else "the worker starts"


@asynccontextmanager
async def _beside(
    work: _Work, settings: IngestSettings, service: Service, kafka: KafkaConnection
) -> AsyncIterator[None]:
    """The worker runs inside the block, as soon as PostgreSQL is there; it drains after the block, when HTTP has ended."""
    task = asyncio.create_task(_work(work, settings, service, kafka))

    def ended(done: asyncio.Task[None]) -> None:
        if not done.cancelled() and (error := done.exception()) is not None:
            service.stop(error)

    task.add_done_callback(ended)
    try:
        yield
    finally:
        work.ends.set()
        if work.consumer is None:
            task.cancel()  # still connecting
        await asyncio.wait({task}, timeout=service.drain.left(BESIDE))


async def _work(work: _Work, settings: IngestSettings, service: Service, kafka: KafkaConnection) -> None:
    async with AsyncExitStack() as opened:
        tries = 0
        while True:
            try:
                pool = await opened.enter_async_context(_postgres(settings, service))
            except Exception as error:
                if not is_away(error):
                    raise
                if tries % TELL_TRIES == 0:
                    log.warning("dependency.away", dependency="postgres")
                tries, work.away = tries + 1, True
                await asyncio.sleep(CONNECT_AGAIN_SECONDS)
            else:
                break
        work.consumer = await opened.enter_async_context(_worker(settings, service, kafka, pool, work.precedence))
        if work.away:
            log.info("dependency.back", dependency="postgres")
        await work.ends.wait()


def is_away(error: BaseException) -> bool:
    """Whether PostgreSQL could not be opened because it is away or slow, which time mends. A schema that is too old is another matter."""
    cause = error.__cause__ if isinstance(error, ConfigurationError) else error
    if isinstance(cause, Transient):
        cause = cause.__cause__
    return cause is not None and transient_db(cause)


async def _ready(reason: str | None) -> None:
    if reason:
        raise Transient(reason)


@asynccontextmanager
async def _postgres(settings: IngestSettings, service: Service) -> AsyncIterator[Pool]:
    """The database with the schema. Raises ConfigurationError."""
    async with open_pool(
        settings.postgres_dsn.get_secret_value(),
        application_name="transom-ingest",
        size=settings.postgres_pool_size,
        command_seconds=settings.postgres_timeout_seconds,
        drain=service.drain,
    ) as pool:
        await require_schema(pool)
        yield pool


@asynccontextmanager
async def _worker(
    settings: IngestSettings, service: Service, kafka: KafkaConnection, pool: Pool, precedence: Precedence
) -> AsyncIterator[BatchConsumer]:
    """Understand, store and tell inside the block."""
    async with Producer(kafka, drain=service.drain) as for_worker:
        numbers = Gate(pool)
        deps = worker.Deps(pool, for_worker, settings.window_length, settings.window_doubt, pool.now, numbers)

        async def on_webhooks(batch: Sequence[Received[Understood]]) -> Sequence[Reject]:
            await precedence.give_way(len(batch))
            return await worker.on_webhooks(batch, deps)

        async def on_changes(batch: Sequence[Received[DirectoryChange]]) -> Sequence[Reject]:
            return await worker.on_changes(batch, deps)

        consumer = BatchConsumer(
            kafka,
            group=NAME,
            service=NAME,
            producer=for_worker,
            now=utc_now,
            dlq_run_limit=settings.dlq_run_limit,
            instance_id=settings.instance,
            drain=service.drain,
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

        async with (
            consumer,
            service.background(consumer.watch()),
            service.background(
                run_periodically("progress", progress.PERIOD, lambda: progress.renew(pool, consumer, pool.now))
            ),
            service.background(run_periodically("strangers", TELL_EVERY, numbers.tell)),
            service.background(
                run_periodically("consents", consent.TELL_EVERY, lambda: consent.tell(pool, for_worker))
            ),
            service.background(run_periodically("merges", merges.PERIOD, merges.Mover(pool).move)),
            service.background(run_periodically("forget", forget.PERIOD, lambda: forget.forget(pool, pool.now))),
        ):
            yield consumer


def main(port: int | None = None, role: Role = "all") -> int:
    """Run until a signal; returns the exit code."""
    return run_service(NAME, IngestSettings, partial(run, role=role), port=port)


if __name__ == "__main__":
    sys.exit(main())
