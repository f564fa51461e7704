"""The check of Transom's own addresses: what providers, customers and staff reach.

Each is asked as by its visitors: resolved, over TLS, by its name. A foreign name is tried too, and must not be served.
A status alone proves nothing: a proxy that asks for a password or refuses everybody has the same. So the answer is
looked at too.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp

from deploy.cli.doctor.certificates import look, tell_of
from deploy.cli.doctor.findings import Finding
from deploy.cli.doctor.http import NoReply, Reply, ask, open_http, shown
from deploy.cli.doctor.running import Tell
from deploy.cli.doctor.site import Site
from libs.common.portal_host import origin_of

_MOST_HOSTS = 40
_AT_ONCE = 8
_FOREIGN = "doctor.invalid"
_OK, _UNAUTHORISED, _FORBIDDEN, _MISDIRECTED = 200, 401, 403, 421
_SERVER_ERROR = 500


@dataclass(frozen=True, slots=True)
class _Address:
    """An address of ours. ``path`` is asked for; ``good`` and ``is_ours`` know the answer of the right service."""

    url: str
    whose: str
    path: str
    good: int
    is_ours: Callable[[Reply], bool]
    knows_hosts: bool = True


async def look_at_addresses(site: Site, tell: Tell) -> None:
    limit = asyncio.Semaphore(_AT_ONCE)

    async def look_at_all(addresses: Iterable[_Address]) -> None:
        await asyncio.gather(*(within(one) for one in addresses))

    async def within(address: _Address) -> None:
        async with limit:
            await _look_at(address, http, tell)

    async with open_http() as http:
        configured = _configured(site)
        of_organisations = asyncio.ensure_future(_of_organisations(site, tell))
        await look_at_all(configured)
        known = {one.url for one in configured}
        await look_at_all(one for one in await of_organisations if one.url not in known)


async def _of_organisations(site: Site, tell: Tell) -> list[_Address]:
    """The portal hosts of the directory."""
    if not site.serves("portal"):
        return []
    if (directory := await site.directory()) is None:
        tell(
            Finding(
                "addresses_directory_unseen",
                "directory",
                "The directory could not be read from PostgreSQL, so no organisation's portal_host was looked at.",
                "Mend PostgreSQL first.",
            )
        )
        return []
    if len(directory.hosts) > _MOST_HOSTS:
        tell(
            Finding(
                "addresses_left_out",
                "portal hosts",
                f"Of {len(directory.hosts)} hosts of organisations the first {_MOST_HOSTS} were looked at.",
            )
        )
    return [_portal(str(origin_of(host)), "portal_host") for host in directory.hosts[:_MOST_HOSTS]]


def _configured(site: Site) -> list[_Address]:
    found = []
    if site.public_url is not None and site.serves("ingest", "sms-bridge"):
        found.append(
            _Address(
                site.public_url.rstrip("/"),
                "TRANSOM_PUBLIC_URL",
                "/webhooks/meta",
                _FORBIDDEN,
                _is_problem,
                knows_hosts=False,
            )
        )
    if site.portal_url is not None and site.serves("portal"):
        found.append(_portal(site.portal_url, "TRANSOM_PORTAL_URL"))
    if site.inbox_url is not None and site.serves("inbox"):
        found.append(_Address(site.inbox_url, "TRANSOM_INBOX_URL", "/openapi.json", _OK, _is_openapi))
    return found


def _portal(url: str, whose: str) -> _Address:
    return _Address(url, whose, "/conversation", _UNAUTHORISED, _is_page)


def _is_problem(reply: Reply) -> bool:
    return reply.headers.get("content-type", "").startswith("application/problem+json")


def _is_openapi(reply: Reply) -> bool:
    return "openapi" in reply.body


def _is_page(reply: Reply) -> bool:
    """A page of the portal never asks for a password, and always says what its scripts may do."""
    return "www-authenticate" not in reply.headers and "content-security-policy" in reply.headers


async def _look_at(address: _Address, http: aiohttp.ClientSession, tell: Tell) -> None:
    parts = urlsplit(address.url)
    subject = f"{address.whose} {shown(address.url)}"
    told: list[Finding] = []
    if parts.scheme == "https" and parts.hostname is not None:
        seen = await look(parts.hostname, parts.port or 443)
        tell_of(seen, subject, "address", told.append)
        if seen.certificate_is_bad:
            tell(told[0])
            return
        if seen.trouble is not None:
            tell(_unreached(subject, NoReply(seen.trouble, seen.silent)))
            return
    reply = await ask(http, f"{address.url}{address.path}")
    if isinstance(reply, NoReply):
        tell(_unreached(subject, reply))
        return
    wrong = _wrong(subject, address, reply)
    told += [one for one in (wrong or await _foreign(http, subject, address, reply),) if one]
    if parts.scheme == "https" and (public := await _metrics(http, subject, address)):
        told.append(public)
    for finding in told:
        tell(finding)
    if not told:
        tell(Finding("address_good", subject, "It answers as it should."))


async def _foreign(http: aiohttp.ClientSession, subject: str, address: _Address, reply: Reply) -> Finding | None:
    """Whether a request by a name that is not ours is served like one by ours."""
    if not address.knows_hosts:
        return None
    foreign = await ask(http, f"{address.url}{address.path}", headers={"Host": _FOREIGN})
    if isinstance(foreign, NoReply) or foreign.status != reply.status:
        return None
    return Finding(
        "address_any_host",
        subject,
        "A request by a foreign name is served too, so the proxy does not pass the Host header on.",
        "Let the proxy pass Host unchanged, and serve this name alone.",
    )


async def _metrics(http: aiohttp.ClientSession, subject: str, address: _Address) -> Finding | None:
    reply = await ask(http, f"{address.url}/metrics")
    if isinstance(reply, NoReply) or reply.status != _OK or "# HELP" not in reply.text:
        return None
    return Finding(
        "address_metrics_public",
        subject,
        "Everybody can read /metrics there.",
        "Set TRANSOM_ADMIN_PORT, or let the proxy refuse the path.",
    )


def _unreached(subject: str, reply: NoReply) -> Finding:
    if "resolve" in reply.why:
        return Finding(
            "address_unresolved", subject, "Its name does not resolve from here.", "Make its record in the DNS."
        )
    return Finding(
        "address_silent" if reply.silent else "address_unreachable",
        subject,
        f"It is not reached from here: {reply.why}.",
        "Start the service and its proxy. An address that only this host cannot reach needs no change.",
    )


def _wrong(subject: str, address: _Address, reply: Reply) -> Finding | None:
    if reply.status == address.good and address.is_ours(reply):
        return None
    if reply.status == _MISDIRECTED:
        return Finding(
            "address_host_refused",
            subject,
            "The service does not know this name (HTTP 421).",
            f"Set {address.whose} to the name that visitors use, and let the proxy pass Host unchanged.",
        )
    if reply.status >= _SERVER_ERROR:
        return Finding(
            "address_answer_wrong",
            subject,
            f"It answers with HTTP {reply.status}: the service or its proxy is not well.",
            "See their logs.",
        )
    return Finding(
        "address_answer_wrong",
        subject,
        f"GET {address.path} is answered with HTTP {reply.status}, and the answer is not the service's.",
        "See where the proxy leads this name and path.",
    )
