"""What the SMS bridge reads and writes."""

from libs.common.events.inbound import TwilioSmsWebhook
from libs.common.events.outbound import DeliveryUpdate, OutboundRefused, SmsCommand
from libs.common.events.topics import DELIVERY_UPDATES, OUTBOUND_REFUSED, OUTBOUND_SMS, WEBHOOKS
from libs.common.kafka.topology import Publisher, Subscriber, Topology
from services.sms_bridge.worker import Deps, on_commands

TOPOLOGY: Topology[Deps] = Topology(
    "sms-bridge",
    "Sends bridges and plain SMS through an SMS provider, and publishes what became of them.",
    subscribers=(Subscriber(OUTBOUND_SMS, SmsCommand, on_commands),),
    publishers=(
        Publisher(DELIVERY_UPDATES, (DeliveryUpdate,)),
        Publisher(OUTBOUND_REFUSED, (OutboundRefused,)),
        Publisher(WEBHOOKS, (TwilioSmsWebhook,)),
    ),
)
