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
from libs.common.settings import KafkaSettings, load
from libs.common.settings.files import SUFFIX, values_of_files

PREFIX = "TRANSOM_"
FILE_NAME = "transom.env"
ADMIN_PORT = f"{PREFIX}ADMIN_PORT"
INSTANCE = f"{PREFIX}INSTANCE"
_GIVEN = "  # given"
_SERVERS = 4  # ports that the servers take from the base
_OF_A_PROVIDER = {
    "TRANSOM_GRAPH_BASE_URL": ("TRANSOM_WHATSAPP_TOKEN", "TRANSOM_META_APP_SECRETS"),
    "TRANSOM_TWILIO_BASE_URL": ("TRANSOM_TWILIO_ACCOUNT_SID", "TRANSOM_TWILIO_AUTH_TOKENS"),
    "TRANSOM_VONAGE_BASE_URL": ("TRANSOM_VONAGE_API_KEY", "TRANSOM_VONAGE_API_SECRET"),
    "TRANSOM_OIDC_ISSUER": ("TRANSOM_OIDC_CLIENT_ID", "TRANSOM_OIDC_CLIENT_SECRET"),
}
"""What is generated for the sandbox, but must be given for a real provider."""
_FOR_PEOPLE = frozenset({"portal", "inbox"})
SERVICE_PORTS = ("ingest", "router", "whatsapp-sender", "sms-bridge", "portal", "inbox")


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of the sandbox and the services."""

    sandbox: int
    services: Mapping[str, int]

    @classmethod
    def choose(cls, base: int | None) -> "Ports":
        """The ports after those of the servers, or free ones. Raises ConfigurationError when one is taken."""
        count = len(SERVICE_PORTS) + 1
        ports = [free_port() if base is None else base + _SERVERS + index for index in range(count)]
        if taken := [str(port) for port in ports if not is_free(port)]:
            raise ConfigurationError(f"port {', '.join(taken)} is taken: choose another --port-base")
        return cls(ports[0], dict(zip(SERVICE_PORTS, ports[1:], strict=True)))


def address_of(service: str) -> str:
    """The name of the variable with a service's address.

    It is not PORTAL_URL and INBOX_URL, by which customers and staff reach those.
    """
    name = service.upper().replace("-", "_")
    return f"{PREFIX}{name}_SERVICE_URL" if service in _FOR_PEOPLE else f"{PREFIX}{name}_URL"


def environment(
    servers: Servers, ports: Ports, given: Mapping[str, str], remembered: Mapping[str, str]
) -> dict[str, str]:
    """Every ``TRANSOM_*`` variable of the run.

    A ``given`` variable wins, except for the addresses of the run's own processes. Secrets that are not given are those
    ``remembered`` from an earlier run, or fresh ones.
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
        "TRANSOM_VONAGE_API_KEY": secret("TRANSOM_VONAGE_API_KEY", secrets.token_hex(4)),
        "TRANSOM_VONAGE_API_SECRET": secret("TRANSOM_VONAGE_API_SECRET", secrets.token_hex(16)),
        "TRANSOM_VONAGE_SIGNATURE_SECRET": secret("TRANSOM_VONAGE_SIGNATURE_SECRET", secrets.token_hex(16)),
        "TRANSOM_PORTAL_LINK_KEYS": secret("TRANSOM_PORTAL_LINK_KEYS", secrets.token_hex(32)),
        "TRANSOM_PORTAL_URL": f"http://{LOOPBACK}:{ports.services['portal']}",
        "TRANSOM_JWT_KEYS": secret("TRANSOM_JWT_KEYS", secrets.token_hex(32)),
        "TRANSOM_JWT_AUDIENCE": "transom-inbox",
        "TRANSOM_JWT_ISSUER": "transom-up",
        "TRANSOM_INBOX_URL": f"http://{LOOPBACK}:{ports.services['inbox']}",
        "TRANSOM_OIDC_ISSUER": f"{sandbox}/oidc",
        "TRANSOM_OIDC_CLIENT_ID": "transom-inbox",
        "TRANSOM_OIDC_CLIENT_SECRET": secret("TRANSOM_OIDC_CLIENT_SECRET", secrets.token_hex(16)),
        "TRANSOM_FULL_ACCESS_ISSUERS": f"{sandbox}/oidc",
        "TRANSOM_GRAPH_BASE_URL": sandbox,
        "TRANSOM_TWILIO_BASE_URL": sandbox,
        "TRANSOM_VONAGE_BASE_URL": sandbox,
        "TRANSOM_PUBLIC_URL": f"http://{LOOPBACK}:{ports.services['ingest']}",
        "TRANSOM_HTTP_HOST": LOOPBACK,
    }
    found |= {name: value for name, value in given.items() if value}
    if "TRANSOM_OIDC_ISSUER" in given and "TRANSOM_FULL_ACCESS_ISSUERS" not in given:
        del found["TRANSOM_FULL_ACCESS_ISSUERS"]  # the sandbox's people are not there
    if sandbox in {found["TRANSOM_GRAPH_BASE_URL"], found["TRANSOM_TWILIO_BASE_URL"]}:
        found[SANDBOX_URL] = sandbox
    else:  # no sandbox runs for the second SMS provider or the sign-in alone
        left_out: tuple[str, ...] = ("_VONAGE_",) if found["TRANSOM_VONAGE_BASE_URL"] == sandbox else ()
        left_out += () if "TRANSOM_OIDC_ISSUER" in given else ("_OIDC_", "_FULL_ACCESS_")
        found = {name: value for name, value in found.items() if not any(part in name for part in left_out)}
    for base_url, needed in _OF_A_PROVIDER.items():
        is_real = not found.get(base_url, sandbox).startswith(sandbox)
        if is_real and (missing := [name for name in needed if not given.get(name)]):
            raise ConfigurationError(f"{base_url} is given, so set {', '.join(missing)} too")
    return found | {address_of(service): f"http://{LOOPBACK}:{port}" for service, port in ports.services.items()}


