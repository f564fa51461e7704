"""The types of settings whose values have a form. A value of another form raises ValueError, never with the value."""

import re
from ipaddress import ip_address
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, PositiveFloat, SecretStr

from libs.common.bridge.portal_keys import KEY_BYTES
from libs.common.portal_host import platform_origin

_PORT_MOST = 65_535
_INSTANCE = re.compile(r"[A-Za-z0-9._-]{1,200}")  # the valid names of a member at Kafka
_BLANK = re.compile(r"[\s\x00-\x1f\x7f#]")
_LONGEST_SECONDS = 366 * 24 * 3600


def _non_empty(secret: SecretStr) -> SecretStr:
    if not secret.get_secret_value().strip(" ,"):
        raise ValueError("must not be empty")
    return secret


def _stripped(secret: SecretStr) -> SecretStr:
    return SecretStr(secret.get_secret_value().strip())


def _for_a_header(secret: SecretStr) -> SecretStr:
    if any(not "!" <= letter <= "~" for letter in secret.get_secret_value()):
        raise ValueError("must be one word of ASCII letters, digits and signs, because it goes into a header")
    return secret


def _base_url(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ValueError("must begin with http:// or https://")
    if _BLANK.search(url):
        raise ValueError("must be an address alone: without blanks, line ends and a # in it")
    try:
        parts = urlsplit(url)
        named = bool(parts.hostname) and parts.port != 0
    except ValueError:  # its message would quote the address
        named = False
    if not named:
        raise ValueError("must name a host, and where there is a port a number from 1 to 65535")
    return url.rstrip("/")


def _portal_url(url: str) -> str:
    return str(platform_origin(url))


def _set(text: str | None) -> str | None:
    return text or None


def _provider_url(url: str) -> str:
    if url.startswith("http://") and not is_loopback(urlsplit(url).hostname or ""):
        raise ValueError(
            "must begin with https://: over http:// a token goes in clear, so only a loopback address has it"
        )
    return url


def provider_url(url: str) -> str:
    """The URL, without a slash at its end: https, or http on a loopback address. Raises ValueError for any other."""
    return _provider_url(_base_url(url))


def _admin_port(text: str | None) -> str | None:
    if not text:
        return None
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or not port.isascii() or int(port) > _PORT_MOST:
        raise ValueError("must be a port, which is then on loopback, or host:port")
    return f"{host or '127.0.0.1'}:{port}"


def _instance(name: str | None) -> str | None:
    if not name:
        return None
    if not _INSTANCE.fullmatch(name):
        raise ValueError("must be at most 200 letters, digits, dots, dashes and underscores")
    return name


def is_loopback(host: str) -> bool:
    """Whether this is ``localhost`` or an address of this machine alone."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _long_keys(joined: SecretStr) -> SecretStr:
    keys = secrets_in(joined)
    if not keys or any(len(key) < KEY_BYTES for key in keys):
        raise ValueError(f"each key must have at least {KEY_BYTES} bytes, for example from: openssl rand -hex 32")
    return joined


def _signing_keys(joined: SecretStr) -> SecretStr:
    return _long_keys(joined) if joined.get_secret_value() else joined


def _issuers(joined: str) -> str:
    for issuer in joined.split(","):
        if issuer.strip():
            provider_url(issuer.strip())
    return joined


RequiredSecret = Annotated[SecretStr, AfterValidator(_non_empty)]
StrippedSecret = Annotated[SecretStr, AfterValidator(_stripped), AfterValidator(_non_empty)]
"""A secret that is compared as it is. Blanks and line ends around it do not count."""
Token = Annotated[SecretStr, AfterValidator(_stripped), AfterValidator(_for_a_header)]
"""A secret that goes into a header as it is, or none."""
RequiredToken = Annotated[Token, AfterValidator(_non_empty)]
Seconds = Annotated[PositiveFloat, Field(le=_LONGEST_SECONDS)]
"""A length of time. One of more than a year is a slip, and time that is counted with it may have no date."""
SecondsFromZero = Annotated[float, Field(ge=0, le=_LONGEST_SECONDS)]
BaseUrl = Annotated[str, AfterValidator(_base_url)]
ProviderUrl = Annotated[BaseUrl, AfterValidator(_provider_url)]
"""A URL that our tokens are sent to."""
PortalUrl = Annotated[str, AfterValidator(_portal_url)]
AdminPort = Annotated[str | None, AfterValidator(_admin_port)]
Instance = Annotated[str | None, AfterValidator(_instance)]
InFlight = Annotated[int, Field(ge=8, le=16_384)]
"""How many calls to a provider may run at once."""
LinkKeys = Annotated[RequiredSecret, AfterValidator(_long_keys)]
SigningKeys = Annotated[SecretStr, AfterValidator(_signing_keys)]
"""Keys as ``LinkKeys``, or none."""
Issuers = Annotated[str, AfterValidator(_issuers)]
"""Addresses of identity providers, joined by commas, or none."""
OptionalUrl = Annotated[ProviderUrl | None, BeforeValidator(_set)]
OptionalPortalUrl = Annotated[PortalUrl | None, BeforeValidator(_set)]
OptionalText = Annotated[str | None, BeforeValidator(_set)]
"""An empty variable counts as none."""


def secrets_in(joined: SecretStr) -> tuple[bytes, ...]:
    """The secrets of a comma-separated variable in their order, as bytes.

    Several are valid while one replaces another.
    """
    return tuple(part.strip().encode() for part in joined.get_secret_value().split(",") if part.strip())


def texts_in(joined: SecretStr) -> tuple[str, ...]:
    return tuple(part.decode() for part in secrets_in(joined))
