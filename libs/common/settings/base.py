"""The base of all settings, and how they are read: from variables, or from the files that variables name."""

from collections.abc import Callable
from typing import TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from libs.common.errors import ConfigurationError
from libs.common.settings.files import FileSource

PREFIX = "TRANSOM_"

SettingsT = TypeVar("SettingsT", bound="Settings")


class Settings(BaseSettings):
    """The base of all settings: frozen, from the environment alone, no values in its errors."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", hide_input_in_errors=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 -- the base class names it
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 -- see above
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Files stand before variables, so that an empty variable beside a file does not count."""
        return init_settings, FileSource(settings_cls), env_settings


def load(settings: Callable[[], SettingsT]) -> SettingsT:
    """Build the settings from the environment.

    Raises ConfigurationError: one line that names each wrong variable and how to mend it, never a value.
    """
    try:
        return settings()
    except ValidationError as error:
        faults = "; ".join(fault_of(detail) for detail in error.errors(include_url=False, include_input=False))
        raise ConfigurationError(
            f"configuration: {faults} (every variable is explained in deploy/env.example)"
        ) from None


def fault_of(detail: ErrorDetails) -> str:
    """One fault of settings in words: which variable, and how to mend it. It never holds a value."""
    message = detail["msg"].removeprefix("Value error, ")
    if not detail["loc"]:
        return message  # a rule between variables; its message names them
    variable = f"{PREFIX}{detail['loc'][0]}".upper()
    if detail["type"] == "missing":
        return f"{variable} is required: set it, or {variable}_FILE"
    return f"{variable}: {message[:1].lower()}{message[1:]}"
