"""The addresses of the portal: the platform's own, and one for each organisation that has one.

Rule 1: a link, a session, a cookie and a form belong to one address. It comes from the configuration and the directory;
        the Host header only chooses among them. Any other host is answered by 421.
Rule 2: while PostgreSQL is away a host that was known stays known, so that its pages can keep what people wrote.
Rule 3: an organisation is named only on its own host, and never on the platform's.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass

from libs.common.db.pool import Pool
from libs.common.pages.origins import is_loopback_host, names_host
from libs.common.portal_host import PortalOrigin, organisation_host, origin_of
from libs.common.retryable import is_retryable
from services.portal import queries
from services.portal.views import Garage

_KEPT_SECONDS = 30.0
_MOST = 10_000
_LONGEST_HEADER = 255


@dataclass(frozen=True, slots=True)
class Site:
    """One address. ``garage``: the organisation whose own it is; None on the platform's."""

    origin: PortalOrigin
    garage: Garage | None = None


class Sites:
    """Knows the site of a Host header. What the directory says of a host is asked again every half a minute."""

    def __init__(self, pool: Pool, platform: PortalOrigin | None) -> None:
        self._pool = pool
        self._platform = platform
        self._kept: OrderedDict[str, tuple[float, Site | None]] = OrderedDict()

    async def of(self, header: str) -> Site | None:
        """The site that this Host header names. None: there is none.

        Raises what ``is_retryable`` knows when PostgreSQL is away and the host was not asked for before.
        """
        if self._platform is None:
            if is_loopback_host(header):
                return Site(PortalOrigin("http", header.lower()))
        elif names_host(header, self._platform):
            return Site(self._platform)
        if len(header) > _LONGEST_HEADER:
            return None
        try:
            host = organisation_host(header.removesuffix(":443"))
        except ValueError:
            return None
        return await self._of_organisation(host)

    async def _of_organisation(self, host: str) -> Site | None:
        now = asyncio.get_running_loop().time()
        if (kept := self._kept.get(host)) is not None and now - kept[0] < _KEPT_SECONDS:
            return kept[1]
        try:
            async with queries.scope(self._pool, host) as db:
                owner = await queries.owner_of(db, host)
        except Exception as error:
            if kept is None or not is_retryable(error):
                raise
            site = kept[1]
        else:
            site = None if owner is None else Site(origin_of(host), Garage(owner.org_name, owner.display_number))
        self._kept[host] = now, site
        self._kept.move_to_end(host)
        if len(self._kept) > _MOST:
            self._kept.popitem(last=False)
        return site
