"""The environment of one machine's system: every address and secret as ``TRANSOM_*``, written to ``transom.env``."""

import re
import secrets
import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.cli.one_machine import SANDBOX_URL
from deploy.local.servers.local_servers import Servers
from deploy.local.servers.ports import LOOPBACK, free_port, is_free
from libs.common.errors import ConfigurationError
from libs.common.kafka.connection import KafkaConnection
from libs.common.settings import KafkaSettings

PREFIX = "TRANSOM_"
FILE_NAME = "transom.env"
ADMIN_PORT = f"{PREFIX}ADMIN_PORT"
INSTANCE = f"{PREFIX}INSTANCE"
_GIVEN = "  # given"
_SERVERS = 4  # ports that the servers take from the base
_OF_A_PROVIDER = {
    "TRANSOM_GRAPH_BASE_URL": ("TRANSOM_WHATSAPP_TOKEN", "TRANSOM_META_APP_SECRETS"),
    "TRANSOM_TWILIO_BASE_URL": ("TRANSOM_TWILIO_ACCOUNT_SID", "TRANSOM_TWILIO_AUTH_TOKENS"),
}
"""What the sandbox takes from us, but a real provider knows already."""
SERVICE_PORTS = ("ingest", "router", "whatsapp-sender", "sms-bridge")


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the sandbox and the services listen, and where the portal will."""

    sandbox: int
    services: Mapping[str, int]
    portal: int

    @classmethod
    def choose(cls, base: int | None) -> "Ports":
        """The ports after those of the servers; free ones without a base. Raises ConfigurationError when one is taken."""
        count = len(SERVICE_PORTS) + 2
        ports = [free_port() if base is None else base + _SERVERS + index for index in range(count)]
        if taken := [str(port) for port in ports if not is_free(port)]:
            raise ConfigurationError(f"port {', '.join(taken)} is taken: choose another --port-base")
        return cls(ports[0], dict(zip(SERVICE_PORTS, ports[1:-1], strict=True)), ports[-1])


def address_of(service: str) -> str:
    """The variable that holds a service's address."""
    return f"{PREFIX}{service.upper().replace('-', '_')}_URL"


def environment(
    servers: Servers, ports: Ports, given: Mapping[str, str], remembered: Mapping[str, str]
) -> dict[str, str]:
    """Every ``TRANSOM_*`` variable of the run.

    What is ``given`` wins, but not over where our own processes listen; then the secrets ``remembered`` from an earlier run, then a
    fresh secret.
    """
    sandbox = f"http://{LOOPBACK}:{ports.sandbox}"

    def secret(name: str, fresh: str) -> str:
        return given.get(name) or remembered.get(name) or fresh

    found = {
        "TRANSOM_KAFKA_BOOTSTRAP": servers.kafka_bootstrap,
        "TRANSOM_TOPIC_PREFIX": "",
        "TRANSOM_POSTGRES_DSN": servers.postgres_dsn,
        "TRANSOM_REDIS_URL": servers.redis_url,
        "TRANSOM_META_APP_SECRETS": secret("TRANSOM_META_APP_SECRETS", secrets.token_hex(16)),
        "TRANSOM_META_VERIFY_TOKEN": secret("TRANSOM_META_VERIFY_TOKEN", secrets.token_hex(8)),
        "TRANSOM_WHATSAPP_TOKEN": secret("TRANSOM_WHATSAPP_TOKEN", secrets.token_hex(16)),
        "TRANSOM_TWILIO_ACCOUNT_SID": secret("TRANSOM_TWILIO_ACCOUNT_SID", "AC" + secrets.token_hex(16)),
        "TRANSOM_TWILIO_AUTH_TOKENS": secret("TRANSOM_TWILIO_AUTH_TOKENS", secrets.token_hex(16)),
        "TRANSOM_PORTAL_LINK_KEYS": secret("TRANSOM_PORTAL_LINK_KEYS", secrets.token_hex(32)),
        "TRANSOM_PORTAL_URL": f"http://{LOOPBACK}:{ports.portal}",
        "TRANSOM_GRAPH_BASE_URL": sandbox,
        "TRANSOM_TWILIO_BASE_URL": sandbox,
        "TRANSOM_PUBLIC_URL": f"http://{LOOPBACK}:{ports.services['ingest']}",
        "TRANSOM_HTTP_HOST": LOOPBACK,
    }
    found |= {name: value for name, value in given.items() if value}
    if sandbox in {found["TRANSOM_GRAPH_BASE_URL"], found["TRANSOM_TWILIO_BASE_URL"]}:
        found[SANDBOX_URL] = sandbox
    for base_url, needed in _OF_A_PROVIDER.items():
        if found[base_url] != sandbox and (missing := [name for name in needed if not given.get(name)]):
            raise ConfigurationError(f"{base_url} is given, so set {', '.join(missing)} too")
    return found | {address_of(service): f"http://{LOOPBACK}:{port}" for service, port in ports.services.items()}


