"""What the portal publishes: to ``portal.messages.v1`` and no other topic, with the conversation as key."""

from collections.abc import Sequence

from libs.common.events.portal import PortalEvent
from libs.common.events.topics import PORTAL_MESSAGES
from libs.common.kafka.producer import Producer, Record

PATIENCE_SECONDS = 3.0
"""How long a customer waits for Kafka before the page says that the message was not sent."""


async def publish(producer: Producer, events: Sequence[PortalEvent]) -> None:
    """Return when all are acknowledged. Raises Transient when Kafka is away."""
    await producer.publish(
        [Record(PORTAL_MESSAGES, str(event.conversation_id).encode(), event.encode()) for event in events]
    )
