"""The content of a message, outbound and inbound. ``kind`` names its type.

An outbound content is stored several times (decision, message, command, send), so every field of it has a limit.
"""

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, get_args

import orjson
from pydantic import AfterValidator, Field, model_validator

from libs.common.events.base import Part

MAX_TEXT = 4096  # Meta: text.body; one limit for every channel, so that a decision may change channels
MAX_CAPTION = 1024
MAX_FILENAME = 240
MAX_LABEL = 1_000  # name and address of a place
MAX_LINK = 2_048
MAX_ID = 512
MAX_EMOJI = 64  # characters; a family of four with skin tones has eleven
MAX_PARAMETERS = 200
# Bytes of JSON of one interactive message, a template's header, one of its buttons, one contact card.
MAX_SHAPE = 16 * 1024
MAX_CONTACTS = 257
MAX_CARDS = 64 * 1024  # bytes of JSON: all contact cards
MAX_BUTTONS = 10
_DEEPEST = 64
_WHOLE = range(-(2**63), 2**64)


def passable(value: Any, depth: int = 0) -> Any:
    """The value unchanged.

    Raises ValueError for JSON that some reader on the way cannot take. Meta's own shapes are not checked otherwise.
    """
    if depth > _DEEPEST:
        raise ValueError(f"nested deeper than {_DEEPEST} levels")
    match value:
        case dict() | list():
            for item in value.values() if isinstance(value, dict) else value:
                passable(item, depth + 1)
        case int() if value not in _WHOLE:
            raise ValueError("a whole number beyond 64 bits")
        case float() if not math.isfinite(value):
            raise ValueError("NaN and Infinity are no JSON")
    return value


def at_most(limit: int) -> Callable[[Any], Any]:
    """A validator for JSON of at most ``limit`` bytes. Its value is ``passable`` already."""

    def check(value: Any) -> Any:
        try:
            size = len(orjson.dumps(value))
        except TypeError:  # half of an emoji, which JSON can write and no text can hold
            raise ValueError("text that is no Unicode") from None
        if size > limit:
            raise ValueError(f"more than {limit} bytes of JSON")
        return value

    return check


MetaShape = Annotated[dict[str, Any], AfterValidator(passable), AfterValidator(at_most(MAX_SHAPE))]


class OutText(Part):
    """Plain text, 1 to 4,096 characters, not only white space."""

    kind: Literal["text"] = "text"
    text: Annotated[str, Field(min_length=1, max_length=MAX_TEXT, pattern=r"\S")]
    preview_url: bool = False


class OutMedia(Part):
    """A file, either where Meta can fetch it (``link``) or already uploaded (``media_id``)."""

    kind: Literal["image", "video", "audio", "document", "sticker"]
    link: Annotated[str, Field(pattern=r"^https?://\S+$", max_length=MAX_LINK)] | None = None
    media_id: Annotated[str, Field(min_length=1, max_length=MAX_ID)] | None = None
    caption: Annotated[str, Field(max_length=MAX_CAPTION)] | None = None
    filename: Annotated[str, Field(max_length=MAX_FILENAME)] | None = None

    @model_validator(mode="after")
    def _one_source(self) -> "OutMedia":
        if (self.link is None) == (self.media_id is None):
            raise ValueError("exactly one of link and media_id is needed")
        return self


class Location(Part):
    """A place, in degrees."""

    kind: Literal["location"] = "location"
    latitude: Annotated[float, Field(ge=-90, le=90)]
    longitude: Annotated[float, Field(ge=-180, le=180)]
    name: str | None = None
    address: str | None = None


class OutLocation(Location):
    """A place to send."""

    name: Annotated[str, Field(max_length=MAX_LABEL)] | None = None
    address: Annotated[str, Field(max_length=MAX_LABEL)] | None = None


class Contacts(Part):
    """Contact cards, in Meta's own shape."""

    kind: Literal["contacts"] = "contacts"
    contacts: Annotated[
        list[MetaShape], Field(min_length=1, max_length=MAX_CONTACTS), AfterValidator(at_most(MAX_CARDS))
    ]


class OutInteractive(Part):
    """Buttons, lists and the like, in Meta's own shape."""

    kind: Literal["interactive"] = "interactive"
    interactive: Annotated[MetaShape, Field(min_length=1)]


class OutReaction(Part):
    """An emoji on the message with provider id ``message_id``; an empty emoji removes it."""

    kind: Literal["reaction"] = "reaction"
    message_id: Annotated[str, Field(min_length=1, max_length=MAX_ID)]
    emoji: Annotated[str, Field(max_length=MAX_EMOJI)]


