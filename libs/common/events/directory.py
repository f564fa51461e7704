"""``directory.changes.v1``: what billing and CRM publish about organisations, numbers, customers and consent.

Transom publishes there what it learns itself: opt-outs, and that staff hold a conversation.

An older ``at`` never overwrites a newer one of the same type, entity and category.
"""

from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from libs.common import phone
from libs.common.errors import Undecodable
from libs.common.events.base import Event, Part, event_type, misfit, read_json_object, without_nulls
from libs.common.events.content import at_most, passable
from libs.common.events.fields import MAX_USER_ID, Instant, MetaId, OrgId
from libs.common.portal_host import organisation_host
from libs.common.sanitize import sanitize

ConsentCategory = Literal["transactional", "service_reminders", "marketing", "whatsapp", "sms"]
ConsentSource = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,40}$")]  # whatsapp, sms, or one of a later version
ConsentCause = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,40}$")]


def _e164(raw: str) -> str:
    found = phone.normalise(raw)
    if found is None:
        raise ValueError("an international phone number is needed, such as +447700900123")
    return found


MAX_NAME = 1_000
MAX_POLICY = 16 * 1024  # bytes of JSON
Name = Annotated[str, Field(max_length=MAX_NAME), AfterValidator(sanitize)]
"""The name of an organisation or a customer. It is read with every message, and stored with every decision."""
Phone = Annotated[str, AfterValidator(_e164)]
PortalHost = Annotated[str, AfterValidator(organisation_host)]
"""A host alone, in the one spelling of ``libs.common.portal_host``."""
Policy = Annotated[dict[str, Any], AfterValidator(passable), AfterValidator(at_most(MAX_POLICY))]
SmsProviderName = Literal["twilio", "vonage"]
SmsAccountName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
Country = Annotated[str, Field(pattern=r"^[A-Z]{2}$")]
"""ISO 3166-1 alpha-2."""
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
"""ISO 4217."""


class SignIn(Part):
    """Where the organisation's people sign in: the issuer of their identity provider, and their tenant there."""

    issuer: Annotated[str, Field(pattern=r"^https?://[^\s?#]{1,300}$")]
    tenant: Annotated[str, Field(min_length=1, max_length=200)]


class _Change(Event):
    org_id: OrgId
    at: Instant


class OrgUpserted(_Change):
    """An organisation (garage) as it is now."""

    TYPE: ClassVar[str] = "org.upserted.v1"

    type: Literal["org.upserted.v1"] = "org.upserted.v1"
    name: Annotated[Name, Field(min_length=1)]
    sms_number: Phone | None = None
    sms_active: bool = False
    sms_provider: SmsProviderName | None = None  # None: the one of the settings
    sms_account: SmsAccountName | None = None  # a name in TRANSOM_SMS_ACCOUNTS; None: the one of the settings
    portal_host: PortalHost | None = None  # None: the platform's own
    country: Country | None = None  # None: the country of sms_number
    currency: Currency | None = None
    sign_in: SignIn | None = None
    policy: Policy = Field(default_factory=dict)


class OrgCredit(_Change):
    """Whether the organisation's AI credit is exhausted. Null: not known, which allows AI."""

    TYPE: ClassVar[str] = "org.credit.v1"

    type: Literal["org.credit.v1"] = "org.credit.v1"
    exhausted: bool | None


class NumberUpserted(_Change):
    """A WhatsApp business number of the organisation."""

    TYPE: ClassVar[str] = "number.upserted.v1"

    type: Literal["number.upserted.v1"] = "number.upserted.v1"
    phone_number_id: MetaId
    waba_id: MetaId
    display_number: Phone


class NumberRemoved(_Change):
    """The organisation gives up a WhatsApp business number. It is free until an organisation registers it again."""

    TYPE: ClassVar[str] = "number.removed.v1"

    type: Literal["number.removed.v1"] = "number.removed.v1"
    phone_number_id: MetaId


class CustomerUpserted(_Change):
    """A customer of the organisation's directory."""

    TYPE: ClassVar[str] = "customer.upserted.v1"

    type: Literal["customer.upserted.v1"] = "customer.upserted.v1"
    customer_id: UUID
    name: Name | None = None
    phone: Phone | None = None


class ConsentChanged(_Change):
    """One consent of one customer.

    ``source`` is null where the platform published it, else the channel on which the customer said so.

    ``cause`` says how: ``keyword`` (the whole text is STOP or START), ``preferences`` (WhatsApp's own switch), or
    ``refusal`` (the provider would not deliver because of it).
    """

    TYPE: ClassVar[str] = "consent.changed.v1"

    type: Literal["consent.changed.v1"] = "consent.changed.v1"
    customer_id: UUID
    category: ConsentCategory
    allowed: bool
    source: ConsentSource | None = None
    cause: ConsentCause | None = None


class ConversationHeld(_Change):
    """Staff have taken a conversation over: AI agents do not answer in it ``until`` then."""

    TYPE: ClassVar[str] = "conversation.held.v1"

    type: Literal["conversation.held.v1"] = "conversation.held.v1"
    conversation_id: UUID
    user_id: Annotated[str, Field(min_length=1, max_length=MAX_USER_ID)]
    until: Instant


class ConversationReleased(_Change):
    """AI agents may answer in a conversation again. ``until`` is when the hold would have ended."""

    TYPE: ClassVar[str] = "conversation.released.v1"

    type: Literal["conversation.released.v1"] = "conversation.released.v1"
    conversation_id: UUID
    user_id: Annotated[str, Field(min_length=1, max_length=MAX_USER_ID)] | None = None
    until: Instant | None = None


CHANGES = (
    OrgUpserted,
    OrgCredit,
    NumberUpserted,
    NumberRemoved,
    CustomerUpserted,
    ConsentChanged,
    ConversationHeld,
    ConversationReleased,
)
DirectoryChange = (
    OrgUpserted
    | OrgCredit
    | NumberUpserted
    | NumberRemoved
    | CustomerUpserted
    | ConsentChanged
    | ConversationHeld
    | ConversationReleased
)
_TYPES = frozenset(change.TYPE for change in CHANGES)
_ADAPTER: TypeAdapter[DirectoryChange] = TypeAdapter(Annotated[DirectoryChange, Field(discriminator="type")])


def decode_directory_change(value: bytes | None) -> DirectoryChange:
    """The change in a record's value. Raises Undecodable."""
    found = read_json_object(value)
    if event_type(found) not in _TYPES:
        raise Undecodable("unknown_type", "field type names no directory change that is known here")
    try:
        return without_nulls(_ADAPTER.validate_json, value)
    except ValidationError as error:
        raise misfit(error) from None
