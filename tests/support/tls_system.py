"""Three servers that speak TLS, and a service that uses them."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.local.servers.ports import LOOPBACK
from deploy.local.servers.server import Server
from libs.common.errors import ConfigurationError
from libs.common.events.access import PRINCIPALS
from libs.common.kafka.connection import KafkaConnection
from libs.common.redact import scrub
from libs.common.redis import UNAVAILABLE, Redis
from tests.support.servers import RunServers
from tests.support.service_process import ServiceProcess
from tests.support.tls_servers import PASSWORD, Authority, Identity, TlsKafka, TlsPostgres, TlsRedis

GUESS = "guessed-password"
USERS = [f"transom-{one.name}" for one in PRINCIPALS]


@dataclass(frozen=True)
class Secured:
    """The three servers, the authority that they have in common, and one that nobody trusts."""

    kafka: TlsKafka
    postgres: TlsPostgres
    redis: TlsRedis
    authority: Authority
    stranger: Authority
    client: Identity
    """The certificate of the router's user."""

    def as_user(self, name: str = "transom-ingest") -> KafkaConnection:
        return KafkaConnection(
            bootstrap=self.kafka.address,
            security_protocol="SASL_SSL",
            sasl_mechanism="SCRAM-SHA-512",
            sasl_username=name,
            sasl_password=PASSWORD,
            ssl_cafile=str(self.authority.file),
        )

    def by_certificate(self, certified: Identity | None) -> KafkaConnection:
        return KafkaConnection(
            bootstrap=f"{LOOPBACK}:{self.kafka.certificates_port}",
            security_protocol="SSL",
            ssl_cafile=str(self.authority.file),
            ssl_certfile=None if certified is None else str(certified.cert),
            ssl_keyfile=None if certified is None else str(certified.key),
        )

    def env(self, **settings: str) -> dict[str, str]:
        """As an operator sets it for all services."""
        return {
            "POSTGRES_DSN": self.postgres.url(),
            "REDIS_URL": self.redis.url(),
            "KAFKA_BOOTSTRAP": self.kafka.address,
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
            "KAFKA_SASL_PASSWORD": PASSWORD,
            "KAFKA_SASL_USERNAME": "transom-operator",
            "KAFKA_SSL_CAFILE": str(self.authority.file),
        } | settings


@contextmanager
def presenting(server: TlsPostgres | TlsRedis, identity: Identity) -> Iterator[None]:
    """The server starts again with another certificate, and in the end with its own."""

    def begin_anew(shown: Identity) -> None:
        assert isinstance(server, Server)
        server.stop()
        server.identity = shown
        server.start()

    own = server.identity
    begin_anew(identity)
    try:
        yield
    finally:
        begin_anew(own)


@asynccontextmanager
async def a_service(
    name: str, secured: Secured, folder: Path, servers: RunServers, **settings: str
) -> AsyncIterator[ServiceProcess]:
    env = {f"TRANSOM_{key}": value for key, value in secured.env(HTTP_HOST=LOOPBACK, **settings).items()}
    service = ServiceProcess(name, folder / f"{name}.log", env, servers.watchdog)
    service.start({})
    try:
        yield service
        assert await service.stop() == 0
    finally:
        if service.runs:
            await service.kill()


async def answers(redis: Redis) -> bool:
    """A call waits for a quarter of a second and no more, and a machine under load may be later."""
    return await redis.pipeline(lambda pipe: pipe.ping()) is not UNAVAILABLE


async def refused(opening: AbstractAsyncContextManager[object]) -> str:
    """The one line with which it is refused."""
    with pytest.raises(ConfigurationError) as caught:
        async with opening:
            pass
    line = str(caught.value)
    assert "\n" not in line
    assert GUESS not in line
    assert PASSWORD not in line
    assert scrub(line) == line, "a service's log says the same"
    return line
