"""The topics that ingest reads and writes.

The edge writes ``webhooks.v1``. The worker reads it, ``portal.messages.v1`` and the directory's changes, and writes the
rest.
"""

from libs.common.events.directory import (
    ConsentChanged,
    ConversationHeld,
    DirectoryChange,
    decode_directory_change,
)
from libs.common.events.inbound import (
    InboundMessage,
    MetaWebhook,
    TwilioSmsWebhook,
    TwilioStatusWebhook,
    VonageSmsWebhook,
    VonageStatusWebhook,
)
from libs.common.events.intents import Intent
from libs.common.events.outbound import DeliveryUpdate, OutboundRefused
from libs.common.events.portal import PortalLinkWanted, PortalMessage, PortalRead, PortalSignedIn, decode_portal_event
from libs.common.events.topics import (
    DELIVERY_UPDATES,
    DIRECTORY_CHANGES,
    INBOUND_MESSAGES,
    OUTBOUND_INTENTS,
    OUTBOUND_REFUSED,
    PORTAL_MESSAGES,
    WEBHOOKS,
)
from libs.common.kafka.topology import Publisher, Subscriber, Topology
from services.ingest.portal import on_portal
from services.ingest.worker import on_changes, on_webhooks, read_webhook
from services.ingest.worker_deps import Deps

TOPOLOGY: Topology[Deps] = Topology(
    "ingest",
    "Takes webhooks of the providers, stores what customers said and did, and publishes it.",
    subscribers=(
        Subscriber(
            WEBHOOKS,
            MetaWebhook | TwilioStatusWebhook | TwilioSmsWebhook | VonageStatusWebhook | VonageSmsWebhook,
            on_webhooks,
            read_webhook,
            side_by_side=4,
        ),
        Subscriber(
            DIRECTORY_CHANGES,
            DirectoryChange,
            on_changes,
            lambda record, _deps: decode_directory_change(record.value),
            hurried=False,
        ),
        Subscriber(
            PORTAL_MESSAGES,
            PortalMessage | PortalRead | PortalSignedIn | PortalLinkWanted,
            on_portal,
            lambda record, _deps: decode_portal_event(record.value),
            hurried=False,
        ),
    ),
    publishers=(
        Publisher(
            WEBHOOKS, (MetaWebhook, TwilioStatusWebhook, TwilioSmsWebhook, VonageStatusWebhook, VonageSmsWebhook)
        ),
        Publisher(INBOUND_MESSAGES, (InboundMessage,)),
        Publisher(DELIVERY_UPDATES, (DeliveryUpdate,)),
        Publisher(OUTBOUND_REFUSED, (OutboundRefused,)),
        Publisher(OUTBOUND_INTENTS, (Intent,)),
        Publisher(DIRECTORY_CHANGES, (ConsentChanged, ConversationHeld)),
    ),
)
