"""Ingest: the edge that takes webhooks, and the worker that parses and stores them, in one process or in two."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from libs.common import metrics
from libs.common.db.stalls import START_SECONDS
from libs.common.kafka.consumer import BatchConsumer
from libs.common.open_service import OpenService, open_producer, open_service
from libs.common.service import Service, run_service
from services.ingest.coalescing_producer import CoalescingProducer, EdgePriority
from services.ingest.edge import PATIENCE_SECONDS, edge_apps
from services.ingest.edge_coverage import EdgeCoverage
from services.ingest.embedded_worker import EmbeddedWorker, Role
from services.ingest.settings import IngestSettings
from services.ingest.tasks import tasks_of
from services.ingest.topology import TOPOLOGY
from services.ingest.worker_deps import Deps


async def run(settings: IngestSettings, service: Service, role: Role = "all") -> None:
    """Run the edge, the worker or both, as ``role`` says, until the service stops."""
    if role == "worker":
        async with _worker(settings, service, EdgePriority()) as (opened, consumer):
            await service.serve(checks=opened.checks(consumer))
        return
    async with open_producer(settings, service, delivery_timeout=PATIENCE_SECONDS) as producer:
        coalescing, coverage = CoalescingProducer(producer), EdgeCoverage()
        worker = None if role == "edge" else partial(_worker, settings, service, EdgePriority(coalescing), patience=0.0)
        service.on_overload = coverage.refused
        dsn, seconds = settings.postgres_dsn.get_secret_value(), settings.postgres_timeout_seconds
        async with (
            EmbeddedWorker(worker, producer, service) as embedded,
            coverage.stored(dsn, seconds, service, embedded.ready),
        ):
            metrics.SERVING.labels("webhooks").set(1)
            apps = edge_apps(settings.edge, coalescing, coverage)
            await service.serve(checks={"kafka": embedded.ready}, direct=apps)  # PostgreSQL may be away


@asynccontextmanager
async def _worker(
    settings: IngestSettings, service: Service, priority: EdgePriority, patience: float = START_SECONDS
) -> AsyncIterator[tuple[OpenService, BatchConsumer]]:
    async with open_service(settings, service, patience=patience) as opened:
        deps = Deps.of(
            opened,
            settings.window_length,
            settings.window_doubt,
            priority,
            settings.accounts,
            reaction_opens=settings.reaction_opens_window,
            platform_host=settings.portal_host,
        )
        async with opened.consumer(TOPOLOGY, deps) as consumer, opened.periodic(tasks_of(deps, consumer)):
            yield opened, consumer


def main(port: int | None = None, role: Role = "all") -> int:
    """Run until a signal; returns the exit code."""
    return run_service("ingest", IngestSettings, partial(run, role=role), port=port)
