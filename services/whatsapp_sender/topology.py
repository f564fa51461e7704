"""What the WhatsApp sender reads and writes."""

from libs.common.events.outbound import DeliveryUpdate, OutboundRefused, WhatsappCommand
from libs.common.events.topics import DELIVERY_UPDATES, OUTBOUND_REFUSED, OUTBOUND_WHATSAPP
from libs.common.kafka.topology import Publisher, Subscriber, Topology
from services.whatsapp_sender.worker import Deps, decode_command, on_commands

TOPOLOGY: Topology[Deps] = Topology(
    "whatsapp-sender",
    "Sends commands through the Graph API, and publishes what became of them.",
    subscribers=(
        Subscriber(OUTBOUND_WHATSAPP, WhatsappCommand, on_commands, lambda record, _deps: decode_command(record)),
    ),
    publishers=(
        Publisher(DELIVERY_UPDATES, (DeliveryUpdate,)),
        Publisher(OUTBOUND_REFUSED, (OutboundRefused,)),
    ),
)
