"""How to reach the brokers."""

from dataclasses import dataclass, field
from typing import Any, Literal

from aiokafka.helpers import create_ssl_context

from libs.common.errors import ConfigurationError

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


@dataclass(frozen=True, slots=True)
class KafkaConnection:
    """Addresses, credentials, and the prefix that is put before every topic and group name.

    ``bootstrap``: ``host:port``, several joined by commas. ``ssl_cafile``: a PEM file; by default the system's
    authorities.
    """

    bootstrap: str
    topic_prefix: str = ""
    security_protocol: SecurityProtocol = "PLAINTEXT"
    sasl_mechanism: SaslMechanism | None = None
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    ssl_cafile: str | None = None
    client_id: str = "transom"

    def name(self, bare: str) -> str:
        """The name on the broker of a declared topic or a group."""
        return f"{self.topic_prefix}{bare}"

    def error(self, what: str, cause: BaseException) -> ConfigurationError:
        """A line for the operator: the brokers cannot be ``what`` (a participle)."""
        return ConfigurationError(
            f"Kafka at {self.bootstrap} cannot be {what} ({type(cause).__name__}):"
            " is it running, and is TRANSOM_KAFKA_BOOTSTRAP right?"
        )

    def client_options(self) -> dict[str, Any]:
        """Keyword arguments that producer, consumer and admin client of aiokafka have in common."""
        options: dict[str, Any] = {
            "bootstrap_servers": [server.strip() for server in self.bootstrap.split(",") if server.strip()],
            "client_id": self.client_id,
            "security_protocol": self.security_protocol,
        }
        if self.security_protocol.endswith("SSL"):
            options["ssl_context"] = create_ssl_context(cafile=self.ssl_cafile)
        if self.security_protocol.startswith("SASL"):
            options["sasl_mechanism"] = self.sasl_mechanism or "PLAIN"
            options["sasl_plain_username"] = self.sasl_username
            options["sasl_plain_password"] = self.sasl_password
        return options
