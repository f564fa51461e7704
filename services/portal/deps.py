"""What the routes of the portal work with."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass

from libs.common.db.pool import Connection, Pool
from libs.common.db.shares import Shares
from libs.common.kafka.producer import Producer
from services.portal import queries
from services.portal.browser import Browser, Keys
from services.portal.budget import MissBudget
from services.portal.html import Html
from services.portal.outbox import Outbox
from services.portal.streams import Streams


@dataclass(frozen=True, slots=True)
class Deps:
    """One for a process. ``shares``: the connections of ``pool`` by the address of the client."""

    pool: Pool
    shares: Shares
    producer: Producer
    keys: Keys
    outbox: Outbox
    budget: MissBudget
    streams: Streams
    html: Html
    trusted_proxies: int

    @asynccontextmanager
    async def scope(
        self, browser: Browser, *, codes: Collection[bytes] = (), sessions: Collection[bytes] = ()
    ) -> AsyncIterator[Connection]:
        """As ``queries.scope``, for what this browser asks: its address takes no more than a share."""
        async with (
            self.shares.of(browser.address(self.trusted_proxies)) as db,
            queries.visible(db, browser.host, codes, sessions),
        ):
            yield db