def of_service(service: str, env: Mapping[str, str]) -> dict[str, str]:
    """The environment of one service. If ``/metrics`` has a port of its own, the next service gets the next port."""
    host, colon, port = env.get(ADMIN_PORT, "").rpartition(":")
    if not (port.isascii() and port.isdecimal() and int(port)):
        return dict(env)
    return {**env, ADMIN_PORT: f"{host}{colon}{int(port) + SERVICE_PORTS.index(service)}"}


def wishes(environ: Mapping[str, str], folder: Path) -> dict[str, str]:
    """The non-empty ``TRANSOM_*`` variables that the user set for this run.

    A shell that sourced the file of an earlier run on ``folder`` has that run's addresses. They are stale, so they do
    not count. A variable that names a file stands for the file's content. Raises ConfigurationError where it cannot.
    """
    ours = {address_of(service) for service in SERVICE_PORTS} | {SANDBOX_URL}
    stale = remembered(folder, given=False)
    wished = {
        name: value
        for name, value in environ.items()
        if name.startswith(PREFIX) and value and name not in ours and stale.get(name) != value
    }
    by_file = [name.removesuffix(SUFFIX) for name in wished if name.endswith(SUFFIX)]
    plain = {name: value for name, value in wished.items() if not name.endswith(SUFFIX)}
    return plain | values_of_files(by_file, "", wished)


def surroundings(environ: Mapping[str, str]) -> dict[str, str]:
    """``environ`` without ``TRANSOM_*``: a process gets its settings separately, and a stray variable would be one."""
    return {name: value for name, value in environ.items() if not name.startswith(PREFIX)}


def kafka_connection(env: Mapping[str, str], client_id: str) -> KafkaConnection:
    """The connection to the brokers of a run, with credentials. Raises ConfigurationError where a setting is wrong."""
    given = {name: env[PREFIX + name.upper()] for name in KafkaSettings.model_fields if PREFIX + name.upper() in env}
    return load(lambda: KafkaSettings.model_validate(given)).kafka_connection(client_id)


def without_password(address: str) -> str:
    """The address with stars instead of its password."""
    head, at, rest = address.rpartition("@")
    scheme, _, who = head.partition("://")
    query = re.sub(r"(?i)([?&]password=)[^&]*", r"\1***", rest)
    return f"{scheme}://{who.partition(':')[0]}:***@{query}" if at and ":" in who else f"{head}{at}{query}"


def write(folder: Path, found: Mapping[str, str], given: Collection[str] = ()) -> Path:
    """Write the file that a shell can source, with a mark on what was ``given``. Only its owner can read it."""
    path = folder / FILE_NAME
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)  # an old file may have other modes, which a rewrite would keep
    fresh.touch(mode=0o600)
    lines = (
        f"export {name}={shlex.quote(value)}{_GIVEN if name in given else ''}\n"
        for name, value in sorted(found.items())
    )
    fresh.write_text("".join(lines))
    fresh.replace(path)
    return path


def remembered(folder: Path, *, given: bool = True) -> dict[str, str]:
    """The variables of an earlier run on this folder; without ``given`` only the generated ones.

    Its secrets stay, so that its links and signatures stay valid. Raises ConfigurationError.
    """
    try:
        lines = (folder / FILE_NAME).read_text().splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        why = f"{error.filename}: {error.strerror}"
        raise ConfigurationError(f"{folder} cannot be the data folder ({why}): choose another one") from error
    chosen = (line for line in lines if given or not line.endswith(_GIVEN))
    words = (word for line in chosen for word in shlex.split(line, comments=True) if "=" in word)
    return {name: value for name, _, value in (word.partition("=") for word in words)}
