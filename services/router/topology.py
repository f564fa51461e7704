"""The topics that the router reads and writes."""

from libs.common.events.intents import Intent
from libs.common.events.outbound import DeliveryUpdate, OutboundDecision, OutboundRefused, SmsCommand, WhatsappCommand
from libs.common.events.topics import (
    DELIVERY_UPDATES,
    OUTBOUND_DECISIONS,
    OUTBOUND_INTENTS,
    OUTBOUND_REFUSED,
    OUTBOUND_SMS,
    OUTBOUND_WHATSAPP,
)
from libs.common.kafka.topology import Publisher, Subscriber, Topology
from services.router.worker import Deps, on_intents, on_refusals, read_intent

TOPOLOGY: Topology[Deps] = Topology(
    "router",
    "Decides for each intent between session message, template, bridge SMS and silence.",
    subscribers=(
        Subscriber(OUTBOUND_INTENTS, Intent, on_intents, lambda record, _deps: read_intent(record), side_by_side=4),
        Subscriber(OUTBOUND_REFUSED, OutboundRefused, on_refusals),
    ),
    publishers=(
        Publisher(OUTBOUND_DECISIONS, (OutboundDecision,)),
        Publisher(OUTBOUND_WHATSAPP, (WhatsappCommand,)),
        Publisher(OUTBOUND_SMS, (SmsCommand,)),
        Publisher(DELIVERY_UPDATES, (DeliveryUpdate,)),
    ),
)
