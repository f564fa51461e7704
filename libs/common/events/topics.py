"""The declarations of all topics: name, partitions, retention and largest record.

The key is the conversation id, with two exceptions. On ``webhooks.v1`` it is business number and customer, because the
conversation is not known yet. On ``directory.changes.v1`` it is the org id. A producer outside Transom may leave the
key out: then the order of its records is not kept.
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
    from_outside: bool = False
    """Others write here too. Their clocks may be wrong, so the brokers' clock counts: they delete a record that its
    producer dates before the retention, read or not, and refuse one that is dated an hour ahead."""

    @property
    def dlq(self) -> "Topic":
        """The dead-letter topic of this topic. It is kept longer, because people read it."""
        return Topic(
            f"{self.name}{DLQ_SUFFIX}",
            partitions=3,
            retention=timedelta(days=30),
            max_record_bytes=self.max_record_bytes + 64 * 1024,  # the record itself plus the reason headers
        )


WEBHOOKS = Topic("webhooks.v1", retention=timedelta(days=14))  # replayable for longer than Meta's 7 days of retries
INBOUND_MESSAGES = Topic("inbound.messages.v1")
OUTBOUND_INTENTS = Topic("outbound.intents.v1", from_outside=True)
OUTBOUND_DECISIONS = Topic("outbound.decisions.v1")
OUTBOUND_WHATSAPP = Topic("outbound.whatsapp.v1")
OUTBOUND_SMS = Topic("outbound.sms.v1")
OUTBOUND_REFUSED = Topic("outbound.refused.v1")
DELIVERY_UPDATES = Topic("delivery.updates.v1")
DIRECTORY_CHANGES = Topic("directory.changes.v1", retention=timedelta(days=30), from_outside=True)
PORTAL_MESSAGES = Topic("portal.messages.v1", max_record_bytes=256 * 1024)  # a text of 4,096 characters
INBOX_NOTICES = Topic("inbox.notices.v1")

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
    PORTAL_MESSAGES,
    INBOX_NOTICES,
)
