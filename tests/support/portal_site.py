"""The portal's own application on real servers, and browsers that visit it."""

import asyncio
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
from redis.asyncio.client import Pipeline

from libs.common.bridge.link_codes import LinkCodes
from libs.common.bridge.portal_keys import PurposeKeys
from libs.common.db.pool import Pool, open_pool
from libs.common.db.shares import Shares
from libs.common.events.topics import PORTAL_MESSAGES
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.producer import Producer
from libs.common.pages.cookies import FormTokens
from libs.common.pages.static_files import StaticFiles
from libs.common.portal_host import platform_origin
from libs.common.redis import Redis, open_redis
from libs.common.web import Readiness, build_app
from services.portal.app import ROLE, routes
from services.portal.browser import Keys
from services.portal.budget import MissBudget
from services.portal.deps import Deps
from services.portal.guard import Guard
from services.portal.html import STATIC as STATIC_FOLDER
from services.portal.html import Html
from services.portal.outbox import Outbox
from services.portal.seats import Seats
from services.portal.sites import Sites
from services.portal.streams import Streams
from tests.support import world
from tests.support.form_browser import FormBrowser, token_of
from tests.support.published import Published, published_on

MASTER = b"the-master-key-of-the-portals-tests"
ORG, NUMBER, HOST = "acme", "106400000000001", "tflow.link"
PLATFORM = "https://portal.example"
PHONE = "+447700900999"
_LINK = """
insert into portal_links (code_hash, org_id, conversation_id, message_id, host, phone, expires_at, created_at)
values ($1, $2, $3, $4, $5, $6, $7, $8)
"""
_OUT = """
insert into messages (org_id, message_id, conversation_id, direction, channel, kind, content, actor, status, reason,
                      occurred_at, received_at)
values ($1, $2, $3, $4, $5, 'text', $6, $7, $8, $9, $10, $10)
"""
_FORM = re.compile(r'name="client_id" value="([^"]*)"')


@dataclass(frozen=True)
class Person:
    """A customer with a conversation."""

    org_id: str
    conversation_id: UUID
    customer_id: UUID
    phone: str


class Browser(FormBrowser):
    """A customer's browser."""

    async def open(self, code: str, **fields: str) -> httpx.Response:
        """Get the page of a link and post its form."""
        page = await self.get(f"/{code}")
        return await self.post(f"/{code}", {"token": token_of(page), **fields})

    async def write(self, text: str, **fields: str) -> httpx.Response:
        """Get the conversation and post its form."""
        page = await self.get("/conversation")
        return await self.post(
            "/conversation/messages",
            {"token": token_of(page), "client_id": form_of(page), "text": text, **fields},
        )


def form_of(page: httpx.Response) -> str:
    found = _FORM.search(page.text)
    assert found is not None, page.text
    return found[1]


@dataclass
class PortalSite:
    """``pool`` is the owner's. ``deps`` are the portal's, whose pool has its role."""

    pool: Pool
    deps: Deps
    redis: Redis
    app: Guard
    published: Published
    codes: LinkCodes = field(default_factory=lambda: LinkCodes([MASTER], secrets.choice))

    def browser(self, origin: str = f"https://{HOST}", address: str = "192.0.2.1") -> Browser:
        transport = httpx.ASGITransport(self.app, client=(address, 50000))
        return Browser(httpx.AsyncClient(transport=transport, base_url=origin))

    async def a_person(self, org_id: str = ORG, phone: str = PHONE, number: str = NUMBER, **org: Any) -> Person:
        person = Person(org_id, uuid4(), uuid4(), phone)
        async with self.pool.acquire() as db:
            if not await db.fetchval("select exists (select from orgs where org_id = $1)", org_id):
                fields = {"portal_host": HOST if org_id == ORG else f"{org_id}.example"} | org
                await world.an_org(db, org_id, number, sms_number=None, **fields)
            await world.a_customer(db, org_id, person.customer_id, phone)
            await world.a_conversation(
                *(db, org_id, person.conversation_id, person.customer_id, number), last_customer_at=self.now()
            )
        return person

    async def a_link(
        self, person: Person, host: str = HOST, *, life: timedelta = timedelta(days=2), phone: str | None = None
    ) -> str:
        """The code of a fresh link."""
        link = self.codes.fresh()
        async with self.pool.acquire() as db:
            await db.execute(
                *(_LINK, link.code_hash, person.org_id, person.conversation_id, uuid4(), host),
                *(phone or person.phone, self.now() + life, self.now()),
            )
        return link.code

    async def a_message(
        self,
        person: Person,
        text: str,
        *,
        direction: str = "out",
        channel: str = "whatsapp",
        status: str | None = None,
        reason: str | None = None,
    ) -> UUID:
        message_id = uuid4()
        status = status or ("delivered" if direction == "out" else "received")
        async with self.pool.acquire() as db:
            await db.execute(
                *(_OUT, person.org_id, message_id, person.conversation_id, direction, channel),
                *({"kind": "text", "text": text}, "ai" if direction == "out" else None, status, reason, self.now()),
            )
        return message_id

    async def signed_in(self, person: Person, host: str = HOST) -> Browser:
        browser = self.browser(f"https://{host}")
        answer = await browser.open(await self.a_link(person, host))
        assert answer.status_code == 303, answer.text
        return browser

    async def run(self, statement: str, *values: Any) -> str:
        async with self.pool.acquire() as db:
            return str(await db.execute(statement, *values))

    async def value(self, statement: str, *values: Any) -> Any:
        async with self.pool.acquire() as db:
            return await db.fetchval(statement, *values)

    async def forget_misses(self) -> None:
        """Begin the budgets of all addresses anew."""

        def flush(pipe: Pipeline) -> None:
            pipe.flushdb()

        await self.redis.pipeline(flush)

    async def told(self, at_least: int = 0) -> list[dict[str, Any]]:
        return await self.published.events(PORTAL_MESSAGES, at_least)

    def now(self) -> datetime:
        return self.pool.now()


@asynccontextmanager
async def a_portal_site(
    dsn: str, redis_url: str, kafka: KafkaConnection, *, platform: str | None = PLATFORM, trusted_proxies: int = 0
) -> AsyncIterator[PortalSite]:
    """The portal on these servers, and its database."""
    async with (
        open_pool(dsn, application_name="test", size=4, command_seconds=10) as pool,
        open_pool(dsn, application_name="portal", size=8, command_seconds=10, role=ROLE) as portal_pool,
        open_redis(redis_url, "portal") as redis,
        Producer(kafka, delivery_timeout=15.0) as producer,
        published_on(kafka.bootstrap, kafka.topic_prefix, (PORTAL_MESSAGES,)) as published,
    ):
        static = StaticFiles(STATIC_FOLDER)
        html, outbox = Html(static), Outbox(producer)
        deps = Deps(
            pool=portal_pool,
            shares=Shares(portal_pool, 2),
            producer=producer,
            keys=Keys(LinkCodes([MASTER], secrets.choice), PurposeKeys([MASTER], "sessions"), FormTokens([MASTER])),
            outbox=outbox,
            budget=MissBudget(redis, PurposeKeys([MASTER], "addresses")),
            streams=Streams(portal_pool, outbox, html, Seats(redis)),
            html=html,
            trusted_proxies=trusted_proxies,
        )
        sites = Sites(portal_pool, None if platform is None else platform_origin(platform))
        app = Guard(build_app(Readiness({}), routes(deps, static)), sites, html)
        publishing = asyncio.create_task(outbox.run())
        yield PortalSite(pool, deps, redis, app, published)
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)
