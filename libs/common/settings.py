"""Settings: environment variables, read once, typed and frozen.

A service composes its own class from the mixins below (``class RouterSettings(KafkaSettings, PostgresSettings, …)``)
and ``load``s it in its ``app.py``. Every variable is ``TRANSOM_`` and the field's name in capitals.
``deploy/env.example`` lists them all with their meaning. Unknown variables are ignored. A secret is a ``SecretStr``, so
it prints as stars.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Literal, Self, TypeVar

from pydantic import Field, PositiveFloat, PositiveInt, SecretStr, ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from libs.common.errors import ConfigurationError
from libs.common.events.directory import SmsProviderName
from libs.common.kafka.connection import KafkaConnection
from libs.common.portal_host import platform_origin
from libs.common.providers.accounts import SmsAccount, SmsAccounts, account_of, read_accounts
from libs.common.setting_types import (
    AdminPort,
    BaseUrl,
    Instance,
    LinkKeys,
    PortalUrl,
    ProviderUrl,
    RequiredSecret,
    secrets_in,
    texts_in,
)

PREFIX = "TRANSOM_"
_LINK_MARGIN = timedelta(days=1)

SettingsT = TypeVar("SettingsT", bound="Settings")


class Settings(BaseSettings):
    """The base of all settings: frozen, from the environment alone, no values in its errors."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", hide_input_in_errors=True)


class LogSettings(Settings):
    log_format: Literal["json", "console"] = "json"
    log_level: Literal["debug", "info", "warning", "error"] = "info"


class HttpSettings(Settings):
    """The addresses at which a service answers ``/livez``, ``/readyz``, ``/metrics`` and its own routes.

    ``admin_port`` moves ``/metrics`` to ``PORT`` (on loopback) or ``HOST:PORT``.
    """

    http_host: str = "0.0.0.0"
    http_port: Annotated[int, Field(ge=0, le=65535)] = 8080
    admin_port: AdminPort = None
    drain_seconds: PositiveFloat = 25.0


class ServiceSettings(LogSettings, HttpSettings):
    """The settings of every service; the base of each service's own settings."""


class KafkaSettings(Settings):
    kafka_bootstrap: Annotated[str, Field(min_length=1)] = "localhost:9092"
    topic_prefix: str = ""
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    kafka_sasl_username: str | None = None
    kafka_sasl_password: SecretStr | None = None
    kafka_ssl_cafile: str | None = None

    @model_validator(mode="after")
    def _sasl_is_complete(self) -> Self:
        if self.kafka_security_protocol.startswith("SASL") and not (
            self.kafka_sasl_username and self.kafka_sasl_password
        ):
            raise ValueError(
                "TRANSOM_KAFKA_SECURITY_PROTOCOL asks for SASL: "
                "set TRANSOM_KAFKA_SASL_USERNAME and TRANSOM_KAFKA_SASL_PASSWORD"
            )
        return self

    def kafka_connection(self, client_id: str) -> KafkaConnection:
        """The connection to the brokers, with this client id."""
        sasl = self.kafka_security_protocol.startswith("SASL")
        password = self.kafka_sasl_password
        return KafkaConnection(
            bootstrap=self.kafka_bootstrap,
            topic_prefix=self.topic_prefix,
            security_protocol=self.kafka_security_protocol,
            sasl_mechanism=self.kafka_sasl_mechanism if sasl else None,
            sasl_username=self.kafka_sasl_username if sasl else None,
            sasl_password=password.get_secret_value() if sasl and password else None,
            ssl_cafile=self.kafka_ssl_cafile,
            client_id=client_id,
        )


class ConsumerSettings(KafkaSettings):
    """A consumer: the size of its batches, and how many dead letters in a row stop a partition.

    ``instance`` is a name of this process alone that it has again after a restart, such as that of a pod of a
    StatefulSet.
    """

    batch_records: PositiveInt = 500
    dlq_run_limit: PositiveInt = 100
    instance: Instance = None


class PostgresSettings(Settings):
    postgres_dsn: SecretStr = SecretStr("postgresql://localhost/transom")
    postgres_pool_size: PositiveInt = 8
    postgres_timeout_seconds: PositiveFloat = 2.0


class WorkerSettings(ServiceSettings, ConsumerSettings, PostgresSettings):
    """The settings of every service with Kafka and PostgreSQL."""


class RedisSettings(Settings):
    redis_url: SecretStr = SecretStr("redis://localhost:6379/0")


