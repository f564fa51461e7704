"""The router: intents and refusals in, decisions and commands out."""

import sys
from contextlib import AsyncExitStack

from libs.common.bridge.redis_gate import RedisGate
from libs.common.clock import utc_now
from libs.common.db.pool import open_pool
from libs.common.db.schema import require_schema, schema_check
from libs.common.errors import Transient
from libs.common.events.outbound import OutboundRefused
from libs.common.events.topics import OUTBOUND_INTENTS, OUTBOUND_REFUSED
from libs.common.kafka.consumer import BatchConsumer
from libs.common.kafka.parked import Traces
from libs.common.kafka.producer import Producer
from libs.common.kafka.subscription import Subscription
from libs.common.periodic import run_periodically
from libs.common.redis import open_redis
from libs.common.service import Service, run_service
from services.router.reconcile import Reconciler
from services.router.refusals import on_refusals
from services.router.settings import RouterSettings
from services.router.worker import Deps, on_intents, read_intent


async def run(settings: RouterSettings, service: Service) -> None:
    """Decide until the service is to end."""
    kafka = settings.kafka_connection("transom-router")
    async with (
        open_pool(
            settings.postgres_dsn.get_secret_value(),
            application_name="transom-router",
            size=settings.postgres_pool_size,
            command_seconds=settings.postgres_timeout_seconds,
            drain=service.drain,
        ) as pool,
        open_redis(settings.redis_url.get_secret_value()) as redis,
        Producer(kafka, drain=service.drain) as producer,
    ):
        await require_schema(pool)
        deps = Deps(
            pool=pool,
            redis_gate=RedisGate(redis, settings.bridge_hold),
            producer=producer,
            now=pool.now,
            window_length=settings.window_length,
            margin=settings.window_margin,
            doubt=settings.window_doubt,
        )
        consumer = BatchConsumer(
            kafka,
            group="router",
            service=service.name,
            producer=producer,
            now=utc_now,
            remember=Traces(pool),
            dlq_run_limit=settings.dlq_run_limit,
            instance_id=settings.instance,
            drain=service.drain,
            subscriptions=[
                Subscription(
                    OUTBOUND_INTENTS,
                    read_intent,
                    lambda batch: on_intents(batch, deps),
                    settings.batch_records,
                    side_by_side=4,
                ),
                Subscription(
                    OUTBOUND_REFUSED,
                    lambda record: OutboundRefused.decode(record.value),
                    lambda batch: on_refusals(batch, deps),
                    settings.batch_records,
                ),
            ],
        )

        async def consuming() -> None:
            if (why := consumer.unready() or await producer.unready()) is not None:
                raise Transient(why)

        reconciler = Reconciler(deps, settings.reconcile_after)
        async with consumer, service.background(consumer.watch()), AsyncExitStack() as beside:
            for name, task in reconciler.tasks.items():
                await beside.enter_async_context(
                    service.background(run_periodically(f"reconcile.{name}", reconciler.period, task))
                )
            await service.serve(checks={"postgres": schema_check(pool), "kafka": consuming})


def main(port: int | None = None) -> int:
    """Run the router until a signal; the exit code."""
    return run_service("router", RouterSettings, run, port=port)


if __name__ == "__main__":
    sys.exit(main())
