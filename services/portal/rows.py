"""The rows that the portal reads. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Owner:
    """The organisation whose own host this is."""

    org_name: str
    display_number: str | None


@dataclass(frozen=True, slots=True)
class Link:
    """A link of this host. ``opens``: it is neither used nor expired, and its phone is on file."""

    org_id: str
    conversation_id: UUID
    org_name: str
    needs_button: bool
    opens: bool


@dataclass(frozen=True, slots=True)
class Thread:
    """A session that lives, with its conversation."""

    session_hash: bytes
    session_name: UUID
    org_id: str
    conversation_id: UUID
    host: str
    phone: str
    seen_at: datetime
    posted_at: datetime | None
    org_name: str
    display_number: str | None


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message that the portal shows, as it is stored."""

    message_id: UUID
    direction: str
    channel: str
    content: Mapping[str, Any]
    actor: str | None
    sequence: int
    status: str
    read_at: datetime | None
    occurred_at: datetime
