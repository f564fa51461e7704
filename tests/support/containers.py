"""The servers as containers, for machines with a Docker engine."""

import asyncio
import functools
import gc
import secrets
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress

import asyncpg
import docker  # type: ignore[import-untyped] # it ships no types
import docker.errors  # type: ignore[import-untyped] # it ships no types
import redis
from testcontainers.core.container import DockerContainer

from deploy.local.servers.kafka_probe import serves
from deploy.local.servers.ports import LOOPBACK, free_port

KAFKA_IMAGE, POSTGRES_IMAGE, VALKEY_IMAGE = "apache/kafka:4.4.0", "postgres:18", "valkey/valkey:9"
_READY_SECONDS = 90.0


_asking = threading.Lock()


def docker_answers() -> bool:
    """Whether a Docker engine answers here; asked once per run."""
    with _asking:
        return _docker_answers()


@functools.cache
def _docker_answers() -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", ResourceWarning
        )  # docker's client leaves its socket open when no engine answers
        answers = _ping()
        gc.collect()
    return answers


def _ping() -> bool:
    try:
        client = docker.from_env(timeout=3)
    except docker.errors.DockerException:
        return False
    try:
        return bool(client.ping())
    except (docker.errors.DockerException, OSError):
        return False
    finally:
        client.close()


@contextmanager
def kafka() -> Iterator[str]:
    """The broker's advertised address must be known before it starts, so the port is chosen here."""
    port = free_port()
    container = DockerContainer(KAFKA_IMAGE)
    _publish(container, port, port)
    host = container.get_container_host_ip()
    settings = {
        "NODE_ID": "1",
        "PROCESS_ROLES": "broker,controller",
        "LISTENERS": f"PLAINTEXT://:{port},CONTROLLER://:19093",
        "ADVERTISED_LISTENERS": f"PLAINTEXT://{host}:{port}",
        "CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "CONTROLLER_QUORUM_VOTERS": "1@localhost:19093",
        "OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "OFFSETS_TOPIC_NUM_PARTITIONS": "4",
        "TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "AUTO_CREATE_TOPICS_ENABLE": "false",
        "MESSAGE_MAX_BYTES": str(4 * 1024 * 1024),
        "REPLICA_FETCH_MAX_BYTES": str(4 * 1024 * 1024),
    }
    for name, value in settings.items():
        container.with_env(f"KAFKA_{name}", value)
    with container:
        _wait_until(lambda: serves(host, port), KAFKA_IMAGE)
        yield f"{host}:{port}"


@contextmanager
def postgres() -> Iterator[str]:
    password = secrets.token_hex(16)
    container = (
        DockerContainer(POSTGRES_IMAGE)
        .with_env("POSTGRES_PASSWORD", password)
        .with_command("postgres -c fsync=off -c synchronous_commit=off -c full_page_writes=off -c max_connections=300")
    )
    _publish(container, 5432)
    with container:
        address = f"{container.get_container_host_ip()}:{container.get_exposed_port(5432)}"
        dsn = f"postgresql://postgres:{password}@{address}/postgres"
        _wait_until(lambda: _connects(dsn), POSTGRES_IMAGE)
        yield dsn


@contextmanager
def valkey() -> Iterator[str]:
    password = secrets.token_hex(16)
    container = DockerContainer(VALKEY_IMAGE).with_env("PASSWORD", password)
    # the container's environment, unlike a command line, is hidden from other users of the machine
    settings = "save ''\nappendonly no\ndatabases 256\nrequirepass %s\n"
    container.with_command(["sh", "-c", f'printf "{settings}" "$PASSWORD" | exec valkey-server -'])
    _publish(container, 6379)
    with container:
        url = f"redis://:{password}@{container.get_container_host_ip()}:{container.get_exposed_port(6379)}/0"
        _wait_until(lambda: _pongs(url), VALKEY_IMAGE)
        yield url


START: dict[str, Callable[[], AbstractContextManager[str]]] = {
    "Kafka": kafka,
    "PostgreSQL": postgres,
    "Valkey": valkey,
}


def _publish(container: DockerContainer, port: int, on: int | None = None) -> None:
    """Publish a port, on the loopback address if the engine runs here; Docker's default is every address."""
    here = container.get_container_host_ip() in {"localhost", "127.0.0.1", "::1"}
    container.ports[str(port)] = (LOOPBACK, on) if here else on  # type: ignore[assignment] # Docker takes an address too


def _wait_until(ready: Callable[[], bool], image: str) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{image} was not ready after {_READY_SECONDS:.0f} s")
        time.sleep(0.2)


def _connects(dsn: str) -> bool:
    async def connect() -> None:
        await (await asyncpg.connect(dsn, timeout=3)).close()

    with suppress(OSError, TimeoutError, asyncpg.PostgresError), ThreadPoolExecutor(1) as apart:
        apart.submit(asyncio.run, connect()).result()
        return True
    return False


def _pongs(url: str) -> bool:
    with suppress(redis.RedisError), redis.Redis.from_url(url, socket_timeout=2) as client:
        return bool(client.ping())
    return False
