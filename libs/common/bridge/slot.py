"""The bridge slot of a conversation. Pure."""

from typing import NamedTuple
from uuid import UUID


class Slot(NamedTuple):
    """The bridge of ``intent_id`` holds, or asks for, the slot of ``conversation_id``."""

    org_id: str
    conversation_id: UUID
    intent_id: UUID
