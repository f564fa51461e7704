"""The settings of the router."""

from libs.common.settings import BridgeSettings, ReconcileSettings, RedisSettings, WindowSettings, WorkerSettings


class RouterSettings(WorkerSettings, RedisSettings, WindowSettings, BridgeSettings, ReconcileSettings):
    """The router's settings."""
