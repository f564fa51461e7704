"""The portal's own application behind a port of this machine, for a real browser."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import uvicorn
from playwright.async_api import Browser, BrowserContext, Page

from deploy.local.servers.ports import LOOPBACK, free_port
from libs.common.kafka.connection import KafkaConnection
from tests.support.browser import phone
from tests.support.portal_site import Person, PortalSite, a_portal_site
from tests.support.waiting import eventually


class _Server(uvicorn.Server):
    """Leaves signals to the test run."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class ServedPortal:
    """A portal that can stop and come back at its address, and the people who visit it."""

    def __init__(self, site: PortalSite, port: int, browser: Browser, url: str) -> None:
        self.site = site
        self.url = url
        self.host = url.partition("://")[2]
        self._port = port
        self._browser = browser
        self._contexts: list[BrowserContext] = []
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        config = uvicorn.Config(
            self.site.app,
            host=LOOPBACK,
            port=self._port,
            ws="none",
            lifespan="off",
            log_config=None,
            proxy_headers=False,
            timeout_graceful_shutdown=1,
        )
        self._server = _Server(config)
        self._serving = asyncio.create_task(self._server.serve())
        await eventually(lambda: self._server is not None and self._server.started)

    async def stop(self) -> None:
        """No connection stays."""
        if self._server is not None and self._serving is not None:
            self._server.should_exit = self._server.force_exit = True
            await self._serving
            for connection in list(self._server.server_state.connections):
                connection.transport.abort()
            self._server = None

    async def visitor(self, **options: object) -> BrowserContext:
        """A phone that knows nothing yet."""
        context = await phone(self._browser, **options)
        self._contexts.append(context)
        return context

    async def link(self, person: Person) -> str:
        return f"{self.url}/{await self.site.a_link(person, self.host)}"

    async def signed_in(self, person: Person, **options: object) -> Page:
        """A tab that shows the person's conversation, as their link opens it."""
        tab = await (await self.visitor(**options)).new_page()
        await tab.goto(await self.link(person))
        if options.get("java_script_enabled") is False:
            await tab.get_by_role("button").tap()
        await tab.wait_for_url(f"{self.url}/conversation")
        return tab

    async def close(self) -> None:
        for context in self._contexts:
            await context.close()
        await self.stop()


@asynccontextmanager
async def a_served_portal(
    dsn: str,
    redis_url: str,
    kafka: KafkaConnection,
    browser: Browser,
    *,
    url: str | None = None,
    port: int | None = None,
) -> AsyncIterator[ServedPortal]:
    """The portal on these servers, under ``http://127.0.0.1:PORT`` unless customers reach it by another ``url``."""
    port = port or free_port()
    url = url or f"http://{LOOPBACK}:{port}"
    async with a_portal_site(dsn, redis_url, kafka, platform=url) as site:
        served = ServedPortal(site, port, browser, url)
        watching = asyncio.create_task(site.deps.streams.watch())
        await served.start()
        try:
            yield served
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
            await served.close()
