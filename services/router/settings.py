"""What the router is told by the environment."""

from libs.common.settings import (
    BridgeSettings,
    ConsumerSettings,
    PostgresSettings,
    RedisSettings,
    ServiceSettings,
    WindowSettings,
)


class RouterSettings(
    ServiceSettings, ConsumerSettings, PostgresSettings, RedisSettings, WindowSettings, BridgeSettings
):
    """The router's settings."""
