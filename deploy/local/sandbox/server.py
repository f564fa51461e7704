"""Wires the sandbox and runs it until a signal."""

import asyncio
import os
import signal
import ssl
import sys
from contextlib import suppress

from aiohttp import web

from deploy.local.sandbox.control import Control, explain, guard
from deploy.local.sandbox.graph_nodes import GraphNodes
from deploy.local.sandbox.meta import MetaApi
from deploy.local.sandbox.oidc import OidcApi
from deploy.local.sandbox.sms_accounts import SmsAccountsApi
from deploy.local.sandbox.template_api import TemplateApi
from deploy.local.sandbox.twilio import TwilioApi
from deploy.local.sandbox.vonage import VonageApi
from deploy.local.sandbox.world import World

BODY_MOST = 4 * 1024 * 1024
WATCH_SECONDS = 0.5


def application(world: World) -> web.Application:
    app = web.Application(client_max_size=BODY_MOST, middlewares=[guard, explain])
    templates = TemplateApi(world)
    oidc = OidcApi(world.oidc_client, world.oidc)
    apis = (
        MetaApi(world),
        GraphNodes(world),
        templates,
        TwilioApi(world),
        VonageApi(world),
        SmsAccountsApi(world),
        oidc,
        Control(world, templates),
    )
    for api in apis:
        app.add_routes(api.routes())
    return app


async def serve(
    world: World, host: str, port: int, *, parent: int | None, tls: tuple[int, ssl.SSLContext] | None = None
) -> None:
    """Serve until SIGTERM or SIGINT, or until the process ``parent`` has ended; port 0 takes a free one.

    ``tls``: a second port, and the context by which it speaks TLS.

    Prints one line when it listens: ``sandbox ready on http://host:port``.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    runner = web.AppRunner(application(world), access_log=None, shutdown_timeout=0.2, handle_signals=False)
    await runner.setup()
    await world.webhook_sender.open()
    watch = loop.create_task(_parent_gone(parent, stop)) if parent else None
    try:
        await web.TCPSite(runner, host, port, backlog=1024).start()
        bound = runner.addresses[0]
        if tls is not None:
            await web.TCPSite(runner, host, tls[0], backlog=1024, ssl_context=tls[1]).start()
        sys.stdout.write(f"sandbox ready on http://{bound[0]}:{bound[1]}\n")
        sys.stdout.flush()
        await stop.wait()
    finally:
        if watch is not None:
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch
        await world.webhook_sender.close()
        await runner.cleanup()


async def _parent_gone(parent: int, stop: asyncio.Event) -> None:
    """Stop when the parent process has ended: an orphan gets another parent.

    The pid is an option, because this process may be an orphan already when it starts.
    """
    while os.getppid() == parent:  # noqa: ASYNC110  there is no event for the end of a parent
        await asyncio.sleep(WATCH_SECONDS)
    stop.set()
