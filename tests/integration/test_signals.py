"""Commands that a shell started with SIGINT and SIGHUP ignored end when they are asked to, and leave no child."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil
import pytest

from tests.support.command import COMMAND, environment, running
from tests.support.signals import USUAL, ignoring
from tests.support.waiting import DEADLINE_SECONDS, eventually

INTENT = "0190d5c0-0000-7000-8000-000000000000"
COMMANDS = {
    "migrate": ("migrate",),
    "topics": ("topics",),
    "explain": ("explain", INTENT),
    "replay": ("replay", "--dlq"),
    "run": ("run", "router", "--port", "0"),
    "edge": ("run", "ingest", "--role", "edge", "--port", "0"),
}


@asynccontextmanager
async def deaf() -> AsyncIterator[tuple[str, asyncio.Event]]:
    """The address of a server that takes connections and says nothing, and whether one came."""
    asked = asyncio.Event()
    open_: list[asyncio.StreamWriter] = []

    async def take(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_.append(writer)
        asked.set()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    try:
        host, port = server.sockets[0].getsockname()
        yield f"{host}:{port}", asked
    finally:
        for writer in open_:
            writer.transport.abort()
        server.close()


async def test_every_command_ends_on_a_stop_while_it_waits_for_a_server() -> None:
    await asyncio.gather(*(ends(name, signal.SIGINT) for name in COMMANDS))
    await asyncio.gather(*(ends(name, signal.SIGTERM) for name in ("edge", "topics")))


async def ends(name: str, number: signal.Signals) -> None:
    """Start it as ``nohup`` in a script's background does, stop it while it waits, and look for what it left."""
    async with deaf() as (address, asked):
        env = environment(
            KAFKA_BOOTSTRAP=address,
            POSTGRES_DSN=f"postgresql://transom@{address}/transom",
            REDIS_URL=f"redis://{address}/0",
            META_APP_SECRETS="secret",
            META_VERIFY_TOKEN="token",
        )
        outputs = {"stdout": asyncio.subprocess.DEVNULL, "stderr": asyncio.subprocess.PIPE}
        async with running(*ignoring(USUAL), *COMMAND, *COMMANDS[name], env=env, **outputs) as process:
            async with asyncio.timeout(DEADLINE_SECONDS):
                await asked.wait()
            children = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGHUP)  # as nohup wants it: nothing happens
            process.send_signal(number)
            _, said = await asyncio.wait_for(process.communicate(), DEADLINE_SECONDS)
        # of a service 0, of another command what Python or click makes of it; 2 would say that it waited for its server
        # to the end
        assert process.returncode in (0, 1, 130, -number), (name, process.returncode, said)
        await eventually(lambda: not [child for child in children if child.is_running()], f"{name} left nothing")


_SLOW_IMPORT = """
import sys, time
from importlib.abc import MetaPathFinder
class Slow(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == wanted:
            print("imports", flush=True)
            time.sleep(600)
sys.meta_path.insert(0, Slow())
wanted = sys.argv[1]
sys.argv = ["transom", "run", "router"]
from deploy.cli import main
main()
"""


@pytest.mark.parametrize("module", ["deploy.cli.command", "services.router"])
async def test_a_service_that_is_still_imported_ends_on_a_stop(module: str) -> None:
    """Without a handler the first process of a container ignores SIGTERM, starts, and is killed in the end."""
    command = (sys.executable, "-c", _SLOW_IMPORT, module)
    async with running(*command, env=environment(), stdout=asyncio.subprocess.PIPE) as router:
        assert router.stdout is not None
        assert await router.stdout.readline() == b"imports\n"
        router.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(router.wait(), DEADLINE_SECONDS) == 0


async def test_the_sandbox_ends_on_a_stop() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        sandbox = (sys.executable, "-m", "deploy.local.sandbox", "--port", "0")
        async with running(*ignoring(USUAL), *sandbox, stdout=asyncio.subprocess.PIPE) as process:
            assert process.stdout is not None
            assert b"ready" in await process.stdout.readline()
            process.send_signal(signal.SIGHUP)
            process.send_signal(number)
            assert await asyncio.wait_for(process.wait(), DEADLINE_SECONDS) == 0
