"""What the portal publishes: to ``portal.messages.v1`` and no other topic, with the conversation as key."""

from collections.abc import Sequence

from libs.common.errors import Transient
from libs.common.events.portal import PortalEvent
from libs.common.events.topics import PORTAL_MESSAGES
from libs.common.kafka.producer import Producer, Record
from libs.common.log_throttle import LogThrottle
from libs.common.logging import get_logger

PATIENCE_SECONDS = 3.0
"""How long a customer waits for Kafka before the page says that the message was not sent."""

log = get_logger()
_throttle = LogThrottle(60.0)


async def publish(producer: Producer, events: Sequence[PortalEvent]) -> None:
    """Return when all are acknowledged. Raises Transient when Kafka is away."""
    await producer.publish(
        [Record(PORTAL_MESSAGES, str(event.conversation_id).encode(), event.encode()) for event in events]
    )


async def publish_if_possible(producer: Producer, events: Sequence[PortalEvent]) -> None:
    """Publish what the next page would say again. While Kafka is away it is left out, and that is logged."""
    try:
        await publish(producer, events)
    except Transient:
        _throttle.report("away", lambda times: log.warning("portal.unpublished", reason="kafka_away", times=times))
