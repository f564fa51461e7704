"""What the router is told by the environment."""

from libs.common.settings import (
    BridgeSettings,
    ConsumerSettings,
    PostgresSettings,
    ReconcileSettings,
    RedisSettings,
    ServiceSettings,
    WindowSettings,
)


class RouterSettings(
    ServiceSettings,
    ConsumerSettings,
    PostgresSettings,
    RedisSettings,
    WindowSettings,
    BridgeSettings,
    ReconcileSettings,
):
    """The router's settings."""
