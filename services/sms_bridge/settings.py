"""What the SMS bridge reads from the environment."""

from datetime import timedelta
from typing import Self

from pydantic import model_validator

from libs.common.events.directory import SmsProviderName
from libs.common.sending.outcomes import Timings
from libs.common.settings import (
    PortalSettings,
    PublicUrlSettings,
    RedisSettings,
    SendSettings,
    SmsSettings,
    WindowSettings,
    WorkerSettings,
)
from services.sms_bridge.effects import BridgeConfig
from services.sms_bridge.providers.opening import ProviderConfig

_LOOK = timedelta(minutes=2)
"""A send of unknown outcome is looked for this often at least. Each look reads lists of the provider."""


class SmsBridgeSettings(
    WorkerSettings,
    RedisSettings,
    WindowSettings,
    SendSettings,
    PublicUrlSettings,
    SmsSettings,
    PortalSettings,
):
    """Without PUBLIC_URL no status callback is asked for, and an SMS stays pending.

    Without PORTAL_URL only organisations with a portal host of their own can be bridged.
    """

    @model_validator(mode="after")
    def _lease_grace(self) -> Self:
        if not self.send_lease_seconds < self.sms_grace_seconds:
            raise ValueError("TRANSOM_SEND_LEASE_SECONDS < TRANSOM_SMS_GRACE_SECONDS must hold")
        return self

    @property
    def timings(self) -> Timings:
        """The clockwork of this sender."""
        return Timings(timeout=self.send_timeout, lease=self.send_lease, grace=self.sms_grace, look=_LOOK)

    @property
    def provider_config(self) -> ProviderConfig:
        """How the providers are called."""
        base_urls: dict[SmsProviderName, str] = {"twilio": self.twilio_base_url, "vonage": self.vonage_base_url}
        return ProviderConfig(base_urls, self.public_url, self.send_timeout_seconds)

    @property
    def bridge_config(self) -> BridgeConfig:
        """The settings of a bridge."""
        return BridgeConfig(
            window_length=self.window_length,
            window_doubt=self.window_doubt,
            hold=self.bridge_hold,
            link_life=self.portal_link_life,
            portal_host=self.portal_url,
        )
