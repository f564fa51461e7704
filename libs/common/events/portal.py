"""``portal.messages.v1``: what customers do in the portal. The portal writes this topic and no other."""

from typing import Annotated, ClassVar, Literal
from uuid import UUID

from pydantic import Field, TypeAdapter, ValidationError

from libs.common.errors import Undecodable
from libs.common.events.base import Event, event_type, misfit, read_json_object
from libs.common.events.fields import Instant, OrgId

MAX_TEXT = 4096
"""Characters of a message, as WhatsApp has them."""
MAX_READ = 500
"""Messages that one ``portal.read.v1`` names."""

Token = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class _PortalEvent(Event):
    org_id: OrgId
    conversation_id: UUID
    at: Instant


class PortalMessage(_PortalEvent):
    """The customer wrote ``text``. ``session`` is a name of their session, never its secret.

    ``client_id`` names the form that was posted: a second post of it with the same text is the same message.
    """

    TYPE: ClassVar[str] = "portal.message.v1"

    type: Literal["portal.message.v1"] = "portal.message.v1"
    session: Token
    text: Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]
    client_id: Token


class PortalRead(_PortalEvent):
    """The portal showed these messages to the customer."""

    TYPE: ClassVar[str] = "portal.read.v1"

    type: Literal["portal.read.v1"] = "portal.read.v1"
    message_ids: Annotated[list[UUID], Field(min_length=1, max_length=MAX_READ)]


class PortalSignedIn(_PortalEvent):
    """The customer opened a link."""

    TYPE: ClassVar[str] = "portal.signed_in.v1"

    type: Literal["portal.signed_in.v1"] = "portal.signed_in.v1"


class PortalLinkWanted(_PortalEvent):
    """The customer asked for a fresh link by SMS, from a page whose link no longer opens.

    It is a wish. The ingest worker asks the router with an intent of kind ``bridge``, so that at most one SMS goes per
    hold, to the phone on file, through every gate.
    """

    TYPE: ClassVar[str] = "portal.link_wanted.v1"

    type: Literal["portal.link_wanted.v1"] = "portal.link_wanted.v1"


PORTAL_EVENTS = (PortalMessage, PortalRead, PortalSignedIn, PortalLinkWanted)
PortalEvent = PortalMessage | PortalRead | PortalSignedIn | PortalLinkWanted
_TYPES = frozenset(event.TYPE for event in PORTAL_EVENTS)
_ADAPTER: TypeAdapter[PortalEvent] = TypeAdapter(Annotated[PortalEvent, Field(discriminator="type")])


def decode_portal_event(value: bytes | None) -> PortalEvent:
    """The event in a record's value. Raises Undecodable."""
    found = read_json_object(value)
    if event_type(found) not in _TYPES:
        raise Undecodable("unknown_type", "field type names no event of the portal that is known here")
    try:
        return _ADAPTER.validate_json(value or b"")
    except ValidationError as error:
        raise misfit(error) from None
