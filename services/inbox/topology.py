"""The topics that the inbox reads and writes."""

from libs.common.events.directory import (
    ConversationHeld,
    ConversationReleased,
    DirectoryChange,
    decode_directory_change,
)
from libs.common.events.inbound import InboundMessage
from libs.common.events.intents import Intent
from libs.common.events.notices import NOTICES
from libs.common.events.outbound import DeliveryUpdate, OutboundDecision
from libs.common.events.topics import (
    DELIVERY_UPDATES,
    DIRECTORY_CHANGES,
    INBOUND_MESSAGES,
    INBOX_NOTICES,
    OUTBOUND_DECISIONS,
    OUTBOUND_INTENTS,
)
from libs.common.kafka.topology import Publisher, Subscriber, Topology
from services.inbox.worker import WorkerDeps, on_changes, on_decisions, on_inbound, on_updates

TOPOLOGY: Topology[WorkerDeps] = Topology(
    "inbox",
    "Shows staff the conversations of their organisation, and publishes what they send.",
    subscribers=(
        Subscriber(INBOUND_MESSAGES, InboundMessage, on_inbound, side_by_side=2),
        Subscriber(OUTBOUND_DECISIONS, OutboundDecision, on_decisions, side_by_side=2, hurried=False),
        Subscriber(DELIVERY_UPDATES, DeliveryUpdate, on_updates, side_by_side=2),
        Subscriber(
            DIRECTORY_CHANGES,
            DirectoryChange,
            on_changes,
            lambda record, _deps: decode_directory_change(record.value),
            hurried=False,
        ),
    ),
    publishers=(
        Publisher(OUTBOUND_INTENTS, (Intent,)),
        Publisher(DIRECTORY_CHANGES, (ConversationHeld, ConversationReleased)),
        Publisher(INBOX_NOTICES, NOTICES),
    ),
    follows=(INBOUND_MESSAGES, DELIVERY_UPDATES, OUTBOUND_DECISIONS, DIRECTORY_CHANGES, INBOX_NOTICES),
)
