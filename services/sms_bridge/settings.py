"""What the SMS bridge reads from the environment."""

from libs.common.settings import (
    BridgeSettings,
    ConsumerSettings,
    PortalSettings,
    PostgresSettings,
    PublicUrlSettings,
    RedisSettings,
    SendSettings,
    ServiceSettings,
    SmsSettings,
    TwilioSettings,
    WindowSettings,
)


class SmsBridgeSettings(
    ServiceSettings,
    ConsumerSettings,
    PostgresSettings,
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
