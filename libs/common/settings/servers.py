"""The settings of every service: its log, its addresses, and how it reaches Kafka, PostgreSQL and Redis."""

from typing import Annotated, Literal, Self
from urllib.parse import parse_qsl

from aiokafka.conn import get_ip_port_afi
from pydantic import AfterValidator, Field, PositiveInt, SecretStr, model_validator

from libs.common.kafka.connection import KafkaConnection
from libs.common.setting_types import AdminPort, Instance, OptionalText, RequiredSecret, Seconds
from libs.common.settings.base import PREFIX, Settings

_LAST_PORT = 65_535


def _with_ports(servers: str) -> str:
    try:  # as the client will read them
        named = [get_ip_port_afi(server.strip()) for server in servers.split(",") if server.strip()]
    except ValueError:
        named = []
    if not named or not all(host and 0 < port <= _LAST_PORT for host, port, _ in named):
        raise ValueError(f"must be host:port, several joined by commas, and a port is from 1 to {_LAST_PORT}")
    return servers


class LogSettings(Settings):
    log_format: Literal["json", "console"] = "json"
    log_level: Literal["debug", "info", "warning", "error"] = "info"


class HttpSettings(Settings):
    """The addresses at which a service answers ``/livez``, ``/readyz``, ``/metrics`` and its own routes.

    ``admin_port`` moves ``/metrics`` to ``PORT`` (on loopback) or ``HOST:PORT``.
    """

    http_host: str = "0.0.0.0"
    http_port: Annotated[int, Field(ge=0, le=65535)] = 8080
    admin_port: AdminPort = None
    drain_seconds: Seconds = 25.0


class ServiceSettings(LogSettings, HttpSettings):
    """The settings of every service; the base of each service's own settings."""


class KafkaSettings(Settings):
    kafka_bootstrap: Annotated[str, AfterValidator(_with_ports)] = "localhost:9092"
    topic_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{0,200}$")] = ""  # of the names that Kafka takes
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    kafka_sasl_username: OptionalText = None
    kafka_sasl_password: SecretStr | None = None
    kafka_ssl_cafile: OptionalText = None
    kafka_ssl_certfile: OptionalText = None
    kafka_ssl_keyfile: OptionalText = None

    @model_validator(mode="after")
    def _tls_is_asked_for(self) -> Self:
        """Whoever names an authority or a certificate gets TLS or nothing."""
        files = ("KAFKA_SSL_CAFILE", self.kafka_ssl_cafile), ("KAFKA_SSL_CERTFILE", self.kafka_ssl_certfile)
        for name, file in files:
            if file is not None and not self.kafka_security_protocol.endswith("SSL"):
                raise ValueError(
                    f"{PREFIX}{name} is set, so {PREFIX}KAFKA_SECURITY_PROTOCOL must be SSL or SASL_SSL,"
                    f" and is {self.kafka_security_protocol}"
                )
        if self.kafka_ssl_keyfile is not None and self.kafka_ssl_certfile is None:
            raise ValueError(
                f"{PREFIX}KAFKA_SSL_CERTFILE is required: set it, because {PREFIX}KAFKA_SSL_KEYFILE is set"
            )
        return self

    @model_validator(mode="after")
    def _sasl_is_complete(self) -> Self:
        if self.kafka_security_protocol.startswith("SASL") and not (
            self.kafka_sasl_username and self.kafka_sasl_password
        ):
            raise ValueError(
                "TRANSOM_KAFKA_SECURITY_PROTOCOL asks for SASL: "
                "set TRANSOM_KAFKA_SASL_USERNAME and TRANSOM_KAFKA_SASL_PASSWORD"
            )
        if self.kafka_sasl_username and not self.kafka_security_protocol.startswith("SASL"):
            raise ValueError(
                "TRANSOM_KAFKA_SASL_USERNAME is set, so TRANSOM_KAFKA_SECURITY_PROTOCOL must be SASL_SSL or"
                f" SASL_PLAINTEXT, and is {self.kafka_security_protocol}"
            )
        return self

    def kafka_connection(self, client_id: str) -> KafkaConnection:
        """The connection to the brokers, with this client id."""
        sasl = self.kafka_security_protocol.startswith("SASL")
        password = self.kafka_sasl_password
        return KafkaConnection(
            bootstrap=self.kafka_bootstrap,
            topic_prefix=self.topic_prefix,
            security_protocol=self.kafka_security_protocol,
            sasl_mechanism=self.kafka_sasl_mechanism if sasl else None,
            sasl_username=self.kafka_sasl_username if sasl else None,
            sasl_password=password.get_secret_value() if sasl and password else None,
            ssl_cafile=self.kafka_ssl_cafile,
            ssl_certfile=self.kafka_ssl_certfile,
            ssl_keyfile=self.kafka_ssl_keyfile,
            client_id=client_id,
        )


class ConsumerSettings(KafkaSettings):
    """A consumer: the size of its batches, and how many dead letters in a row stop a partition.

    ``instance`` is a name of this process alone that it has again after a restart, such as that of a pod of a
    StatefulSet.
    """

    batch_records: Annotated[PositiveInt, Field(le=100_000)] = 500
    dlq_run_limit: Annotated[PositiveInt, Field(le=1_000_000)] = 100
    instance: Instance = None


class PostgresSettings(Settings):
    postgres_dsn: RequiredSecret = SecretStr("postgresql://localhost/transom")
    postgres_pool_size: Annotated[PositiveInt, Field(le=1_000)] = 8
    postgres_timeout_seconds: Annotated[Seconds, Field(le=86_400)] = 2.0  # of milliseconds PostgreSQL takes 31 bits

    @model_validator(mode="after")
    def _tls_of_postgres_is_asked_for(self) -> Self:
        """With any other sslmode asyncpg checks no certificate, or goes on in plain text."""
        asked = _parameters_in(self.postgres_dsn)
        files = [name for name in ("sslrootcert", "sslcert", "sslkey") if name in asked]
        if files and asked.get("sslmode") not in ("require", "verify-ca", "verify-full"):
            raise ValueError(
                f"{PREFIX}POSTGRES_DSN names {files[0]}, so its sslmode must be verify-full, verify-ca or require"
            )
        return self


class WorkerSettings(ServiceSettings, ConsumerSettings, PostgresSettings):
    """The settings of every service with Kafka and PostgreSQL."""


class RedisSettings(Settings):
    redis_url: SecretStr = SecretStr("redis://localhost:6379/0")

    @model_validator(mode="after")
    def _tls_of_redis_is_asked_for(self) -> Self:
        asked = [name for name in _parameters_in(self.redis_url) if name.startswith("ssl_")]
        if asked and not self.redis_url.get_secret_value().startswith("rediss://"):
            raise ValueError(f"{PREFIX}REDIS_URL has a parameter of TLS (ssl_…), so it must begin with rediss://")
        return self


def _parameters_in(url: SecretStr) -> dict[str, str]:
    """What stands behind the question mark of an address."""
    return dict(parse_qsl(url.get_secret_value().partition("?")[2]))
