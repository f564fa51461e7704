"""What the portal reads from the environment."""

from typing import Any, Self

from pydantic import model_validator

from libs.common.portal_host import PortalOrigin, platform_origin
from libs.common.settings import PortalSettings, ProxySettings, RedisSettings, WorkerSettings

_LOOPBACK = "127.0.0.1"


class PortalServiceSettings(WorkerSettings, RedisSettings, PortalSettings, ProxySettings):
    """Without PORTAL_URL the portal listens on loopback alone, and serves the names of this machine."""

    @model_validator(mode="before")
    @classmethod
    def _loopback_alone(cls, given: dict[str, Any]) -> dict[str, Any]:
        return given if given.get("portal_url") else {**given, "http_host": _LOOPBACK, "portal_url": None}

    @model_validator(mode="after")
    def _portal_url_is_an_origin(self) -> Self:
        if self.portal_url is not None:
            try:
                platform_origin(self.portal_url)
            except ValueError as error:
                raise ValueError(f"TRANSOM_PORTAL_URL {error}") from None
        return self

    @property
    def platform(self) -> PortalOrigin | None:
        """The platform's own address of the portal."""
        return None if self.portal_url is None else platform_origin(self.portal_url)
