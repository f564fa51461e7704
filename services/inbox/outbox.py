"""What the inbox publishes for people: intents and what stands of holds, from one place.

Rule 1: the producer returns when Kafka has acknowledged all of it, within ``PATIENCE_SECONDS``: a person waits.
Rule 2: an intent says ``staff`` and who, and has the one capability that its route needs, whatever the person may do.
"""

from uuid import UUID

from libs.common.directory.holds import Hold
from libs.common.events.intents import Actor, Intent
from libs.common.events.topics import DIRECTORY_CHANGES, OUTBOUND_INTENTS
from libs.common.kafka.producer import Record
from services.inbox.people import Capability

PATIENCE_SECONDS = 3.0
"""How long a person waits for Kafka before they hear that nothing was sent."""

_NEEDED: Capability = "messages.send"


def staff(user_id: str | None) -> Actor:
    """The author of an intent of staff."""
    return Actor(kind="staff", user_id=user_id, capabilities=[_NEEDED])


def intent_record(key: UUID, intent: bytes) -> Record:
    """The record of an encoded intent. ``key``: its conversation, or its own id where it has none yet."""
    return Record(OUTBOUND_INTENTS, str(key).encode(), intent)


def record_of(intent: Intent) -> Record:
    """The record of an intent."""
    return intent_record(intent.conversation_id or intent.intent_id, intent.encode())


def hold_record(hold: Hold) -> Record:
    """The record of what stands of a conversation."""
    return Record(DIRECTORY_CHANGES, hold.key, hold.event().encode())
