"""What the checks look at: the settings as far as they can be read, and the directory once PostgreSQL has given it.

A part that cannot be read is None. Its check then says that it looked at nothing, and the configuration's says why.
"""

import asyncio
import concurrent.futures
from collections.abc import Sequence
from dataclasses import dataclass, field

from deploy.cli.doctor.configuration import Variables, services_of
from deploy.cli.doctor.queries import SmsLine, WhatsappNumber
from deploy.cli.doctor.secrecy import Secrets
from libs.common.kafka.connection import KafkaConnection
from libs.common.providers.accounts import SmsAccounts
from libs.common.setting_types import texts_in
from libs.common.settings import (
    GraphUrlSettings,
    KafkaSettings,
    MetaWebhookSettings,
    PortalUrlSettings,
    PostgresSettings,
    PublicUrlSettings,
    RedisSettings,
    SignInSettings,
    SmsAccountSettings,
    SmsSettings,
    TemplateSettings,
)

DIRECTORY_SECONDS = 8.0
MOST = 2000
"""Rows of each kind that are read from the directory."""


@dataclass(frozen=True, slots=True)
class Directory:
    """What providers are asked about."""

    numbers: tuple[WhatsappNumber, ...] = ()
    lines: tuple[SmsLine, ...] = ()
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GraphAccess:
    """How the Graph API is asked. ``app_secrets`` prove that ingest knows the app's secret."""

    base_url: str
    version: str
    token: str = field(repr=False)
    app_secrets: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class SmsAccess:
    accounts: SmsAccounts
    twilio_base_url: str
    vonage_base_url: str


@dataclass(frozen=True, slots=True)
class SignIn:
    issuer: str | None
    keys_url: str | None


@dataclass(frozen=True)
class Site:
    """One installation, as this environment describes it. ``services``: the services and roles that it is for."""

    services: tuple[str, ...]
    secrets: Secrets
    kafka: KafkaConnection | None = None
    postgres_dsn: str | None = field(default=None, repr=False)
    postgres_pool_size: int = 8
    redis_url: str | None = field(default=None, repr=False)
    graph: GraphAccess | None = None
    sms: SmsAccess | None = None
    public_url: str | None = None
    portal_url: str | None = None
    inbox_url: str | None = None
    sign_in: SignIn | None = None
    promise: "concurrent.futures.Future[Directory | None]" = field(default_factory=concurrent.futures.Future)

    def give_directory(self, directory: Directory | None) -> None:
        """The directory as PostgreSQL has it. None: it could not be read. The first word counts."""
        if not self.promise.done():
            self.promise.set_result(directory)

    async def directory(self) -> Directory | None:
        """The directory once it is read. None where that is not so in time."""
        waiting = asyncio.wrap_future(self.promise)
        done, _ = await asyncio.wait({waiting}, timeout=DIRECTORY_SECONDS)
        return waiting.result() if done else None

    @property
    def reads_directory(self) -> bool:
        """Whether the services' role may read it. The edge's may not, and needs nothing of it."""
        return set(self.services) != {"ingest-edge"}

    def serves(self, *services: str) -> bool:
        """Whether this environment is for one of them."""
        return bool(set(services) & set(services_of(self.services)))


def site_of(services: Sequence[str], variables: Variables) -> Site:
    """What these variables describe, as far as they can be read."""
    read = variables.build
    kafka, postgres, redis = read(KafkaSettings), read(PostgresSettings), read(RedisSettings)
    public, portal = read(PublicUrlSettings), read(PortalUrlSettings)
    sign_in = read(SignInSettings)
    return Site(
        services=tuple(dict.fromkeys(services)),
        secrets=variables.secrets(),
        kafka=None if kafka is None else kafka.kafka_connection("transom-doctor"),
        postgres_dsn=None if postgres is None else postgres.postgres_dsn.get_secret_value(),
        postgres_pool_size=8 if postgres is None else postgres.postgres_pool_size,
        redis_url=None if redis is None else redis.redis_url.get_secret_value(),
        graph=_graph(variables),
        sms=_sms(variables),
        public_url=None if public is None or public.public_url is None else str(public.public_url),
        portal_url=None if portal is None or portal.portal_url is None else str(portal.portal_url),
        inbox_url=None if sign_in is None or sign_in.inbox_url is None else str(sign_in.inbox_url),
        sign_in=None if sign_in is None else SignIn(sign_in.oidc_issuer, sign_in.jwks_url),
    )


def _graph(variables: Variables) -> GraphAccess | None:
    read = variables.build
    urls, templates, webhooks = read(GraphUrlSettings), read(TemplateSettings), read(MetaWebhookSettings)
    if urls is None or templates is None:
        return None
    return GraphAccess(
        urls.graph_base_url,
        urls.graph_version,
        templates.whatsapp_token.get_secret_value().strip(),
        () if webhooks is None else texts_in(webhooks.meta_app_secrets),
    )


def _sms(variables: Variables) -> SmsAccess | None:
    read = variables.build
    accounts, urls = read(SmsAccountSettings), read(SmsSettings)
    if accounts is None:
        return None
    if urls is None:  # there is no account, which is told; the addresses do not matter
        return SmsAccess(accounts.accounts, "", "")
    return SmsAccess(accounts.accounts, urls.twilio_base_url, urls.vonage_base_url)
