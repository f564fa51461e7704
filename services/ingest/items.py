"""The items that ``parse`` reads from records of ``webhooks.v1``. Pure data."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple

from libs.common.directory.reports import TemplateNews
from libs.common.events.directory import SmsProviderName
from libs.common.providers import Provider
from libs.common.thread.message_status import ProviderStatus


class Sender(NamedTuple):
    """How Meta knows the customer.

    ``wa_id`` (digits), ``bsuid``, or both. ``also``: another number that Meta gave for the same person.
    """

    wa_id: str | None
    bsuid: str | None
    name: str | None = None
    also: str | None = None

    @property
    def ids(self) -> tuple[str | None, str | None]:
        return self.wa_id, self.bsuid


class CustomerMessage(NamedTuple):
    """A message to store and to publish.

    ``opens``: it starts the customer's window anew. ``waba_id``: whose number Meta says it is.
    """

    phone_number_id: str
    sender: Sender
    provider_id: str
    content: dict[str, Any]
    reply_to: str | None
    at: datetime
    received_at: datetime
    opens: bool
    waba_id: str | None = None
    shared: str | None = None
    """The customer's own number (E.164), given on request."""


class GroupMessage(NamedTuple):
    """A customer's message to a group that the business number is in."""

    phone_number_id: str
    group_id: str
    sender: Sender
    provider_id: str
    content: dict[str, Any]
    reply_to: str | None
    at: datetime
    received_at: datetime
    waba_id: str | None = None


class StaffEcho(NamedTuple):
    """What staff wrote in the WhatsApp Business app on the phone. ``sender``: the customer whom they wrote to."""

    phone_number_id: str
    sender: Sender
    provider_id: str
    content: dict[str, Any]
    reply_to: str | None
    at: datetime
    received_at: datetime


class StaffEchoes(NamedTuple):
    """The echoes of one record: one, or several where an older edge wrote it."""

    phone_number_id: str
    echoes: tuple[StaffEcho, ...]
    waba_id: str | None = None


@dataclass(frozen=True, slots=True)
class CustomerCall:
    """The customer called, answered or not, or took a call of the business.

    The window opens; the thread shows nothing.
    """

    phone_number_id: str
    sender: Sender
    at: datetime
    received_at: datetime
    waba_id: str | None = None


@dataclass(frozen=True, slots=True)
class CustomerPreference:
    """The customer switched marketing off or on in WhatsApp itself."""

    phone_number_id: str
    sender: Sender
    marketing: bool
    at: datetime
    waba_id: str | None = None


@dataclass(frozen=True, slots=True)
class IdentityChange:
    """A notice of the system: the person behind ``sender`` has the ids ``now``, which may say nothing.

    ``notice``: the message for the thread, where the notice is one. ``alarm``: the number may be in other hands, though
    nothing of it changed.
    """

    phone_number_id: str
    sender: Sender
    now: Sender
    at: datetime
    received_at: datetime
    notice: CustomerMessage | None = None
    alarm: bool = False
    waba_id: str | None = None


class MessageStatus(NamedTuple):
    """A status of a message of ours, and the card of its recipient where Meta names one (``fields.recipient_of``).

    ``phone_number_id`` is None for a provider whose accounts are no numbers.
    """

    phone_number_id: str | None
    status: ProviderStatus
    contact: object = None
    waba_id: str | None = None


class SmsPart(NamedTuple):
    """Which part of a concatenated SMS this is. ``ref`` is of the sender's phone and comes back after some messages."""

    ref: str
    number: int
    """From 1 to ``total``."""
    total: int


class SmsMedia(NamedTuple):
    """A file of an MMS: where the provider keeps it. It is never fetched here."""

    link: str
    mime_type: str | None


@dataclass(frozen=True, slots=True)
class InboundSms:
    """A customer's SMS, or one part of it, whichever provider brought it.

    ``account``: the provider's id of the account whose secret signed the callback. The organisation of ``to`` must have
    this account, else the SMS is not its own. ``to``: the organisation's number in E.164. ``sender``: E.164; as it is
    given where it is no number of a person, such as a short code or a name. ``text``: None for a binary message.
    ``at``: the provider's clock, None where it tells no time. The sender is not verified: anyone can write as anyone.
    """

    provider: SmsProviderName
    account: str
    provider_id: str
    to: str
    sender: str
    text: str | None
    received_at: datetime
    at: datetime | None = None
    media: tuple[SmsMedia, ...] = ()
    part: SmsPart | None = None
    opted: Literal["stop", "start"] | None = None
    """What the provider itself took the text for (Twilio's Advanced Opt-Out)."""


@dataclass(frozen=True, slots=True)
class NumberErrors:
    """Errors that Meta reports of a business number outside of any status (``number_errors``), by their codes.

    ``phone_number_id`` is None where the webhook names no number.
    """

    phone_number_id: str | None
    codes: tuple[str, ...]
    received_at: datetime
    waba_id: str | None = None


@dataclass(frozen=True, slots=True)
class Ignored:
    """A known item without effect. It is counted.

    ``unknown``: the source and the word of a status that nobody knows.
    """

    kind: str
    unknown: tuple[Provider, str] | None = None


Item = (
    CustomerMessage
    | GroupMessage
    | CustomerCall
    | CustomerPreference
    | IdentityChange
    | StaffEchoes
    | MessageStatus
    | TemplateNews
    | InboundSms
    | NumberErrors
    | Ignored
)
