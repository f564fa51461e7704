"""Every topic: its name, partitions, retention and largest record. The only place that declares one.

The key is the conversation id everywhere but on ``webhooks.v1`` (business number and customer, because the conversation is not known
yet) and ``directory.changes.v1`` (org id). A producer outside Transom may leave the key out: order is then its own concern.
"""

from dataclasses import dataclass
from datetime import timedelta

DLQ_SUFFIX = ".dlq"


@dataclass(frozen=True, slots=True)
class Topic:
    """A declared topic; ``name`` is without the configured prefix."""

    name: str
    partitions: int = 12
    retention: timedelta = timedelta(days=7)
    max_record_bytes: int = 4 * 1024 * 1024  # one webhook item may approach Meta's 3 MB body limit

    @property
    def dlq(self) -> "Topic":
        """Where records of this topic go that cannot be handled; kept longer, because people read it."""
        return Topic(
            f"{self.name}{DLQ_SUFFIX}",
            partitions=3,
            retention=timedelta(days=30),
            max_record_bytes=self.max_record_bytes + 64 * 1024,  # the record itself plus the reason headers
        )


WEBHOOKS = Topic("webhooks.v1", retention=timedelta(days=14))  # replayable for longer than Meta's 7 days of retries
INBOUND_MESSAGES = Topic("inbound.messages.v1")
OUTBOUND_INTENTS = Topic("outbound.intents.v1")
OUTBOUND_DECISIONS = Topic("outbound.decisions.v1")
OUTBOUND_WHATSAPP = Topic("outbound.whatsapp.v1")
OUTBOUND_SMS = Topic("outbound.sms.v1")
OUTBOUND_REFUSED = Topic("outbound.refused.v1")
DELIVERY_UPDATES = Topic("delivery.updates.v1")
DIRECTORY_CHANGES = Topic("directory.changes.v1", retention=timedelta(days=30))

TOPICS = (
    WEBHOOKS,
    INBOUND_MESSAGES,
    OUTBOUND_INTENTS,
    OUTBOUND_DECISIONS,
    OUTBOUND_WHATSAPP,
    OUTBOUND_SMS,
    OUTBOUND_REFUSED,
    DELIVERY_UPDATES,
    DIRECTORY_CHANGES,
)
