"""What the providers' consoles say about the accounts: the app at Meta, numbers and accounts for SMS. No I/O.

At the start everything is as it should be: tokens have every scope, every account has subscribed the app, webhooks lead
to where the sandbox posts them, and every SMS number exists. The control API makes it otherwise.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict

FIELDS = (
    "messages",
    "calls",
    "standby",
    "smb_message_echoes",
    "user_preferences",
    "message_template_status_update",
    "message_template_quality_update",
    "message_template_components_update",
    "template_category_update",
)


class MetaApp(BaseModel):
    """The app, and what its system user's tokens may do. ``callback_url`` None: where the sandbox posts webhooks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    app_id: str = "670843887433847"
    name: str = "Sandbox"
    scopes: tuple[str, ...] = ("whatsapp_business_management", "whatsapp_business_messaging", "public_profile")
    expires_at: int = 0
    """Unix seconds; 0: never, as of a system user's token without an end."""
    only_accounts: tuple[str, ...] | None = None
    """The accounts that the scopes are granted for. None: all."""
    object_subscribed: bool = True
    """Whether the app has a webhook for WhatsApp at all."""
    active: bool = True
    fields: tuple[str, ...] = FIELDS
    callback_url: str | None = None
    unsubscribed_accounts: tuple[str, ...] = ()


class SmsNumber(BaseModel):
    """A number at Twilio or Vonage. ``webhook_url`` None: where the sandbox posts customers' SMS."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    exists: bool = True
    sms: bool = True
    webhook_url: str | None = None


class SmsAccount(BaseModel):
    """The account at Twilio, and Vonage's balance."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    status: Literal["active", "suspended", "closed"] = "active"
    type: Literal["Full", "Trial"] = "Full"
    balance: float = 15.5
    currency: str = "USD"
    """In which Twilio tells prices (ISO 4217)."""
    messaging_service_exists: bool = True
    inbound_request_url: str | None = None
    """The Messaging Service's own webhook. None: it leaves customers' SMS to the webhook of the number."""
