"""The environment of one machine's system: every address and secret as ``TRANSOM_*``, written to ``transom.env``."""

import secrets
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.local.servers.ports import LOOPBACK, free_port
from deploy.local.servers.together import Servers

FILE_NAME = "transom.env"
_SERVERS = 4  # ports that the servers take from the base
SERVICE_PORTS = ("ingest", "router", "whatsapp-sender", "sms-bridge")


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the sandbox and the services listen, and where the portal will."""

    sandbox: int
    services: Mapping[str, int]
    portal: int

    @classmethod
    def choose(cls, base: int | None) -> "Ports":
        """The ports after those of the servers; free ones without a base."""
        count = len(SERVICE_PORTS) + 2
        taken = [free_port() if base is None else base + _SERVERS + index for index in range(count)]
        return cls(taken[0], dict(zip(SERVICE_PORTS, taken[1:-1], strict=True)), taken[-1])


def address_of(service: str) -> str:
    """The variable that holds a service's address."""
    return f"TRANSOM_{service.upper().replace('-', '_')}_URL"


def environment(
    servers: Servers, ports: Ports, given: Mapping[str, str], remembered: Mapping[str, str]
) -> dict[str, str]:
    """Every ``TRANSOM_*`` variable of the run. What is ``given`` wins, then the secrets ``remembered`` from an earlier run, then a fresh secret."""
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
        "TRANSOM_SANDBOX_URL": sandbox,
        "TRANSOM_PUBLIC_URL": f"http://{LOOPBACK}:{ports.services['ingest']}",
        "TRANSOM_HTTP_HOST": LOOPBACK,
    }
    for service, port in ports.services.items():
        found[address_of(service)] = f"http://{LOOPBACK}:{port}"
    return found | {name: value for name, value in given.items() if name.startswith("TRANSOM_") and value}


def remembered(folder: Path) -> dict[str, str]:
    """What an earlier run on this folder wrote; its secrets stay, so that links and signatures made then are good now."""
    try:
        lines = (folder / FILE_NAME).read_text().splitlines()
    except FileNotFoundError:
        return {}
    words = (word for line in lines for word in shlex.split(line, comments=True) if "=" in word)
    return {name: value for name, _, value in (word.partition("=") for word in words)}


def write(folder: Path, found: Mapping[str, str]) -> Path:
    """Write the file that any shell can source; it holds secrets, so only its owner may read it."""
    path = folder / FILE_NAME
    fresh = path.with_suffix(".new")
    fresh.touch(mode=0o600)
    fresh.write_text("".join(f"export {name}={shlex.quote(value)}\n" for name, value in sorted(found.items())))
    fresh.replace(path)
    return path
