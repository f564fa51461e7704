"""``inbox.notices.v1``: what staff should look at."""

from typing import ClassVar, Literal
from uuid import UUID

from libs.common.events.base import Event
from libs.common.events.fields import Instant, OrgId


class _Notice(Event):
    org_id: OrgId
    conversation_id: UUID


class ConversationUnread(_Notice):
    """Nobody of the organisation has read what the customer wrote ``since``. It is told once, until somebody reads."""

    TYPE: ClassVar[str] = "conversation.unread.v1"

    type: Literal["conversation.unread.v1"] = "conversation.unread.v1"
    since: Instant


class DeliveryFailed(_Notice):
    """A message of the organisation did not arrive. ``reason`` and ``provider_code`` are those of its update."""

    TYPE: ClassVar[str] = "delivery.failed.v1"

    type: Literal["delivery.failed.v1"] = "delivery.failed.v1"
    message_id: UUID
    reason: str | None = None
    provider_code: str | None = None


NOTICES = (ConversationUnread, DeliveryFailed)
