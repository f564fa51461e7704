"""What Meta refuses of an outbound content, beyond the shape that its model holds. Pure.

Rule 1: a message with a fault is refused by Meta as a whole, or a part of it never reaches the customer. So it is found
        before the call.
Rule 2: what is not known here is not judged. Templates: ``libs.common.template_parameters``.

The models do not hold these limits: what an earlier release has stored must stay readable.

Source: https://developers.facebook.com/docs/whatsapp/cloud-api/messages/contacts-messages, audio-messages and
sticker-messages beside it; a card without ``formatted_name`` is refused (131008), and what Meta cannot fetch fails
after it was accepted (131053).
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from libs.common import interactive_limits
from libs.common.events.content import Contacts, IntentContent, OutInteractive, OutMedia
from libs.common.urls import is_url

MEDIA_WITH_CAPTION = frozenset({"image", "video", "document"})


class Fault(NamedTuple):
    """What is wrong with a field of a content, such as ``caption``.

    ``not_shown``: WhatsApp has no place for it; it must go as a message of its own.
    """

    field: str
    code: interactive_limits.FaultCode | Literal["not_shown"]


def faults(content: IntentContent) -> list[Fault]:
    """Everything for which Meta would refuse the message, or not show a part of it."""
    match content:
        case OutInteractive(interactive=interactive):
            return [Fault(f"interactive.{f.field}", f.code) for f in interactive_limits.faults(interactive)]
        case Contacts(contacts=cards):
            return list(_of_cards(cards))
        case OutMedia():
            return list(_of_media(content))
        case _:
            return []


def _of_media(media: OutMedia) -> Iterator[Fault]:
    if media.link is not None and not is_url(media.link):
        yield Fault("link", "format")
    if media.kind not in MEDIA_WITH_CAPTION and media.caption is not None and media.caption.strip():
        yield Fault("caption", "not_shown")


def _of_cards(cards: list[dict[str, Any]]) -> Iterator[Fault]:
    for n, card in enumerate(cards):
        name = card.get("name")
        shown = name.get("formatted_name") if isinstance(name, Mapping) else None
        if not isinstance(shown, str) or not shown.strip():
            yield Fault(f"contacts.{n}.name.formatted_name", "missing")
