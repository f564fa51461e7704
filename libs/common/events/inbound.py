"""Customers' messages (``inbound.messages.v1``) and the raw webhooks that they came from (``webhooks.v1``)."""

from typing import Any, ClassVar, Literal
from uuid import UUID

from pydantic import AwareDatetime

from libs.common.events.base import Event
from libs.common.events.content import InContent
from libs.common.events.fields import Instant, OrgId
from libs.common.events.outbound import Channel, WindowState


class InboundMessage(Event):
    """``inbound.messages.v1``: a customer's message, published after the thread and the window are committed.

    Optional fields beside ``content`` are left out where the message did not have them.
    """

    TYPE: ClassVar[str] = "inbound.message.v1"

    type: Literal["inbound.message.v1"] = "inbound.message.v1"
    message_id: UUID
    org_id: OrgId
    conversation_id: UUID
    customer_id: UUID | None  # null: an unknown person wrote into a group
    channel: Channel
    provider_id: str
    content: InContent
    referral: dict[str, Any] | None = None  # the ad or post that led to it, in Meta's own shape
    forwarded: bool | None = None
    frequently_forwarded: bool | None = None
    referred_product: dict[str, Any] | None = None  # the product of the question: catalog_id, product_retailer_id
    voice: bool | None = None  # of audio: spoken into the chat
    keyword: Literal["stop", "start"] | None = None  # the whole text is such a word: agents do not answer it
    verified: bool | None = None  # false: anybody could write as this sender, as in every SMS
    media: list[dict[str, Any]] | None = None  # of an MMS with several files: each as {kind, link, mime_type}
    incomplete: dict[str, Any] | None = None  # parts of an SMS never came: {parts: the numbers that did, total}
    reply_to: str | None  # the provider's id of the message that it answers
    reply_to_message_id: UUID | None = None  # the same message by our id, where it is known
    group_id: str | None = None  # Meta's id; a conversation of a group cannot be answered
    sent_at: AwareDatetime
    received_at: AwareDatetime
    window: WindowState


class MetaWebhook(Event):
    """``webhooks.v1``: one item of a Meta webhook, unchanged.

    ``item_kind`` is one of:

    - ``message`` or ``status``: an item of field ``messages`` (and of the nested ``standby``).
    - ``change``: every other change, with its whole ``value``. A call, as ``{"calls": [call]}``. An echo of staff, as
      ``{"message_echoes": [echo], "metadata": …}``; an older edge wrote the whole ``value``. Errors and echoes beside
      messages or statuses, without these.
    - ``body``: a body, an entry or a change that is no webhook, unchanged. Where the body cannot be split, it is
      ``{"zlib_base64": …}`` of its bytes.
    """

    TYPE: ClassVar[str] = "webhook.meta.v1"

    type: Literal["webhook.meta.v1"] = "webhook.meta.v1"
    received_at: AwareDatetime
    waba_id: str | None = None
    field: str | None = None
    phone_number_id: str | None = None
    item_kind: Literal["message", "status", "change", "body"]
    item: Any
    contact: dict[str, Any] | None = None  # the contacts[] entry that belongs to the item, matched by id


class SmsCallback(Event):
    """A callback of an SMS provider: the fields that are used, unchanged.

    ``verified_account`` is the provider's id of the account whose secret signed the callback: Twilio's account sid,
    Vonage's api key. The worker takes the callback only for sends and numbers of that account.
    """

    TYPE: ClassVar[str]

    received_at: Instant
    form: dict[str, str]
    verified_account: str


class TwilioStatusWebhook(Event):
    """``webhooks.v1``: one status callback of Twilio, its form fields unchanged.

    ``ref`` is the reference in the callback's address: ``message_id:attempt``, as Meta echoes it. Null when there was
    none. ``verified_account`` as in ``SmsCallback``; null in records of the release before.
    """

    TYPE: ClassVar[str] = "webhook.twilio_status.v1"

    type: Literal["webhook.twilio_status.v1"] = "webhook.twilio_status.v1"
    received_at: Instant
    form: dict[str, str]
    ref: str | None = None
    verified_account: str | None = None


class TwilioSmsWebhook(SmsCallback):
    """``webhooks.v1``: an SMS or MMS of a customer, by Twilio.

    ``sent_at``: Twilio's time of an SMS that the SMS bridge found in Twilio's list, because no edge took its callback.
    A callback carries no time.
    """

    TYPE: ClassVar[str] = "webhook.twilio_sms.v1"

    type: Literal["webhook.twilio_sms.v1"] = "webhook.twilio_sms.v1"
    sent_at: Instant | None = None

    def record(self) -> tuple[bytes, bytes]:
        """Key (business number and customer) and value of its record."""
        return f"{self.form.get('To', '')}:{self.form.get('From', '')}".encode(), self.encode()


class VonageSmsWebhook(SmsCallback):
    """``webhooks.v1``: an SMS of a customer, by Vonage, or one part of a concatenated SMS."""

    TYPE: ClassVar[str] = "webhook.vonage_sms.v1"

    type: Literal["webhook.vonage_sms.v1"] = "webhook.vonage_sms.v1"


class VonageStatusWebhook(SmsCallback):
    """``webhooks.v1``: one delivery receipt of Vonage. Its field ``client-ref`` is the reference of the send."""

    TYPE: ClassVar[str] = "webhook.vonage_status.v1"

    type: Literal["webhook.vonage_status.v1"] = "webhook.vonage_status.v1"
