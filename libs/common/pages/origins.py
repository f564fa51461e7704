"""What a request says of where it comes from. Pure.

Rule 1: an Origin is compared with the configured address of the page, never with the Host header.
Rule 2: ``null`` is an origin only where the browser says that the request is ``same-origin``.
Rule 3: the client's address is the one that the last trusted proxy saw. What a client writes into the header itself
        stands left of it and counts for nothing.
Rule 4: a client has a /64 of IPv6 addresses, so all of them are one.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from libs.common.portal_host import PortalOrigin

_DEFAULT_PORTS = {"https": ":443", "http": ":80"}


def from_our_page(origin: str | None, fetch_site: str | None, ours: PortalOrigin) -> bool:
    """Whether a form or a stream was asked for by a page of ours. Without both headers the token decides alone."""
    if fetch_site is not None and fetch_site != "same-origin":
        return False
    if origin is None:
        return True
    return fetch_site == "same-origin" if origin == "null" else origin == str(ours)


def names_host(header: str, ours: PortalOrigin) -> bool:
    """Whether a Host header names this address. Browsers leave the port of the scheme out."""
    host = header.lower()
    return host in (ours.host, ours.host + _DEFAULT_PORTS[ours.scheme])


def is_loopback_host(header: str) -> bool:
    """Whether a Host header names this machine, on any port."""
    name = header.rpartition(":")[0] if header.rpartition(":")[2].isdigit() else header
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def client_address(peer: str, forwarded: Sequence[str], trusted_proxies: int) -> str:
    """The client's address, an IPv6 address as its /64. ``forwarded``: X-Forwarded-For, in the order of the request.

    An entry may have a port behind it. Without enough entries the request came past a proxy, and ``peer`` is the
    client. It also is where the entry cannot be read: so such requests share a budget with their proxy alone.
    """
    hops = [hop.strip() for line in forwarded for hop in line.split(",")]
    entry = hops[-trusted_proxies] if 0 < trusted_proxies <= len(hops) else peer
    for address in (entry, peer):
        try:
            return _one_client(ip_address(_without_port(address)))
        except ValueError:
            continue
    return "unknown"


def _without_port(entry: str) -> str:
    """``192.0.2.1:50000`` and ``[2001:db8::1]:50000`` without the port."""
    if entry.startswith("["):
        return entry[1:].partition("]")[0]
    return entry.partition(":")[0] if entry.count(":") == 1 else entry


def _one_client(address: IPv4Address | IPv6Address) -> str:
    if isinstance(address, IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(IPv6Network((int(address) >> 64 << 64, 64)))
