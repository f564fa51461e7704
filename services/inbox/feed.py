"""The feed of an organisation: what was published about its conversations, in one order. Pure.

Rule 1: a change says what is new, never how: who reads it reads the present state. So a change that is told twice, or
        late, tells nothing wrong.
Rule 2: an event's id names the feed and a change of it. After that change everything newer is told. The name is the
        organisation's own, so the id of another organisation is unknown here, and the number counts its changes alone.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple
from uuid import UUID

from libs.common.events.directory import ConversationHeld, ConversationReleased
from libs.common.events.inbound import InboundMessage
from libs.common.events.outbound import DeliveryUpdate, OutboundDecision
from libs.common.ids import bridge_message_id

Kind = Literal["message", "update", "conversation"]
"""What a change is about: a message as a whole, a message's status, or the conversation beside its messages."""
_BRIDGE_SENT = "_bridge_sent"
"""The end of the reason of a message for which a bridge SMS went out. No decision tells of that SMS."""
_MARK = re.compile(r"([0-9a-f]{32})-([0-9]{1,18})")


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a feed: behind change number ``change``."""

    feed: UUID
    change: int

    def __str__(self) -> str:
        return f"{self.feed.hex}-{self.change}"

    @classmethod
    def read(cls, raw: str | None) -> "Mark | None":
        """The mark in an event's id; None where it is none."""
        found = _MARK.fullmatch(raw or "")
        return None if found is None else cls(UUID(found[1]), int(found[2]))


class Change(NamedTuple):
    """One line of a feed. ``message_id`` is None for a change of the conversation itself."""

    org_id: str
    conversation_id: UUID
    message_id: UUID | None
    kind: Kind


class StoredChange(NamedTuple):
    """A row of a feed. ``conversation_id`` is the standing conversation, ``told_of`` the id of before a merge."""

    change: int
    conversation_id: UUID
    message_id: UUID | None
    kind: Kind
    told_of: UUID


def changes_of(events: Iterable[object]) -> Iterator[Change]:
    """What these events change, in their order. Events that change no conversation are left out."""
    for event in events:
        match event:
            case InboundMessage():
                yield Change(event.org_id, event.conversation_id, event.message_id, "message")
            case OutboundDecision(conversation_id=UUID() as conversation_id):
                yield Change(event.org_id, conversation_id, event.intent_id, "message")
            case DeliveryUpdate(conversation_id=UUID() as conversation_id):
                kind: Kind = "update" if event.author is None else "message"  # no decision tells of an echo
                yield Change(event.org_id, conversation_id, event.message_id, kind)
                if event.status == "failed" and (event.reason or "").endswith(_BRIDGE_SENT):
                    yield Change(event.org_id, conversation_id, bridge_message_id(event.message_id), "message")
            case ConversationHeld() | ConversationReleased():
                yield Change(event.org_id, event.conversation_id, None, "conversation")
            case _:
                pass
