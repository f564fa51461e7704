"""Kafka, PostgreSQL and Redis that speak TLS and ask who is there, with certificates made on the spot.

One authority signs for all three. Their certificates are for 127.0.0.1; ``localhost`` reaches them under a name that no
certificate has.
"""

import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

import trustme
from cryptography.hazmat.primitives import serialization

from deploy.local.servers.kafka import KafkaServer
from deploy.local.servers.ports import LOOPBACK, free_port
from deploy.local.servers.postgres import DATABASE, ROLE, PostgresServer
from deploy.local.servers.private import private_file
from deploy.local.servers.valkey import ValkeyServer
from deploy.local.watchdog import Watchdog
from libs.common.clock import utc_now
from tests.support.manifests.build import EXAMPLE, documents_in

PASSWORD = "open-sesame"
ADMIN = "admin"
_CHECKS_SECONDS = 2.0
_ACL: str = next(
    secret["stringData"]["users.acl"]
    for secret in documents_in(EXAMPLE / "secrets.yaml")
    if secret["metadata"]["name"] == "transom-valkey"
)
"""The users of the example for Kubernetes."""


@dataclass(frozen=True, slots=True)
class Identity:
    """``pem`` has the key and the certificates, ``cert`` the certificates alone, ``key`` the key alone."""

    pem: Path
    cert: Path
    key: Path


class Authority:
    """An authority, and the files of those whom it certifies."""

    def __init__(self, folder: Path, name: str = "ca", *, ca: trustme.CA | None = None) -> None:
        self._folder = folder
        self._ca = ca or trustme.CA()
        self.file = folder / f"{name}.pem"
        self._ca.cert_pem.write_to_path(self.file)

    def server(self, name: str, *, expired: bool = False) -> Identity:
        until = utc_now() + (timedelta(hours=-1) if expired else timedelta(days=1))
        return self._kept(name, self._ca.issue_cert(LOOPBACK, common_name=name, not_after=until))

    def client(self, name: str) -> Identity:
        return self._kept(name, self._ca.issue_cert(f"{name}.client", common_name=name))

    def trusting(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.file)

    def _kept(self, name: str, made: trustme.LeafCert) -> Identity:
        """The key as PKCS #8, which is the one form that Kafka reads."""
        key = serialization.load_pem_private_key(made.private_key_pem.bytes(), None).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        chain = b"".join(blob.bytes() for blob in made.cert_chain_pems)
        files = [(self._folder / f"{name}.{end}", text) for end, text in
                 (("pem", key + chain), ("crt", chain), ("key", key))]  # fmt: skip
        return Identity(*(private_file(path, text.decode()) for path, text in files))


class TlsKafka(KafkaServer):
    """Three listeners: SASL over TLS (SCRAM-SHA-512 and PLAIN), client certificates, and an expired certificate.

    Rights are asked for (StandardAuthorizer). A user has a SCRAM password; the name in a client certificate is its
    user. The listener of the controller is in plain text, for the broker itself.
    """

    def __init__(self, folder: Path, watchdog: Watchdog, authority: Authority, users: Sequence[str]) -> None:
        super().__init__(folder, watchdog)
        self._authority, self._users = authority, users
        self.certificates_port, self.expired_port = free_port(), free_port()

    @property
    def ports(self) -> Sequence[int]:
        return *super().ports, self.certificates_port, self.expired_port

    def _java(self, main_class: str, *arguments: str) -> list[str]:
        if main_class == "kafka.tools.StorageTool":
            for user in self._users:
                arguments = (*arguments, "--add-scram", f"SCRAM-SHA-512=[name={user},password={PASSWORD}]")
        return super()._java(main_class, *arguments)

    def _is_ready(self) -> bool:
        return _greets(self.port, self._authority)

    def _properties(self, data: Path) -> dict[str, object]:
        addresses = {
            "SASL": f"{LOOPBACK}:{self.port}",
            "CERTS": f"{LOOPBACK}:{self.certificates_port}",
            "EXPIRED": f"{LOOPBACK}:{self.expired_port}",
        }
        listeners = ",".join(f"{name}://{address}" for name, address in addresses.items())
        good = self._authority.server("kafka")
        login = "org.apache.kafka.common.security"
        return super()._properties(data) | {
            "listeners": f"{listeners},CONTROLLER://{LOOPBACK}:{self.controller_port}",
            "advertised.listeners": listeners,
            "listener.security.protocol.map": "SASL:SASL_SSL,CERTS:SSL,EXPIRED:SSL,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "SASL",
            "sasl.mechanism.inter.broker.protocol": "PLAIN",
            "listener.name.sasl.sasl.enabled.mechanisms": "SCRAM-SHA-512,PLAIN",
            "listener.name.sasl.scram-sha-512.sasl.jaas.config": f"{login}.scram.ScramLoginModule required;",
            "listener.name.sasl.plain.sasl.jaas.config": (
                f'{login}.plain.PlainLoginModule required username="{ADMIN}" password="{PASSWORD}"'
                f' user_{ADMIN}="{PASSWORD}";'
            ),
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": good.pem,
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": self._authority.file,
            "listener.name.certs.ssl.client.auth": "required",
            "listener.name.certs.ssl.principal.mapping.rules": "RULE:^.*CN=([^,]+).*$/$1/",
            "listener.name.expired.ssl.keystore.type": "PEM",
            "listener.name.expired.ssl.keystore.location": self._authority.server("late-kafka", expired=True).pem,
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": f"User:{ADMIN};User:ANONYMOUS",  # anonymous is the controller's own listener
        }


