"""What the portal writes. It reads no topic."""

from libs.common.events.portal import PORTAL_EVENTS
from libs.common.events.topics import PORTAL_MESSAGES
from libs.common.kafka.topology import Publisher, Topology

TOPOLOGY: Topology[None] = Topology(
    "portal",
    "Shows a customer their conversation behind a magic link, and publishes what they write there.",
    subscribers=(),
    publishers=(Publisher(PORTAL_MESSAGES, PORTAL_EVENTS),),
)
