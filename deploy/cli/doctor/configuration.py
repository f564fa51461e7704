"""The check of the configuration: every service's settings, all faults at once, and what else the variables show.

Rule 1: the settings' own classes are the judges. Each is asked by itself too, because a class with one missing value
        says nothing about the rules between others.
Rule 2: a fault is told once, with the services that it stops.
Rule 3: a value counts from wherever settings take it: a variable, or the file that a variable with ``_FILE`` names.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar, get_args

from pydantic import SecretStr, ValidationError, create_model
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from deploy.cli.doctor import value_rules
from deploy.cli.doctor.findings import Finding
from deploy.cli.doctor.secrecy import Secrets
from libs.common.errors import ConfigurationError
from libs.common.printable import printable
from libs.common.settings import PREFIX, Settings, SmsAccountSettings, fault_of
from libs.common.settings.files import SUFFIX, values_of_files
from services.inbox.settings import InboxServiceSettings
from services.ingest.settings import IngestSettings
from services.portal.settings import PortalServiceSettings
from services.router.settings import RouterSettings
from services.sms_bridge.settings import SmsBridgeSettings
from services.whatsapp_sender.settings import WhatsappSenderSettings

SETTINGS: Mapping[str, type[Settings]] = {
    "ingest": IngestSettings,
    "router": RouterSettings,
    "whatsapp-sender": WhatsappSenderSettings,
    "sms-bridge": SmsBridgeSettings,
    "portal": PortalServiceSettings,
    "inbox": InboxServiceSettings,
}

ROLES: Mapping[str, str] = {"ingest-edge": "ingest", "ingest-worker": "ingest"}
"""Roles of a service that may have users of their own, by the service whose settings they have."""


def services_of(names: Sequence[str]) -> list[str]:
    """The services of these services and roles, each once."""
    return list(dict.fromkeys(ROLES.get(name, name) for name in names))


_OF_ONE_MACHINE = frozenset(
    {
        "SANDBOX_URL",
        "INGEST_URL",
        "ROUTER_URL",
        "WHATSAPP_SENDER_URL",
        "SMS_BRIDGE_URL",
        "PORTAL_SERVICE_URL",
        "INBOX_SERVICE_URL",
    }
)
"""What ``transom up`` writes into its file beside the settings."""
SettingsT = TypeVar("SettingsT", bound=Settings)
_NAMED = re.compile(rf"{PREFIX}[A-Z_]+")
_MISSING = "is required"


def fields() -> dict[str, Any]:
    """Every setting of any service, by its name in capitals without prefix."""
    return {name.upper(): info for settings in SETTINGS.values() for name, info in settings.model_fields.items()}


def secret_names() -> frozenset[str]:
    """The settings that hold a secret."""
    return frozenset(name for name, info in fields().items() if _is_secret(info.annotation))


def public_names() -> frozenset[str]:
    return frozenset(fields()) - secret_names()


def _is_secret(annotation: Any) -> bool:
    return annotation is SecretStr or any(_is_secret(part) for part in get_args(annotation))


@dataclass(frozen=True, slots=True)
class Variables:
    """The ``TRANSOM_`` variables, by name in capitals without prefix; ``files``: what is wrong with those by file."""

    values: Mapping[str, str] = field(repr=False)
    given: Mapping[str, str] = field(repr=False)
    """As the environment has them, names of files too."""
    files: tuple[Finding, ...] = ()

    @property
    def unreadable(self) -> frozenset[str]:
        return frozenset(one.subject.removeprefix(PREFIX).removesuffix(SUFFIX) for one in self.files)

    def secrets(self) -> Secrets:
        """What no output may hold."""
        return Secrets.of_variables({**self.given, **self.values}, public_names())

    def build(self, settings: type[SettingsT]) -> SettingsT | None:
        """These settings; None where they are wrong, or a file of theirs is: its default is not what was meant."""
        if not self.unreadable.isdisjoint(name.upper() for name in settings.model_fields):
            return None
        try:
            made: SettingsT = _of_values(settings)(**self._of(settings))
        except ValidationError:
            return None
        return made

    def faults(self, settings: type[Settings]) -> list[ErrorDetails]:
        """What these settings refuse, without values."""
        try:
            _of_values(settings)(**self._of(settings))
        except ValidationError as error:
            return error.errors(include_url=False, include_input=False, include_context=False)
        return []

    def _of(self, settings: type[Settings]) -> dict[str, str]:
        return {name: self.values[name.upper()] for name in settings.model_fields if name.upper() in self.values}


@cache
def _of_values(settings: type[Settings]) -> Any:
    """A class of the same settings, which takes the values that it is given and reads nothing else."""
    bases: Any = (_OfValues, settings)
    return create_model(settings.__name__, __base__=bases)


class _OfValues(Settings):
    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 -- the base class names it
        init_settings: PydanticBaseSettingsSource,
        *_others: PydanticBaseSettingsSource,
        **_more: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def read_variables(environ: Mapping[str, str]) -> Variables:
    """The variables of this environment, and the content of the files that they name."""
    given = {
        name.upper().removeprefix(PREFIX): value for name, value in environ.items() if name.upper().startswith(PREFIX)
    }
    values, faults = {name: value for name, value in given.items() if not name.endswith(SUFFIX)}, list[Finding]()
    for name in fields():
        if not (path := given.get(name + SUFFIX)):
            continue
        try:
            found = values_of_files([name.lower()], PREFIX, environ)
        except ConfigurationError as error:
            words = str(error).removeprefix("configuration: ").replace(f" {printable(path)},", " a file")
            faults.append(
                Finding(
                    "setting_file_bad",
                    f"{PREFIX}{name}{SUFFIX}",
                    f"{words}.",
                    "Mend the file or the variable; what the setting holds was not looked at.",
                )
            )
            continue
        values |= {field_name.upper(): value for field_name, value in found.items()}
    return Variables(values, given, tuple(faults))


def settings_faults(variables: Variables, services: Sequence[str]) -> Iterator[Finding]:
    """What the settings of these services refuse."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for service in services:
        for fault in dict.fromkeys(_faults(variables, SETTINGS[service])):
            found.setdefault(fault, []).append(service)
    required = {subject for code, subject, _ in found if code == "setting_missing"}
    for (code, subject, problem), of in found.items():
        if code == "setting_invalid" and subject in required:
            continue
        if subject.removeprefix(PREFIX) in variables.unreadable:
            continue
        whose = "every service" if len(of) == len(SETTINGS) else ", ".join(of)
        yield Finding(code, subject, problem, f"{_REMEDIES[code]} It stops: {whose}.")