Parameter = Annotated[str, Field(max_length=MAX_TEXT)]


class TemplateFields(Part):
    """A template by name and exact language code, and its parameters: named (object) or positional (list)."""

    name: Annotated[str, Field(min_length=1, max_length=MAX_ID)]
    language: Annotated[str, Field(min_length=1, max_length=MAX_ID)]
    parameters: (
        Annotated[dict[Annotated[str, Field(max_length=MAX_ID)], Parameter], Field(max_length=MAX_PARAMETERS)]
        | Annotated[list[Parameter], Field(max_length=MAX_PARAMETERS)]
    ) = Field(default_factory=list)
    header: MetaShape | None = None
    buttons: Annotated[list[MetaShape], Field(max_length=MAX_BUTTONS)] | None = None


class OutTemplate(TemplateFields):
    """A pre-approved template."""

    kind: Literal["template"] = "template"


class OutBridge(Part):
    """No text of its own: the customer is asked by SMS to come back to WhatsApp or to the portal."""

    kind: Literal["bridge"] = "bridge"


OutContent = Annotated[
    OutText | OutMedia | OutLocation | Contacts | OutInteractive | OutReaction | OutTemplate,
    Field(discriminator="kind"),
]
IntentContent = Annotated[
    OutText | OutMedia | OutLocation | Contacts | OutInteractive | OutReaction | OutTemplate | OutBridge,
    Field(discriminator="kind"),
]
"""An intent's content: what a message may hold, or the wish for a bridge."""
OUT_KINDS = frozenset(
    kind for model in get_args(get_args(IntentContent)[0]) for kind in get_args(model.model_fields["kind"].annotation)
)


class InText(Part):
    """Text, as long as the customer wrote it."""

    kind: Literal["text"] = "text"
    text: str


class InMedia(Part):
    """A file that Meta keeps for 7 days under ``media_id``, or that an SMS provider keeps at ``link``."""

    kind: Literal["image", "video", "audio", "document", "sticker"]
    media_id: str | None = None
    link: str | None = None
    mime_type: str | None = None
    sha256: str | None = None
    caption: str | None = None
    filename: str | None = None


class InContacts(Part):
    """Contact cards, in Meta's own shape."""

    kind: Literal["contacts"] = "contacts"
    contacts: list[dict[str, Any]]
    origin: str | None = None  # contact_request: the customer answers a request


class InLocation(Location):
    """A place that a customer sent. ``url`` is the site of the business there."""

    url: str | None = None


class Order(Part):
    """A cart: ``items`` in Meta's own shape (product_retailer_id, quantity, item_price, currency)."""

    kind: Literal["order"] = "order"
    catalog_id: str | None = None
    text: str | None = None
    items: list[dict[str, Any]]


class Button(Part):
    """A tap on a template's quick reply."""

    kind: Literal["button"] = "button"
    text: str
    payload: str | None = None


class Reply(Part):
    """The option that was chosen: ``type`` is button_reply or list_reply (nfm_reply and others keep Meta's name).

    ``response`` of a flow is JSON as text, of whatever type. ``details`` holds the other fields of Meta's object.
    """

    type: str
    id: str | None = None
    title: str | None = None
    description: str | None = None
    response: str | None = None
    details: dict[str, Any] | None = None


class Interactive(Part):
    """A choice from buttons or a list."""

    kind: Literal["interactive"] = "interactive"
    reply: Reply


class Reaction(Part):
    """An emoji on the message with provider id ``message_id``; null removes it."""

    kind: Literal["reaction"] = "reaction"
    message_id: str
    emoji: str | None = None


class Unsupported(Part):
    """A message of a type that has no model here. It is stored and shown under Meta's own ``type``.

    ``raw`` is Meta's own object. A message that was erased is stored so, too, with ``erased`` true beside it.
    """

    kind: Literal["unsupported"] = "unsupported"
    type: str
    errors: list[dict[str, Any]] | None = None
    caption: str | None = None
    raw: dict[str, Any] | None = None


ERASED: Mapping[str, Any] = {"kind": "unsupported", "type": "erased", "erased": True}
"""The stored content of a message to a customer who was erased, or from them."""

InContent = Annotated[
    InText | InMedia | InLocation | InContacts | Order | Button | Interactive | Reaction | Unsupported,
    Field(discriminator="kind"),
]