def of_service(service: str, env: Mapping[str, str]) -> dict[str, str]:
    """The environment of one service: where ``/metrics`` has a port of its own, each has another one, by their order."""
    host, colon, port = env.get(ADMIN_PORT, "").rpartition(":")
    if not (port.isascii() and port.isdecimal() and int(port)):
        return dict(env)
    return {**env, ADMIN_PORT: f"{host}{colon}{int(port) + SERVICE_PORTS.index(service)}"}


def wishes(environ: Mapping[str, str], folder: Path) -> dict[str, str]:
    """The ``TRANSOM_*`` variables that somebody set for this run, empty ones aside.

    A shell that sourced the file of an earlier run on ``folder`` has that run's addresses; nobody wished for those, and they are dead.
    """
    ours = {address_of(service) for service in SERVICE_PORTS} | {SANDBOX_URL}
    stale = _lines(folder, given=False)
    return {
        name: value
        for name, value in environ.items()
        if name.startswith(PREFIX) and value and name not in ours and stale.get(name) != value
    }


def surroundings(environ: Mapping[str, str]) -> dict[str, str]:
    """What a process is given of ``environ`` beside its own settings.

    No ``TRANSOM_*``: one that nobody wished for would be a setting all the same.
    """
    return {name: value for name, value in environ.items() if not name.startswith(PREFIX)}


def kafka_connection(env: Mapping[str, str], client_id: str) -> KafkaConnection:
    """How to reach the brokers of a run, credentials included."""
    given = {name: env[PREFIX + name.upper()] for name in KafkaSettings.model_fields if PREFIX + name.upper() in env}
    return KafkaSettings.model_validate(given).kafka_connection(client_id)


def without_password(address: str) -> str:
    """The address as it may be shown: stars stand where a password stood."""
    head, at, rest = address.rpartition("@")
    scheme, _, who = head.partition("://")
    query = re.sub(r"(?i)([?&]password=)[^&]*", r"\1***", rest)
    return f"{scheme}://{who.partition(':')[0]}:***@{query}" if at and ":" in who else f"{head}{at}{query}"


def remembered(folder: Path) -> dict[str, str]:
    """What an earlier run on this folder wrote; its secrets stay, so that links and signatures made then are good now."""
    return _lines(folder)


def write(folder: Path, found: Mapping[str, str], given: Collection[str] = ()) -> Path:
    """Write the file that any shell can source, with a mark on what was ``given``; it holds secrets, so only its owner may read it."""
    path = folder / FILE_NAME
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)  # whoever could read that one could read this
    fresh.touch(mode=0o600)
    lines = (
        f"export {name}={shlex.quote(value)}{_GIVEN if name in given else ''}\n"
        for name, value in sorted(found.items())
    )
    fresh.write_text("".join(lines))
    fresh.replace(path)
    return path


def _lines(folder: Path, *, given: bool = True) -> dict[str, str]:
    """The variables of the file; without ``given`` only those that the run made up itself."""
    try:
        lines = (folder / FILE_NAME).read_text().splitlines()
    except FileNotFoundError:
        return {}
    chosen = (line for line in lines if given or not line.endswith(_GIVEN))
    words = (word for line in chosen for word in shlex.split(line, comments=True) if "=" in word)
    return {name: value for name, _, value in (word.partition("=") for word in words)}
