"""The connections that every service opens first.

These are PostgreSQL with the schema of this build, a producer, and the consumer of its topology.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from libs.common.clock import utc_now
from libs.common.db.pool import Pool, open_pool
from libs.common.db.schema import require_schema, schema_check
from libs.common.db.stalls import START_SECONDS, outlast_stalls
from libs.common.errors import Transient
from libs.common.kafka.consumer import BatchConsumer
from libs.common.kafka.parked import Traces
from libs.common.kafka.producer import Producer
from libs.common.kafka.topology import Topology
from libs.common.periodic import Task, run_periodically
from libs.common.service import Service
from libs.common.settings import ConsumerSettings, WorkerSettings
from libs.common.web import Check

DepsT = TypeVar("DepsT")


@dataclass(frozen=True, slots=True)
class OpenService:
    """A service and its connections, open inside ``open_service``."""

    service: Service
    settings: WorkerSettings
    pool: Pool
    producer: Producer

    @asynccontextmanager
    async def consumer(self, topology: Topology[DepsT], deps: DepsT) -> AsyncIterator[BatchConsumer]:
        """The subscribers of the topology run inside the block, and drain as it ends."""
        consumer = BatchConsumer(
            self.settings.kafka_connection(f"transom-{self.service.name}"),
            group=topology.service,
            service=topology.service,
            producer=self.producer,
            now=utc_now,
            remember=Traces(self.pool),
            dlq_run_limit=self.settings.dlq_run_limit,
            instance_id=self.settings.instance,
            drain=self.service.drain,
            subscriptions=topology.subscriptions(deps, self.settings.batch_records),
            publishers=topology.publishers,
        )
        async with consumer, self.service.background(consumer.watch()):
            yield consumer

    @asynccontextmanager
    async def consumer_once_there(self, topology: Topology[DepsT], deps: DepsT) -> AsyncIterator[None]:
        """As ``consumer``. Where Kafka was away at the start, the subscribers begin when it answers."""
        async with AsyncExitStack() as opened:

            async def begin() -> None:
                await self.producer.until_there()
                await opened.enter_async_context(self.consumer(topology, deps))

            if self.producer.is_away:
                await opened.enter_async_context(self.service.background(begin()))
            else:
                await begin()
            yield

    @asynccontextmanager
    async def periodic(self, tasks: Mapping[str, Task]) -> AsyncIterator[None]:
        """The tasks run inside the block, independently of each other. Their names are for the log."""
        async with AsyncExitStack() as running:
            for name, (period, task) in tasks.items():
                await running.enter_async_context(self.service.background(run_periodically(name, period, task)))
            yield

    def checks(self, consumer: BatchConsumer | None = None, **others: Callable[[], str | None]) -> Mapping[str, Check]:
        """The checks of readiness. ``others`` return why they are not ready, or None."""

        async def kafka() -> None:
            consuming = None if consumer is None else consumer.unready()
            if (reason := consuming or await self.producer.unready()) is not None:
                raise Transient(reason)

        return {"postgres": schema_check(self.pool), "kafka": kafka} | {
            name: ready(unready) for name, unready in others.items()
        }


def ready(unready: Callable[[], str | None]) -> Check:
    """A check from a function that returns why it is not ready, or None."""

    async def check() -> None:
        if (reason := unready()) is not None:
            raise Transient(reason)

    return check


def open_producer(
    settings: ConsumerSettings, service: Service, delivery_timeout: float, *, may_be_away: bool = False
) -> Producer:
    """The producer of this service, not opened yet. The brokers see the service's name as its client id."""
    return Producer(
        settings.kafka_connection(f"transom-{service.name}"),
        delivery_timeout=delivery_timeout,
        drain=service.drain,
        may_be_away=may_be_away,
    )


@asynccontextmanager
async def open_service(
    settings: WorkerSettings,
    service: Service,
    *,
    role: str | None = None,
    delivery_timeout: float = 10.0,
    kafka_may_be_away: bool = False,
    patience: float = START_SECONDS,
) -> AsyncIterator[OpenService]:
    """The connections are open inside the block. ``role``: see ``open_pool``; ``delivery_timeout``: see ``Producer``.

    ``kafka_may_be_away``: the block is entered also where no broker answers (``consumer_once_there``).
    ``patience``: for so many seconds a PostgreSQL that stalls is tried again.

    Raises ConfigurationError: one line that says which server is missing, and how to mend it.
    """
    async with AsyncExitStack() as opened:

        async def reach() -> Pool:
            async with AsyncExitStack() as tried:
                pool = await tried.enter_async_context(
                    open_pool(
                        settings.postgres_dsn.get_secret_value(),
                        application_name=f"transom-{service.name}",
                        size=settings.postgres_pool_size,
                        command_seconds=settings.postgres_timeout_seconds,
                        drain=service.drain,
                        role=role,
                    )
                )
                await require_schema(pool)
                opened.push_async_exit(tried.pop_all())
            return pool

        pool = await outlast_stalls(reach, patience)
        producer = await opened.enter_async_context(
            open_producer(settings, service, delivery_timeout, may_be_away=kafka_may_be_away)
        )
        yield OpenService(service, settings, pool, producer)