class WindowSettings(Settings):
    """The customer service window. A sandbox may make it short."""

    window_seconds: PositiveFloat = 86400.0
    window_margin_seconds: Annotated[float, Field(ge=0)] = 0.0
    window_doubt_seconds: Annotated[float, Field(ge=0)] = 300.0
    reaction_opens_window: bool = False

    @model_validator(mode="after")
    def _margin_inside_window(self) -> Self:
        if self.window_margin_seconds >= self.window_seconds:
            raise ValueError("TRANSOM_WINDOW_MARGIN_SECONDS must be smaller than TRANSOM_WINDOW_SECONDS")
        return self

    @property
    def window_length(self) -> timedelta:
        return timedelta(seconds=self.window_seconds)

    @property
    def window_doubt(self) -> timedelta:
        return timedelta(seconds=self.window_doubt_seconds)

    @property
    def window_margin(self) -> timedelta:
        return timedelta(seconds=self.window_margin_seconds)


class BridgeSettings(Settings):
    bridge_hold_seconds: PositiveFloat = 86400.0

    @property
    def bridge_hold(self) -> timedelta:
        return timedelta(seconds=self.bridge_hold_seconds)


class ReconcileSettings(Settings):
    """When a command without a send, or a refusal without a decision, counts as lost."""

    reconcile_seconds: PositiveFloat = 60.0

    @property
    def reconcile_after(self) -> timedelta:
        return timedelta(seconds=self.reconcile_seconds)


class SendSettings(Settings):
    """A provider call ends before its claim's lease. The lease ends before evidence settles the claim."""

    send_timeout_seconds: PositiveFloat = 10.0
    send_lease_seconds: PositiveFloat = 20.0
    send_grace_seconds: PositiveFloat = 30.0
    send_settling_seconds: PositiveFloat = 300.0

    @model_validator(mode="after")
    def _timeout_lease_grace(self) -> Self:
        if not self.send_timeout_seconds < self.send_lease_seconds < self.send_grace_seconds:
            raise ValueError(
                "TRANSOM_SEND_TIMEOUT_SECONDS < TRANSOM_SEND_LEASE_SECONDS < TRANSOM_SEND_GRACE_SECONDS must hold"
            )
        return self

    @property
    def send_timeout(self) -> timedelta:
        return timedelta(seconds=self.send_timeout_seconds)

    @property
    def send_lease(self) -> timedelta:
        return timedelta(seconds=self.send_lease_seconds)

    @property
    def send_grace(self) -> timedelta:
        return timedelta(seconds=self.send_grace_seconds)

    @property
    def send_settling(self) -> timedelta:
        """How long after an outage of an evidence source a grace begins: providers retry with growing waits."""
        return timedelta(seconds=self.send_settling_seconds)


class PublicUrlSettings(Settings):
    """The public URL of ingest, for callbacks and signatures. The Host header is not used."""

    public_url: BaseUrl | None = None


class MetaWebhookSettings(Settings):
    """The secrets that authenticate Meta's webhooks."""

    meta_app_secrets: RequiredSecret
    meta_verify_token: RequiredSecret


class GraphSettings(Settings):
    """The address, version and token of the Graph API."""

    graph_base_url: ProviderUrl = "https://graph.facebook.com"
    graph_version: Annotated[str, Field(pattern=r"^v\d+\.\d+$")] = "v26.0"
    whatsapp_token: RequiredSecret


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
    """

    twilio_base_url: ProviderUrl = "https://api.twilio.com"
    vonage_base_url: ProviderUrl = "https://rest.nexmo.com"
    sms_grace_seconds: PositiveFloat = 900.0

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


class PortalUrlSettings(Settings):
    """How customers reach the portal: an origin alone, in the one spelling of ``libs.common.portal_host``."""

    portal_url: PortalUrl | None = None

    @property
    def portal_host(self) -> str | None:
        """The host of the platform's links."""
        return None if self.portal_url is None else platform_origin(self.portal_url).host


class PortalSettings(PortalUrlSettings, BridgeSettings):
    """The portal's address, and the keys of its links, sessions and forms.

    A link opens until a day after the hold of its bridge: until then no other SMS brings a fresh one.
    """

    portal_link_keys: LinkKeys

    @property
    def portal_link_life(self) -> timedelta:
        return self.bridge_hold + _LINK_MARGIN


class ProxySettings(Settings):
    """How many proxies in front of a service may name the client's address, each behind the one before it."""

    trusted_proxies: Annotated[int, Field(ge=0, le=16)] = 0


def load(settings: Callable[[], SettingsT]) -> SettingsT:
    """Build the settings from the environment.

    Raises ConfigurationError: one line that names each wrong variable and how to mend it, never a value.
    """
    try:
        return settings()
    except ValidationError as error:
        faults = "; ".join(_fault(detail) for detail in error.errors(include_url=False, include_input=False))
        raise ConfigurationError(
            f"configuration: {faults} (every variable is explained in deploy/env.example)"
        ) from None


def _fault(detail: ErrorDetails) -> str:
    message = detail["msg"].removeprefix("Value error, ")
    if not detail["loc"]:
        return message  # a rule between variables; its message names them
    variable = f"{PREFIX}{detail['loc'][0]}".upper()
    if detail["type"] == "missing":
        return f"{variable} is required: set it"
    return f"{variable}: {message[:1].lower()}{message[1:]}"
