"""Messages that wait for the window to open: which failures wait, and as what messages they go. Pure.

Rule 1: a message of staff or of the AI waits if it is free-form, was meant for WhatsApp, and ended because WhatsApp was
        closed to it: by the window, or by a mark of the address. Other failures do not wait: a consent that is off, an
        intent that expired, a conversation that staff hold.
Rule 2: texts that go together are one message, the oldest first, with an empty line between them. What is no text goes
        as a message of its own, in its place. A text that the message has no room for begins the next one.
Rule 3: a release expires with the first of the texts that it carries. It is the work of staff where any of them is.
Rule 4: the id of a release is derived from what it carries. What was tried under an id goes under that id and with the
        same company again, so that a publication of which nothing is known is not made a second time.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple
from uuid import UUID

from libs.common.events.content import MAX_TEXT
from libs.common.faults import WindowClosed
from libs.common.ids import release_intent_id
from libs.common.providers import fault_of
from libs.common.thread.message_status import PROVIDER_REFUSED

KEPT_FOR = timedelta(days=30)
"""How long a text waits that has no expiry of its own."""
MOST_KEPT = 100
"""Texts that may wait in one conversation."""

_CLOSED = ("window_expired_", "whatsapp_unreachable_")
_CONSENT = "_consent_off"
_WAITING_KINDS = frozenset(
    {"text", "image", "video", "audio", "document", "sticker", "location", "contacts", "interactive"}
)
_BETWEEN = "\n\n"

Author = Literal["ai", "staff"]


class Ended(NamedTuple):
    """What the rule asks of a failed outbound message. ``channel`` is where its thread shows it."""

    kind: str
    actor: str | None
    channel: str
    reason: str | None
    provider_code: str | None


class ParkedText(NamedTuple):
    """A message that waits. ``intent_id``: of a release that was tried and of which nothing is known."""

    org_id: str
    conversation_id: UUID
    message_id: UUID
    kind: Literal["kept", "failed"]
    actor: Author
    user_id: str | None
    content: dict[str, Any]
    reason: str | None
    written_at: datetime
    parked_at: datetime
    expires_at: datetime
    intent_id: UUID | None = None

    @property
    def place(self) -> tuple[str, UUID]:
        """Organisation and conversation."""
        return self.org_id, self.conversation_id


class Parcel(NamedTuple):
    """One message of a release, and what it carries. ``user_id`` is the latest author among staff."""

    intent_id: UUID
    org_id: str
    conversation_id: UUID
    message_ids: tuple[UUID, ...]
    content: dict[str, Any]
    actor: Author
    user_id: str | None
    expires_at: datetime


def waits(message: Ended) -> bool:
    """Whether a message that failed waits for the window to open."""
    if message.actor not in ("ai", "staff") or message.channel != "whatsapp" or message.kind not in _WAITING_KINDS:
        return False
    reason = message.reason or ""
    if reason == PROVIDER_REFUSED:
        return _is_of_window(message.provider_code)
    return reason.startswith(_CLOSED) and not reason.endswith(_CONSENT)


def parcels(waiting: Iterable[ParkedText]) -> list[Parcel]:
    """The messages as which these texts of one conversation go, in the order in which they go."""
    texts = sorted(waiting, key=lambda text: (text.written_at, text.message_id))
    found: list[list[ParkedText]] = []
    tried: dict[UUID, list[ParkedText]] = {}
    for text in texts:
        if text.intent_id is not None:
            if text.intent_id not in tried:
                found.append(tried.setdefault(text.intent_id, []))
            tried[text.intent_id].append(text)
        elif found and _has_room(found[-1], text):
            found[-1].append(text)
        else:
            found.append([text])
    return [_parcel(some) for some in found]


def joined(texts: Sequence[ParkedText]) -> dict[str, Any]:
    """The content of one message that carries these."""
    if len(texts) == 1:
        return texts[0].content
    content: dict[str, Any] = {"kind": "text", "text": _BETWEEN.join(text.content["text"] for text in texts)}
    return content | ({"preview_url": True} if any(text.content.get("preview_url") for text in texts) else {})


def _has_room(company: Sequence[ParkedText], text: ParkedText) -> bool:
    if any(one.intent_id is not None or one.content["kind"] != "text" for one in (*company, text)):
        return False
    length = sum(len(one.content["text"]) + len(_BETWEEN) for one in company) + len(text.content["text"])
    return length <= MAX_TEXT


def _parcel(texts: Sequence[ParkedText]) -> Parcel:
    first = texts[0]
    of_staff = [text for text in texts if text.actor == "staff"]
    message_ids = tuple(text.message_id for text in texts)
    return Parcel(
        intent_id=first.intent_id or release_intent_id(first.org_id, message_ids),
        org_id=first.org_id,
        conversation_id=first.conversation_id,
        message_ids=message_ids,
        content=joined(texts),
        actor="staff" if of_staff else "ai",
        user_id=of_staff[-1].user_id if of_staff else first.user_id,
        expires_at=min(text.expires_at for text in texts),
    )


def _is_of_window(code: str | None) -> bool:
    return isinstance(fault_of("meta", code), WindowClosed)
