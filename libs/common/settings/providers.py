"""The settings of Meta and of the SMS providers: addresses, accounts, secrets."""

from datetime import timedelta
from typing import Annotated, Self

from pydantic import Field, SecretStr, model_validator

from libs.common.events.directory import SmsProviderName
from libs.common.providers.accounts import SmsAccount, SmsAccounts, account_of, read_accounts
from libs.common.setting_types import (
    BaseUrl,
    InFlight,
    ProviderUrl,
    RequiredSecret,
    RequiredToken,
    Seconds,
    StrippedSecret,
    Token,
    secrets_in,
    texts_in,
)
from libs.common.settings.base import PREFIX, Settings


class PublicUrlSettings(Settings):
    """The public URL of ingest, for callbacks and signatures. The Host header is not used."""

    public_url: BaseUrl | None = None


class MetaWebhookSettings(Settings):
    """The secrets that authenticate Meta's webhooks."""

    meta_app_secrets: RequiredSecret
    meta_verify_token: StrippedSecret


class GraphUrlSettings(Settings):
    """Where Meta's Graph API is."""

    graph_base_url: ProviderUrl = "https://graph.facebook.com"
    graph_version: Annotated[str, Field(pattern=r"^v\d+\.\d+$")] = "v26.0"


class GraphSettings(GraphUrlSettings):
    """Meta's Graph API, for sending. A number may carry its own token.

    ``whatsapp_in_flight``: calls of one process at once, each with a connection of its own.
    """

    whatsapp_token: RequiredToken
    whatsapp_in_flight: InFlight = 1024


class TemplateSettings(GraphUrlSettings):
    """Templates at Meta. Without the platform's token only accounts whose numbers carry their own are read.

    Each account is read every ``template_sync_seconds``, give or take a tenth.
    """

    whatsapp_token: Token = SecretStr("")
    template_sync_seconds: Seconds = 3600.0

    @property
    def template_sync(self) -> timedelta:
        return timedelta(seconds=self.template_sync_seconds)


class SmsAccountSettings(Settings):
    """The accounts at SMS providers: those of SMS_ACCOUNTS by name, and one for each provider by its own variables.

    Of several secrets the first authenticates our requests. A provider may sign its own with any of them.
    """

    sms_provider: SmsProviderName = "twilio"
    sms_accounts: SecretStr = SecretStr("")
    twilio_account_sid: Annotated[str, Field(pattern=r"^[A-Za-z0-9]{0,64}$")] = ""
    twilio_auth_tokens: SecretStr = SecretStr("")
    twilio_messaging_service: Annotated[str, Field(pattern=r"^[A-Za-z0-9]{0,64}$")] = ""
    vonage_api_key: Annotated[str, Field(pattern=r"^[A-Za-z0-9]{0,64}$")] = ""
    vonage_api_secret: SecretStr = SecretStr("")
    vonage_signature_secret: SecretStr = SecretStr("")

    @model_validator(mode="after")
    def _accounts_are_whole(self) -> Self:
        pairs = (
            ("TWILIO_ACCOUNT_SID", self.twilio_account_sid, "TWILIO_AUTH_TOKENS", self.twilio_auth_tokens),
            ("VONAGE_API_KEY", self.vonage_api_key, "VONAGE_API_SECRET", self.vonage_api_secret),
        )
        for account, id_, credentials, given in pairs:
            if bool(id_) != bool(secrets_in(given)):
                missing, there = (credentials, account) if id_ else (account, credentials)
                raise ValueError(f"{PREFIX}{missing} is required: set it, because {PREFIX}{there} is set")
        try:
            read_accounts(self.sms_accounts.get_secret_value())
        except ValueError as error:
            raise ValueError(f"{PREFIX}SMS_ACCOUNTS: {error}") from None
        return self

    @property
    def accounts(self) -> SmsAccounts:
        """All of them."""
        single: dict[SmsProviderName, SmsAccount] = {}
        if tokens := texts_in(self.twilio_auth_tokens):
            service = self.twilio_messaging_service or None
            single["twilio"] = account_of("twilio", self.twilio_account_sid, tokens, messaging_service=service)
        if tokens := texts_in(self.vonage_api_secret):
            signing = texts_in(self.vonage_signature_secret)
            single["vonage"] = account_of("vonage", self.vonage_api_key, tokens, signature_secrets=signing)
        return SmsAccounts(self.sms_provider, single, read_accounts(self.sms_accounts.get_secret_value()))


class SmsSettings(SmsAccountSettings):
    """The SMS bridge's side of the providers.

    A missing record is evidence only after the grace, because a provider's list may be minutes late.
    ``sms_in_flight``: calls of one process at once. Twilio limits how many of one account may run.
    """

    twilio_base_url: ProviderUrl = "https://api.twilio.com"
    vonage_base_url: ProviderUrl = "https://rest.nexmo.com"
    sms_grace_seconds: Seconds = 900.0
    sms_in_flight: InFlight = 160

    @model_validator(mode="after")
    def _some_account(self) -> Self:
        if not list(self.accounts):
            raise ValueError(
                f"{PREFIX}TWILIO_ACCOUNT_SID is required: set it and its tokens, or another account"
                f" ({PREFIX}VONAGE_API_KEY, {PREFIX}SMS_ACCOUNTS)"
            )
        return self

    @property
    def sms_grace(self) -> timedelta:
        return timedelta(seconds=self.sms_grace_seconds)
