"""Where the portal is: the host of an organisation's links, and the origin in PORTAL_URL. Pure.

Rule 1: a host has one spelling. The SMS writes it, and the portal compares the Host header with it byte by byte.
Rule 2: an international name is encoded by IDNA 2008 (UTS 46, not transitional), as browsers do. By IDNA 2003
        ``straße.de`` would be ``strasse.de``, the domain of somebody else.
Rule 3: an organisation names a host of the internet: no scheme, no path, no address of numbers, no port. A port is for
        ``localhost`` and ``*.localhost`` alone, which need one. The hosts of WhatsApp are nobody's portal.
Rule 4: a host has at most 60 characters with its port. So a bridge SMS always has room for both links and a name.
"""

import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal
from urllib.parse import urlsplit

import idna

MOST_CHARACTERS = 60
_PORT_MOST = 65_535
_NUMERIC = re.compile(r"[0-9]+|0x[0-9a-f]*")
"""The last label of what browsers read as an IPv4 address, also in its short and hexadecimal forms."""
_OF_WHATSAPP = ("wa.me", "whatsapp.com", "whatsapp.net")


@dataclass(frozen=True, slots=True)
class PortalOrigin:
    """The scheme and the host of a portal. ``host`` is the Host header of its requests, with the port where it has one.

    ``scheme`` is http on this machine alone.
    """

    scheme: Literal["https", "http"]
    host: str

    def __str__(self) -> str:
        """The origin as browsers send it."""
        return f"{self.scheme}://{self.host}"


def organisation_host(raw: str) -> str:
    """The one spelling of an organisation's portal host. Raises ValueError with what is wrong, never with the value."""
    if len(raw) > 4 * MOST_CHARACTERS:
        raise ValueError(f"a host has at most {MOST_CHARACTERS} characters")
    name, colon, port = raw.partition(":")
    name = _name(name)
    local = _is_local_name(name)
    if local and not colon:
        raise ValueError("localhost needs a port: without one no customer reaches it")
    if colon and not local:
        raise ValueError("a host alone is needed, such as tflow.link, without a scheme, a port or a path")
    return _within(f"{name}:{_port(port)}" if colon else name)


def platform_origin(url: str) -> PortalOrigin:
    """The origin in PORTAL_URL. It is https; on a loopback address it may be http, with a port and an IP address.

    Raises ValueError with what is wrong, never with the value.
    """
    try:
        parts = urlsplit(url)
        name, port = parts.hostname or "", parts.port
    except ValueError:  # its message would quote the address
        raise ValueError("must be an address such as https://tflow.link") from None
    if parts.scheme not in ("https", "http") or not name:
        raise ValueError("must be an address such as https://tflow.link")
    if parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError("must name a host alone: no path, no query, no user")
    local = _is_loopback_address(name)
    if not local:
        name = _name(name)
        local = _is_local_name(name)
    elif ":" in name:
        name = f"[{name}]"
    if not local and (port is not None or parts.scheme == "http"):
        raise ValueError("must begin with https:// and have no port, unless it is a loopback address")
    return PortalOrigin(
        "https" if parts.scheme == "https" else "http",
        _within(name if port is None else f"{name}:{_port(str(port))}"),
    )


def origin_of(host: str) -> PortalOrigin:
    """The origin of an organisation's host, in its one spelling: https, but on this machine."""
    return PortalOrigin("http" if _is_local_name(host.partition(":")[0]) else "https", host)


def _name(raw: str) -> str:
    """The host name in ASCII and in lower case."""
    try:
        name = idna.encode(raw, uts46=True, std3_rules=True).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        raise ValueError("a host alone is needed, such as tflow.link, without a scheme, a port or a path") from None
    if name.endswith("."):
        raise ValueError("a host does not end with a dot")
    if _is_local_name(name):
        return name
    if "." not in name:
        raise ValueError("a host of the internet has a domain, such as tflow.link")
    if _NUMERIC.fullmatch(name.rpartition(".")[2]):
        raise ValueError("an IP address is no host of a portal")
    if any(name == taken or name.endswith(f".{taken}") for taken in _OF_WHATSAPP):
        raise ValueError("a host of WhatsApp is no host of a portal")
    return name


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(_PORT_MOST)) and 0 < int(text) <= _PORT_MOST):
        raise ValueError("a port is a number from 1 to 65535")
    return int(text)


def _within(host: str) -> str:
    if len(host) > MOST_CHARACTERS:
        raise ValueError(f"a host has at most {MOST_CHARACTERS} characters, in its ASCII form")
    return host


def _is_local_name(name: str) -> bool:
    return name == "localhost" or name.endswith(".localhost")


def _is_loopback_address(name: str) -> bool:
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
