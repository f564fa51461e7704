"""The WhatsApp sender: commands from ``outbound.whatsapp.v1`` to the Graph API."""

from libs.common.events.topics import WEBHOOKS
from libs.common.open_files import allow_calls
from libs.common.open_service import open_service
from libs.common.sending.coverage import Waits
from libs.common.sending.engine import open_engine
from libs.common.service import Service, run_service
from services.whatsapp_sender.adapter import WhatsappAdapter
from services.whatsapp_sender.graph import open_graph
from services.whatsapp_sender.settings import WhatsappSenderSettings
from services.whatsapp_sender.topology import TOPOLOGY
from services.whatsapp_sender.worker import Deps


async def run(settings: WhatsappSenderSettings, service: Service) -> None:
    allow_calls(settings.whatsapp_in_flight, "TRANSOM_WHATSAPP_IN_FLIGHT")
    async with (
        open_service(settings, service) as opened,
        open_graph(
            base_url=settings.graph_base_url,
            version=settings.graph_version,
            token=settings.whatsapp_token.get_secret_value(),
            timeout_seconds=settings.send_timeout_seconds,
            connections=settings.whatsapp_in_flight,
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
        async with (
            open_engine(opened, adapter, settings.timings, settings.whatsapp_in_flight) as engine,
            opened.consumer(TOPOLOGY, Deps(engine)) as consumer,
        ):
            await service.serve(checks=opened.checks(consumer, sending=engine.unready))


def main(port: int | None = None) -> int:
    return run_service("whatsapp-sender", WhatsappSenderSettings, run, port=port)