class TlsPostgres(PostgresServer):
    """Takes TLS alone: its own role and ``EDGE`` by password, ``CERTIFIED`` by a client certificate of that name."""

    CERTIFIED: ClassVar[str] = "certified"
    EDGE: ClassVar[str] = "transom_edge"
    _HBA: ClassVar[str] = (
        f"hostssl {DATABASE} {CERTIFIED} {LOOPBACK}/32 cert\n"
        f"hostssl {DATABASE} {ROLE},{EDGE} {LOOPBACK}/32 scram-sha-256\n"
    )

    def __init__(self, folder: Path, watchdog: Watchdog, authority: Authority, programs: Path) -> None:
        rights = [
            f"create role {self.CERTIFIED} login in role {ROLE}",
            f"create role {self.EDGE} login password '{PASSWORD}'",
        ]
        super().__init__(folder, watchdog, durable=False, rights=rights)
        self._authority, self._tls_programs = authority, programs
        self.identity = authority.server("postgres")

    def url(self, *, host: str = LOOPBACK, **asked: object) -> str:
        """Its address with what is asked of TLS, by default everything."""
        asked = {"sslmode": "verify-full", "sslrootcert": self._authority.file} | asked
        words = "&".join(f"{name}={value}" for name, value in asked.items())
        return f"{self.address.replace(LOOPBACK, host)}?{words}"

    def _prepare(self) -> None:
        super()._prepare()
        (self._cluster / "pg_hba.conf").write_text(self._HBA)
        for name, source in (("server.crt", self.identity.cert), ("server.key", self.identity.key)):
            (self._cluster / name).unlink(missing_ok=True)
            self._home.give(private_file(self._cluster / name, source.read_text()))
        self._home.give(private_file(self._cluster / "ca.crt", self._authority.file.read_text()))

    def _command(self) -> Sequence[str]:
        return [*super()._command(), "-c", "ssl=on", "-c", "ssl_ca_file=ca.crt"]

    def _binary(self, name: str) -> str:
        if self._programs is None:
            self._programs = self._home.reachable(self._tls_programs) / "bin"
        return str(self._programs / name)


class TlsRedis(ValkeyServer):
    """Takes TLS alone, and the user ``transom`` alone, with the rights of the example for Kubernetes."""

    def __init__(self, folder: Path, watchdog: Watchdog, authority: Authority, program: Path) -> None:
        super().__init__(folder, watchdog, durable=False)
        self._authority, self._program = authority, program
        self.identity = authority.server("redis")
        self.asks_clients = False

    def url(
        self, *, host: str = LOOPBACK, password: str = PASSWORD, ca: Path | None = None, client: Identity | None = None
    ) -> str:
        shown = "" if client is None else f"&ssl_certfile={client.cert}&ssl_keyfile={client.key}"
        return f"rediss://transom:{password}@{host}:{self.port}/0?ssl_ca_certs={ca or self._authority.file}{shown}"

    def _prepare(self) -> None:
        super()._prepare()
        with self._config.open("a") as config:
            config.write(_ACL.replace("CHANGE-ME-VALKEY", PASSWORD))

    def _command(self) -> Sequence[str]:
        words = list(super()._command())
        words[0] = str(self._program)
        words[words.index("--port") : words.index("--port") + 2] = ["--port", "0", "--tls-port", str(self.port)]
        return [
            *words,
            *("--tls-cert-file", str(self.identity.cert), "--tls-key-file", str(self.identity.key)),
            *(
                "--tls-ca-cert-file",
                str(self._authority.file),
                "--tls-auth-clients",
                "yes" if self.asks_clients else "no",
            ),
        ]

    def _is_ready(self) -> bool:
        return _greets(self.port, self._authority, verify=False)


def _greets(port: int, authority: Authority, *, verify: bool = True) -> bool:
    """Whether a TLS handshake succeeds there."""
    context = authority.trusting()
    if not verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            socket.create_connection((LOOPBACK, port), timeout=_CHECKS_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=LOOPBACK),
        ):
            return True
    except OSError:
        return False
