"""A running inbox on real servers, and the people and programs that use it.

``a_running_inbox`` runs the service's own ``run`` in the test's event loop, on a port of this machine: nothing of it is
made twice for tests. Start one for a file of tests, and give each test an organisation of its own.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import jwt
from aiokafka.admin import AIOKafkaAdminClient

from deploy.local.servers.ports import LOOPBACK, free_port
from libs.common.clock import utc_now
from libs.common.db.pool import Pool, open_pool
from libs.common.kafka.connection import KafkaConnection
from libs.common.service import Service
from services.inbox.app import run
from services.inbox.settings import InboxServiceSettings
from tests.support import databases, world
from tests.support.form_browser import FormBrowser, token_of
from tests.support.topics import OwnTopics

KEY = "the-signing-key-of-the-inboxs-tests"
OWNER = ("*",)
ADVISOR = ("messages.view", "messages.send", "customers.contact.view")
TECHNICIAN = ("messages.view",)
ROLES: Mapping[str, Sequence[str]] = {"owner": OWNER, "advisor": ADVISOR, "technician": TECHNICIAN}


def a_token(
    org_id: str,
    user_id: str = "advisor-1",
    capabilities: Sequence[str] = OWNER,
    *,
    key: str = KEY,
    life: timedelta = timedelta(minutes=30),
    **claims: Any,
) -> str:
    """A token as ``transom token`` makes it. ``claims`` are further ones; None leaves one out."""
    now = utc_now()
    said = {
        "org_id": org_id,
        "sub": user_id,
        "capabilities": list(capabilities),
        "exp": int((now + life).timestamp()),
    } | claims
    return jwt.encode({name: value for name, value in said.items() if value is not None}, key, "HS256")


class Staff(FormBrowser):
    """A browser of somebody of the staff."""

    async def signs_in(self, token: str, leads_to: str = "/inbox") -> httpx.Response:
        """By the form for a development token."""
        page = await self.get(f"/login?next={leads_to}")
        fields = {"token": token_of(page), "next": leads_to, "development_token": token}
        return await self.post("/login", fields)


@dataclass
class RunningInbox:
    """``pool`` is a test's own way to the database. ``url`` is where it answers."""

    url: str
    pool: Pool
    kafka: KafkaConnection
    service: Service
    dsn: str
    _clients: list[httpx.AsyncClient] = field(default_factory=list)

    async def an_org(self, name: str = "AcmeMotors", **fields: Any) -> str:
        """An organisation of the test's own, with one number (see ``world.an_org``). Returns its id."""
        org_id = f"org-{uuid4().hex[:12]}"
        number = str(uuid4().int)[:15]
        async with self.pool.acquire() as db:
            await world.an_org(db, org_id, number, name=name, sms_number=None, portal_host=None, **fields)
        return org_id

    def api(self, org_id: str, capabilities: Sequence[str] = OWNER, user_id: str = "advisor-1") -> httpx.AsyncClient:
        """A program with a token."""
        return self.client(authorization=f"Bearer {a_token(org_id, user_id, capabilities)}")

    def client(self, **headers: str) -> httpx.AsyncClient:
        """A client that keeps its connection, closed with the inbox."""
        made = httpx.AsyncClient(base_url=self.url, headers=headers, timeout=20)
        self._clients.append(made)
        return made

    def browser(self) -> Staff:
        """A browser that knows nothing yet."""
        return Staff(self.client(accept="text/html"))

    async def staff(self, org_id: str, capabilities: Sequence[str] = OWNER, user_id: str = "advisor-1") -> Staff:
        """A browser whose person is signed in."""
        browser = self.browser()
        answer = await browser.signs_in(a_token(org_id, user_id, capabilities))
        assert answer.status_code == 303, answer.text
        return browser

    async def close(self) -> None:
        for client in self._clients:
            await client.aclose()


@asynccontextmanager
async def a_running_inbox(dsn: str, kafka: KafkaConnection, **settings: Any) -> AsyncIterator[RunningInbox]:
    """The service on these servers, under ``http://127.0.0.1:PORT``. ``settings`` are fields of its settings.

    The topics exist under the prefix of ``kafka``.
    """
    port = settings.pop("http_port", None) or free_port()
    url = f"http://{LOOPBACK}:{port}"
    given: dict[str, Any] = {
        "kafka_bootstrap": kafka.bootstrap,
        "topic_prefix": kafka.topic_prefix,
        "postgres_dsn": dsn,
        "postgres_timeout_seconds": 10.0,
        "http_host": LOOPBACK,
        "http_port": port,
        "inbox_url": url,
        "jwt_keys": KEY,
    } | settings
    service = Service("inbox", host=LOOPBACK, port=port, drain_seconds=5)
    async with open_pool(dsn, application_name="test", size=4, command_seconds=10) as pool:
        running = asyncio.create_task(run(InboxServiceSettings(**given), service))
        made = RunningInbox(url, pool, kafka, service, dsn)
        try:
            while not service.serving and not running.done():  # noqa: ASYNC110 -- there is no event for it
                await asyncio.sleep(0.01)
            if running.done():
                await running
            yield made
        finally:
            await made.close()
            service.stop()
            await running


@asynccontextmanager
async def an_inbox_of_its_own(
    server: str, template: str, admin: AIOKafkaAdminClient, bootstrap: str, **settings: Any
) -> AsyncIterator[RunningInbox]:
    """A running inbox with a database and topics of its own on the shared servers."""
    topics = OwnTopics(admin, f"t-{uuid4().hex[:12]}.")
    await topics.create()
    dsn = await databases.make_database(server, template)
    try:
        async with a_running_inbox(dsn, KafkaConnection(bootstrap, topics.prefix), **settings) as made:
            yield made
    finally:
        await databases.drop_database(server, dsn)
        await topics.delete()
