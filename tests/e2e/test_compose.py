"""What deploy/compose.yaml starts, started without Docker: the same commands with the same environments.

Only addresses differ: names of containers are ports of this machine, and the servers are those of the run.
"""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from deploy.cli.command import SERVICES
from deploy.local.sandbox.client import SandboxClient
from deploy.local.servers.ports import LOOPBACK, free_port
from deploy.local.watchdog import Watchdog
from tests.support.command import COMMAND, environment
from tests.support.compose import Prepared
from tests.support.sandbox import ROOT
from tests.support.servers import RunServers
from tests.support.waiting import eventually_true

NUMBER, KIM = "106400000000001", "+447700900999"  # those of examples/garage.yaml
PATIENCE = 90.0


class Composed:
    """The commands and environments of the file, with this machine's addresses in them."""

    def __init__(self, folder: Path, servers: Mapping[str, str], prefix: str) -> None:
        self.prepared = Prepared(folder)
        self.folder, self.prefix = folder, prefix
        self.ports = {name: free_port() for name in (*SERVICES, "sandbox", "tls")}
        for name, value in servers.items():
            file = folder / "secrets" / name
            file.chmod(0o600)
            file.write_text(f"{value}\n")
        self._here = {
            "http://ingest:8080": f"http://{LOOPBACK}:{self.ports['ingest']}",
            "https://sandbox:8443": f"https://localhost:{self.ports['tls']}",
            "http://127.0.0.1:8080": f"http://{LOOPBACK}:{self.ports['sandbox']}",
            "http://127.0.0.1:8082": f"http://{LOOPBACK}:{self.ports['portal']}",
            "http://127.0.0.1:8083": f"http://{LOOPBACK}:{self.ports['inbox']}",
            "/var/lib/transom/authority": str(folder),
        }

    def environment(self, name: str, kafka: str) -> dict[str, str]:
        """That of the file, with the addresses of this machine."""
        given = self.prepared.environment(name)
        for there, here in self._here.items():
            given = {variable: value.replace(there, here) for variable, value in given.items()}
        own = {
            "TRANSOM_KAFKA_BOOTSTRAP": kafka,
            "TRANSOM_HTTP_PORT": str(self.ports.get(name, 0)),
            "TRANSOM_ADMIN_PORT": f"{LOOPBACK}:{free_port()}",
            "SANDBOX_PORT": str(self.ports["sandbox"]),
            "SANDBOX_TLS_PORT": str(self.ports["tls"]),
            "SANDBOX_TLS_NAMES": "localhost",
        }
        return (
            given
            | {variable: value for variable, value in own.items() if variable in given}
            | {"TRANSOM_TOPIC_PREFIX": self.prefix}
        )

    def command(self, name: str) -> list[str]:
        """Its entry point and command, as this environment runs them."""
        service: dict[str, Any] = self.prepared.file()["services"][name]
        python = [sys.executable if word == "python" else word for word in service.get("entrypoint", [])]
        words = [str(ROOT / "examples/garage.yaml") if "garage.yaml" in word else word for word in service["command"]]
        return [*(python or COMMAND), *words]


@asynccontextmanager
async def started(composed: Composed, watchdog: Watchdog, kafka: str) -> AsyncIterator[dict[str, Any]]:
    """Jobs run to their end in the order of the file, then the services are alive."""
    processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(name: str) -> None:
        processes[name] = watchdog.spawn(
            composed.command(name),
            output=composed.folder / f"{name}.log",
            env=composed.environment(name, kafka),
            base=environment(),
            cwd=ROOT,
        )

    async def ended(*names: str) -> None:
        for name in names:
            start(name)
        codes = [await asyncio.to_thread(processes[name].wait, PATIENCE) for name in names]
        assert codes == [0] * len(names), [(composed.folder / f"{name}.log").read_text() for name in names]

    try:
        await ended("migrate", "topics")
        start("sandbox")
        await healthy(composed, "sandbox", "/_control/health", processes)
        for name in SERVICES:
            start(name)
        await asyncio.gather(*(healthy(composed, name, "/readyz", processes) for name in SERVICES))
        await ended("example")
        yield processes
    finally:
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            await asyncio.to_thread(process.wait, PATIENCE)


async def healthy(composed: Composed, name: str, path: str, processes: Mapping[str, Any]) -> None:
    async with asyncio.timeout(PATIENCE), aiohttp.ClientSession() as http:
        while True:
            assert processes[name].poll() is None, (composed.folder / f"{name}.log").read_text()
            try:
                async with http.get(f"http://{LOOPBACK}:{composed.ports[name]}{path}") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.1)


@pytest.fixture
def composed(database: str, redis_url: str, topic_prefix: str, tmp_path: Path) -> Composed:
    return Composed(tmp_path, {"postgres_dsn": database, "redis_url": redis_url}, topic_prefix)


@pytest.mark.proof
async def test_a_message_comes_in_and_its_answer_goes_out_over_tls(
    composed: Composed, kafka_bootstrap: str, run_servers: RunServers
) -> None:
    inbox = f"http://{LOOPBACK}:{composed.ports['inbox']}/v1/conversations"
    async with started(composed, run_servers.watchdog, kafka_bootstrap) as processes:
        token = await asyncio.to_thread(a_token, composed.environment("inbox", kafka_bootstrap))
        async with (
            SandboxClient(f"http://{LOOPBACK}:{composed.ports['sandbox']}") as sandbox,
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as http,
        ):
            await sandbox.customer_writes(NUMBER, KIM, text="Is my car ready?")
            (found,) = await eventually_true(lambda: items(http, inbox))
            messages = f"{inbox}/{found['conversation_id']}/messages"
            async with http.post(messages, json={"content": {"kind": "text", "text": "Yes, it is."}}) as sent:
                assert sent.status == 202, await sent.text()

            async def is_read() -> bool:
                found = await items(http, messages)
                return any((one["direction"], one["status"]) == ("out", "read") for one in found)

            await eventually_true(is_read)
        for name in SERVICES:
            processes[name].terminate()
        codes = {name: await asyncio.to_thread(processes[name].wait, PATIENCE) for name in SERVICES}
    assert codes == dict.fromkeys(SERVICES, 0)


async def items(http: aiohttp.ClientSession, url: str) -> list[dict[str, Any]]:
    async with http.get(url) as answer:
        assert answer.status == 200, await answer.text()
        return list((await answer.json())["items"])


def a_token(env: Mapping[str, str]) -> str:
    words = ["token", "--org", "acme", "--user", "olivia", "--capabilities", "*"]
    made = subprocess.run(
        [*COMMAND, *words], cwd=ROOT, env=environment() | dict(env), capture_output=True, text=True, check=True
    )
    return made.stdout.strip()
