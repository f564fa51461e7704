"""What the SMS bridge reads from the environment."""

from typing import Self

from pydantic import model_validator

from libs.common.settings import (
    BridgeSettings,
    PortalSettings,
    PublicUrlSettings,
    RedisSettings,
    SendSettings,
    SmsSettings,
    TwilioSettings,
    WindowSettings,
    WorkerSettings,
)


class SmsBridgeSettings(
    WorkerSettings,
    RedisSettings,
    WindowSettings,
    BridgeSettings,
    SendSettings,
    PublicUrlSettings,
    SmsSettings,
    TwilioSettings,
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