_REMEDIES = {
    "setting_missing": "Set it; deploy/env.example says what it is.",
    "setting_invalid": "Correct it; deploy/env.example explains it.",
    "settings_contradict": "Change one of them; deploy/env.example explains both.",
}


def _faults(variables: Variables, settings: type[Settings]) -> Iterator[tuple[str, str, str]]:
    """(code, subject, problem) of every fault of a class and of those it is made of."""
    for one in settings.__mro__:
        if not issubclass(one, Settings):
            continue
        for detail in variables.faults(one):
            text = fault_of(detail)
            names = list(dict.fromkeys(_NAMED.findall(text)))
            if detail["type"] == "missing" or _MISSING in text or "must not be empty" in text:
                yield "setting_missing", names[0], f"{text[0].upper()}{text[1:]}."
            elif detail["loc"]:
                yield "setting_invalid", names[0], f"{_about(text, names[0])}."
            else:
                yield "settings_contradict", ", ".join(names) or "settings", f"{text[0].upper()}{text[1:]}."


def _about(text: str, name: str) -> str:
    rest = text.removeprefix(f"{name}: ")
    return f"{rest[:1].upper()}{rest[1:]}"


def look_at_configuration(variables: Variables, services: Sequence[str]) -> list[Finding]:
    """Every finding about the variables. ``services``: of services and roles."""
    values, services = variables.values, services_of(services)
    found = [
        *variables.files,
        *settings_faults(variables, services),
        *value_rules.unknown_variables(variables.given, frozenset(fields()), _OF_ONE_MACHINE),
        *value_rules.secret_values(values, secret_names() - {"SMS_ACCOUNTS", "POSTGRES_DSN", "REDIS_URL"}),
        *value_rules.passwords_in_clear(values),
        *value_rules.addresses(values, services),
        *value_rules.windows(values),
        *_sms(variables, services),
    ]
    return found or [Finding("configuration_good", "settings", f"The settings of {', '.join(services)} fit together.")]


def _sms(variables: Variables, services: Sequence[str]) -> Iterator[Finding]:
    settings = variables.build(SmsAccountSettings)
    if settings is None or not {"ingest", "sms-bridge"} & set(services):
        return
    accounts = settings.accounts
    if list(accounts) and accounts.of(None, None) is None:
        yield Finding(
            "sms_default_missing",
            value_rules.variable("SMS_PROVIDER"),
            f"The provider of organisations that name none is {accounts.default}, and it has no account of its own"
            " variables.",
            f"Set TRANSOM_SMS_PROVIDER to the other provider, or the account of {accounts.default}.",
        )
    for one in accounts:
        if not one.signing:
            yield Finding(
                "sms_signature_missing",
                f"account {one.key.name}",
                "It has no signature secret, so every callback of this account is refused.",
                "Set TRANSOM_VONAGE_SIGNATURE_SECRET, or signature_secrets in TRANSOM_SMS_ACCOUNTS.",
            )
