"""What the inbox reads from the environment."""

from typing import Annotated, Any

from pydantic import Field, model_validator

from libs.common.settings import (
    ClosingSettings,
    ProxySettings,
    SignInSettings,
    TemplateSettings,
    WindowSettings,
    WorkerSettings,
)

_LOOPBACK = "127.0.0.1"


class InboxServiceSettings(
    WorkerSettings, WindowSettings, ClosingSettings, SignInSettings, ProxySettings, TemplateSettings
):
    """Without INBOX_URL the inbox listens on loopback alone, and serves the names of this machine.

    A task may hold one connection and need another (``touched.py``).
    """

    postgres_pool_size: Annotated[int, Field(ge=2)] = 8

    @model_validator(mode="before")
    @classmethod
    def _loopback_alone(cls, given: dict[str, Any]) -> dict[str, Any]:
        return given if given.get("inbox_url") else {**given, "http_host": _LOOPBACK}
