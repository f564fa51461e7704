"""The settings of portal and inbox: their addresses, their keys, and who may sign in."""

from datetime import timedelta
from typing import Annotated, Self

from pydantic import Field, SecretStr, model_validator

from libs.common.portal_host import PortalOrigin, platform_origin
from libs.common.setting_types import (
    Issuers,
    LinkKeys,
    OptionalPortalUrl,
    OptionalText,
    OptionalUrl,
    PortalUrl,
    SigningKeys,
    secrets_in,
)
from libs.common.settings.base import PREFIX, Settings
from libs.common.settings.timing import BridgeSettings

_LINK_MARGIN = timedelta(days=1)


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


class SignInSettings(Settings):
    """How people and programs prove to the inbox who they are: signed tokens, and OpenID Connect.

    Audience and issuer are checked where they are set. They are required beside an identity provider: without them
    any token that it signs for anybody would do.
    """

    inbox_url: OptionalPortalUrl = None
    jwt_keys: SigningKeys = SecretStr("")
    jwks_url: OptionalUrl = None
    jwt_audience: OptionalText = None
    jwt_issuer: OptionalText = None
    oidc_issuer: OptionalUrl = None
    oidc_client_id: OptionalText = None
    oidc_client_secret: SecretStr = SecretStr("")
    oidc_tenant_claim: Annotated[str, Field(min_length=1, max_length=200)] = "tenant"
    full_access_issuers: Issuers = ""

    @model_validator(mode="after")
    def _tokens_can_be_checked(self) -> Self:
        if not secrets_in(self.jwt_keys) and self.jwks_url is None and self.oidc_issuer is None:
            raise ValueError(f"{PREFIX}JWT_KEYS is required: set it, or {PREFIX}JWKS_URL or {PREFIX}OIDC_ISSUER")
        provider = "JWKS_URL" if self.jwks_url is not None else "OIDC_ISSUER" if self.oidc_issuer is not None else None
        if provider is not None:
            for name, value in (("JWT_AUDIENCE", self.jwt_audience), ("JWT_ISSUER", self.jwt_issuer)):
                if value is None:
                    raise ValueError(f"{PREFIX}{name} is required: set it, because {PREFIX}{provider} is set")
        return self

    @model_validator(mode="after")
    def _sign_in_is_whole(self) -> Self:
        if self.oidc_issuer is None:
            return self
        for name, value in (("OIDC_CLIENT_ID", self.oidc_client_id), ("INBOX_URL", self.inbox_url)):
            if value is None:
                raise ValueError(f"{PREFIX}{name} is required: set it, because {PREFIX}OIDC_ISSUER is set")
        if self.oidc_issuer.startswith("http://") and not self.is_local:
            raise ValueError(f"{PREFIX}OIDC_ISSUER is on this machine, so {PREFIX}INBOX_URL must be so too")
        return self

    @property
    def inbox(self) -> PortalOrigin | None:
        """The address by which people reach the inbox. None: this machine alone."""
        return None if self.inbox_url is None else platform_origin(self.inbox_url)

    @property
    def is_local(self) -> bool:
        """Whether the inbox is reached on this machine alone."""
        return self.inbox is None or self.inbox.scheme == "http"

    @property
    def issuers_of_full_access(self) -> frozenset[str]:
        """The issuers whose tokens may give every capability by ``*``."""
        return frozenset(issuer.strip().rstrip("/") for issuer in self.full_access_issuers.split(",") if issuer.strip())
