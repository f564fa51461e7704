"""The WhatsApp sender: commands from ``outbound.whatsapp.v1`` to the Graph API."""

import sys
from datetime import timedelta

from libs.common.events.topics import WEBHOOKS
from libs.common.open_service import open_service
from libs.common.sending.coverage import Waits
from libs.common.sending.engine import open_engine
from libs.common.sending.outcomes import Timings
from libs.common.service import Service, run_service
from services.whatsapp_sender.adapter import WhatsappAdapter
from services.whatsapp_sender.graph import open_graph
from services.whatsapp_sender.settings import WhatsappSenderSettings
from services.whatsapp_sender.topology import TOPOLOGY
from services.whatsapp_sender.worker import Deps

CONCURRENCY = 320  # calls under way, of one number at most 256; at 100 ms each that is 2,560 of its sends per second


async def run(settings: WhatsappSenderSettings, service: Service) -> None:
    """Send until the service is to end."""
    timeout = timedelta(seconds=settings.send_timeout_seconds)
    async with (
        open_service(settings, service) as opened,
        open_graph(
            base_url=settings.graph_base_url,
            version=settings.graph_version,
            token=settings.whatsapp_token.get_secret_value(),
            timeout_seconds=settings.send_timeout_seconds,
            connections=CONCURRENCY,
            now=opened.pool.now,
        ) as graph,
    ):
        adapter = WhatsappAdapter(
            graph,
            opened.pool,
            window_length=settings.window_length,
            window_doubt=settings.window_doubt,
            waits=Waits(settings.send_grace, settings.send_settling),
            partitions=lambda: opened.producer.partitions(WEBHOOKS),
        )
        timings = Timings(timeout=timeout, lease=settings.send_lease, grace=settings.send_grace)
        async with (
            open_engine(opened, adapter, timings, CONCURRENCY) as engine,
            opened.consumer(TOPOLOGY, Deps(engine)) as consumer,
        ):
            await service.serve(checks=opened.checks(consumer, sending=engine.unready))


def main(port: int | None = None) -> int:
    """Run until a signal; returns the exit code."""
    return run_service("whatsapp-sender", WhatsappSenderSettings, run, port=port)


if __name__ == "__main__":
    sys.exit(main())
