"""How to reach the brokers, and why they are not reached.

Law 1: nothing goes in plain text that was to go over TLS: there is no second try by another protocol.
Law 2: what is said of a failure names the broker and the cause, and no password.
"""

import asyncio
import ssl
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from aiokafka.conn import create_conn
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    UnsupportedSaslMechanismError,
)
from aiokafka.helpers import create_ssl_context

from libs.common.errors import ConfigurationError, KafkaAway
from libs.common.reaching import tls_cause, words_of

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
_LOOK_SECONDS = 3.0
_MOMENT_SECONDS = 0.5  # /readyz waits a second in all
_DEFAULT_PORT = 9092
_UNENTITLED = ClusterAuthorizationFailedError, GroupAuthorizationFailedError, TopicAuthorizationFailedError


class _Why(NamedTuple):
    """Why a broker does not serve. ``is_away``: it does not answer, so nothing shows that a setting is wrong."""

    words: str
    is_away: bool = False


@dataclass(frozen=True, slots=True)
class KafkaConnection:
    """Addresses, credentials, and the prefix that is put before every topic and group name.

    ``bootstrap``: ``host:port``, several joined by commas. The three files are PEM. Without ``ssl_cafile`` the system's
    authorities count. ``ssl_certfile`` is the client's certificate; its key may stand in the same file.
    """

    bootstrap: str
    topic_prefix: str = ""
    security_protocol: SecurityProtocol = "PLAINTEXT"
    sasl_mechanism: SaslMechanism | None = None
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    ssl_cafile: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    client_id: str = "transom"

    def name(self, bare: str) -> str:
        """The name on the broker of a declared topic or a group."""
        return f"{self.topic_prefix}{bare}"

    async def error(self, what: str, cause: BaseException) -> ConfigurationError:
        """A line for the operator: the brokers cannot be ``what`` (a participle), and why.

        It is ``KafkaAway`` where the first that fails does not answer at all. The client forgets the cause when it has
        tried every broker, so each is asked once more.
        """
        if isinstance(cause, ConfigurationError):
            return cause
        if (failing := await self._failing()) is not None:
            server, why = failing
            kind = KafkaAway if why.is_away else ConfigurationError
            return kind(f"Kafka at {server} cannot be {what}: {why.words}")
        if isinstance(cause, _UNENTITLED):
            return ConfigurationError(
                f"Kafka at {self.bootstrap} cannot be {what} ({type(cause).__name__}): give this service's user"
                " the rights that transom topics --acls prints"
            )
        return ConfigurationError(
            f"Kafka at {self.bootstrap} cannot be {what} ({type(cause).__name__}):"
            " is it running, and is TRANSOM_KAFKA_BOOTSTRAP right?"
        )

    async def cause(self) -> str | None:
        """Which broker does not serve and why, in words. None where each serves, or none says so within a moment."""
        try:
            async with asyncio.timeout(_MOMENT_SECONDS):
                failing = await self._failing()
        except TimeoutError:
            return None
        except ConfigurationError as error:  # a file of TLS is gone meanwhile
            return str(error)
        return None if failing is None else f"{failing[0]}: {failing[1].words}"

    def client_options(self) -> dict[str, Any]:
        """Keyword arguments that producer, consumer and admin client of aiokafka have in common.

        Raises ConfigurationError when a file of TLS cannot be used.
        """
        return {
            "bootstrap_servers": [server.strip() for server in self.bootstrap.split(",") if server.strip()],
            **self._secured(),
        }

    def _secured(self) -> dict[str, Any]:
        options: dict[str, Any] = {"client_id": self.client_id, "security_protocol": self.security_protocol}
        if self.security_protocol.endswith("SSL"):
            options["ssl_context"] = self._ssl_context()
        if self.security_protocol.startswith("SASL"):
            options["sasl_mechanism"] = self.sasl_mechanism or "PLAIN"
            options["sasl_plain_username"] = self.sasl_username
            options["sasl_plain_password"] = self.sasl_password
        return options

    def _ssl_context(self) -> ssl.SSLContext:
        variable, file = "KAFKA_SSL_CAFILE", self.ssl_cafile
        try:
            context: ssl.SSLContext = create_ssl_context(cafile=file)
            if self.ssl_certfile is not None:
                variable, file = "KAFKA_SSL_CERTFILE", self.ssl_certfile
                # an empty password: OpenSSL would ask for one at the terminal
                context.load_cert_chain(self.ssl_certfile, self.ssl_keyfile, password="")
        except ssl.SSLError as error:
            hint = ", with the key beside it or in TRANSOM_KAFKA_SSL_KEYFILE" if variable.endswith("CERTFILE") else ""
            raise ConfigurationError(f"TRANSOM_{variable}: {file} is no PEM file of certificates{hint}") from error
        except OSError as error:
            files = " or ".join(name for name in (file, self.ssl_keyfile) if name)
            raise ConfigurationError(f"TRANSOM_{variable}: {files} cannot be read ({type(error).__name__})") from error
        return context

    def _servers(self) -> list[tuple[str, int]]:
        servers = []
        for server in self.bootstrap.split(","):
            host, _, port = server.strip().rpartition(":")
            servers.append((host.strip("[]"), int(port)) if port.isdecimal() and host else (server.strip(), 0))
        return [(host, port or _DEFAULT_PORT) for host, port in servers if host]

    async def _failing(self) -> tuple[str, _Why] | None:
        """The first broker that does not serve, as host:port, and why; None where each does."""
        for host, port in self._servers():
            if (why := await self._why(host, port)) is not None:
                return f"{host}:{port}", why
        return None

    async def _why(self, host: str, port: int) -> _Why | None:
        """Why a client of these settings is not served there; None where it is."""
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                opened = await create_conn(host, port, request_timeout_ms=int(_LOOK_SECONDS * 1000), **self._secured())
        except UnsupportedSaslMechanismError:
            return _Why(f"it does not take TRANSOM_KAFKA_SASL_MECHANISM={self.sasl_mechanism}")
        except SaslAuthenticationFailed:
            return _Why(f"it refuses the user {self.sasl_username} of TRANSOM_KAFKA_SASL_USERNAME, or the password")
        except (KafkaError, OSError) as error:
            return self._cause(error)
        opened.close()
        return None

    def _cause(self, error: BaseException) -> _Why:
        protocol = f"TRANSOM_KAFKA_SECURITY_PROTOCOL={self.security_protocol}"
        if (why := tls_cause(error)) is not None:
            return _Why(f"{why} ({protocol})")
        refused = isinstance(error, ConnectionRefusedError)
        if isinstance(error, KafkaConnectionError | ConnectionError) and not refused:
            return _Why(f"it hangs up: does that listener speak {protocol}?")
        return _Why(
            f"{words_of(error)}: is it running, and is TRANSOM_KAFKA_BOOTSTRAP right?",
            is_away=isinstance(error, OSError),
        )
