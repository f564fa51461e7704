"""``transom up``: the whole system on this machine, in the foreground.

It starts servers, schema and topics, providers and services in this order, and prints the ready line. However this
process ends, nothing that it started runs on. After Ctrl-C the services drain first; after a kill the watchdog ends
them.
"""

import asyncio
import hashlib
import os
import platform
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import NoReturn

from rich.console import Console

from deploy.cli.interrupts import interrupt_on_signals
from deploy.cli.one_machine import SANDBOX_URL
from deploy.local.environment import (
    INSTANCE,
    Ports,
    address_of,
    environment,
    kafka_connection,
    of_service,
    remembered,
    surroundings,
    wishes,
    write,
)
from deploy.local.example import conversation_links, load_garage
from deploy.local.process_logs import following, fresh_log, last_line
from deploy.local.register import register
from deploy.local.servers import ServerError
from deploy.local.servers.local_servers import Given, LocalServers
from deploy.local.servers.private import private_folder
from deploy.local.watchdog import Watchdog, Watched, end
from libs.common.db.migrate import migrate
from libs.common.errors import ConfigurationError
from libs.common.kafka.topics import declare
from libs.common.service import HARD_SECONDS
from libs.common.settings import HttpSettings

READY_SECONDS = 180.0  # of processes that run: one that cannot start ends by itself
_MORE_SECONDS = 1.0  # on top of the time that a service takes to stop
_POLL = 0.1
_HTTP_OK = 200


@dataclass(frozen=True, slots=True)
class Running:
    """A system that is up. ``env`` holds what its clients need; the sandbox is one of the ``processes``."""

    env: Mapping[str, str]
    env_file: Path
    logs: Path
    processes: Mapping[str, subprocess.Popen[bytes]]
    servers: LocalServers

    def hold(self) -> NoReturn:
        """Wait until a signal. Raises ConfigurationError when a process ends by itself, a server or a service."""
        services = {name: (process, self.logs / f"{name}.log") for name, process in self.processes.items()}
        watched = self.servers.processes | services
        while True:
            for name, (process, log) in watched.items():
                if (code := process.poll()) is not None:
                    raise ConfigurationError(
                        f"{name} {_how_ended(code)}, so this run ends: start it again."
                        f" Its last line (log: {log}): {last_line(log)}"
                    )
            time.sleep(_POLL)


@contextmanager
def system(
    folder: Path,
    *,
    port_base: int | None = None,
    given: Mapping[str, str] | None = None,
    console: Console | None = None,
    lasting: bool = True,
) -> Iterator[Running]:
    """A system that is ready inside the ``with`` and gone after it.

    ``given`` holds ``TRANSOM_*`` variables that override the generated ones; by default it is the environment. Servers
    that it names are used instead of local ones. Without ``lasting`` the folder was made for this run alone. Then no
    server waits for the disk, and the folder is removed if the run is killed. Raises ConfigurationError in one line.
    """
    folder = folder.absolute()
    given = wishes(os.environ if given is None else given, folder)
    try:
        ports = Ports.choose(port_base)
        servers = LocalServers(
            folder,
            given=Given.from_environment(given),
            port_base=port_base,
            console=console,
            durable=lasting,
            scratch=None if lasting else folder,
        )
        servers.start()
    except ServerError as error:
        raise ConfigurationError(str(error)) from error
    try:
        env = environment(servers.addresses, ports, given, remembered(folder))
        asyncio.run(_prepare(env))
        logs = private_folder(folder / "logs")
        processes = _spawn(servers.watchdog, env, ports, logs, folder)
        try:
            _wait_ready(env, processes, logs)
            if SANDBOX_URL in env:
                asyncio.run(register(env[SANDBOX_URL], env["TRANSOM_POSTGRES_DSN"]))
            yield Running(env, write(folder, env, given), logs, processes, servers)
        finally:
            end([w for name, p in processes.items() if name != "sandbox" and (w := _watched(p))], _drain_seconds(env))
    finally:
        servers.stop()


def run_up(folder: Path, port_base: int | None) -> None:
    """Run until Ctrl-C or SIGTERM. Raises ConfigurationError when a process ends by itself."""
    console = Console(stderr=True)
    interrupt_on_signals()
    try:
        with ExitStack() as last, system(folder, port_base=port_base, console=console) as running:
            sys.stdout.write(f"ready: addresses are in {running.env_file} (source it), logs in {running.logs}\n")
            sys.stdout.write(_links(running.env, folder))
            sys.stdout.flush()
            last.enter_context(following(running.logs))  # closed after the system, so that the last lines are copied
            running.hold()
    except KeyboardInterrupt:
        console.print("stopped")


def _links(env: Mapping[str, str], folder: Path) -> str:
    """Lines with links that open the example's conversation. Without our own database or sandbox there are none."""
    portal, inbox = env["TRANSOM_PORTAL_URL"], env["TRANSOM_INBOX_URL"]
    if SANDBOX_URL not in env or os.environ.get("TRANSOM_POSTGRES_DSN") == env["TRANSOM_POSTGRES_DSN"]:
        return f"inbox: {inbox}\nportal: {portal}\n"
    try:
        links, link = asyncio.run(_example(env, folder))
    except ConfigurationError as trouble:
        return f"inbox: {inbox}\nportal: {portal} (no example: {trouble})\n"
    lines = [f"inbox: {one} opens it as {who}, once\n" for who, one in links.items()] or [f"inbox: {inbox}\n"]
    return "".join([*lines, f"portal: {link} opens an example conversation, once\n"])


async def _example(env: Mapping[str, str], folder: Path) -> tuple[Mapping[str, str], str]:
    await load_garage(env, folder)
    return await conversation_links(env)


async def _prepare(env: Mapping[str, str]) -> None:
    await migrate(env["TRANSOM_POSTGRES_DSN"])
    await declare(kafka_connection(env, "transom-up"))


def _instance(folder: Path) -> str:
    """The static group membership of the services on this folder: after a restart they get their partitions at once.

    It is not in the file of addresses: a further replica that a user starts must not take their place in the group.
    """
    return f"up-{hashlib.sha256(f'{platform.node()} {folder}'.encode()).hexdigest()[:16]}"


def _spawn(
    watchdog: Watchdog, env: Mapping[str, str], ports: Ports, logs: Path, folder: Path
) -> dict[str, subprocess.Popen[bytes]]:
    processes, base = {}, surroundings(os.environ)
    if SANDBOX_URL in env:
        processes["sandbox"] = watchdog.spawn(
            [sys.executable, "-m", "deploy.local.sandbox", "--port", str(ports.sandbox)],
            output=fresh_log(logs, "sandbox"),
            env=_sandbox_options(env, folder),
            base=base,
        )
    for service, port in ports.services.items():
        processes[service] = watchdog.spawn(
            [sys.executable, "-m", "deploy.cli", "run", service, "--port", str(port)],
            output=fresh_log(logs, service),
            env={INSTANCE: _instance(folder), **of_service(service, env)},
            base=base,
        )
    return processes


def _sandbox_options(env: Mapping[str, str], folder: Path) -> dict[str, str]:
    """The options as variables: every user of the machine can read a command line, and some options are secrets."""
    public = env["TRANSOM_PUBLIC_URL"]
    options = {
        "webhook-url": f"{public}/webhooks/meta",
        "sms-url": f"{public}/webhooks/twilio/sms",
        "vonage-sms-url": f"{public}/webhooks/vonage/sms",
        "app-secret": env["TRANSOM_META_APP_SECRETS"].split(",")[0].strip(),
        "verify-token": env["TRANSOM_META_VERIFY_TOKEN"],
        "token": env["TRANSOM_WHATSAPP_TOKEN"],
        "twilio-sid": env["TRANSOM_TWILIO_ACCOUNT_SID"],
        "twilio-token": env["TRANSOM_TWILIO_AUTH_TOKENS"].split(",")[0].strip(),
        "vonage-key": env["TRANSOM_VONAGE_API_KEY"],
        "vonage-secret": env["TRANSOM_VONAGE_API_SECRET"].split(",")[0].strip(),
        "vonage-signature": env["TRANSOM_VONAGE_SIGNATURE_SECRET"].split(",")[0].strip(),
        **_oidc_options(env),
        "windows": str(folder / "sandbox.windows"),
        "day-seconds": env.get("TRANSOM_WINDOW_SECONDS", "86400"),
    }
    return {f"SANDBOX_{name.upper().replace('-', '_')}": value for name, value in options.items()}


def _oidc_options(env: Mapping[str, str]) -> dict[str, str]:
    """The sandbox's people sign in, unless a real identity provider was given."""
    if not env.get("TRANSOM_OIDC_ISSUER", "").startswith(env[SANDBOX_URL]):
        return {}
    return {
        "oidc-client": env["TRANSOM_OIDC_CLIENT_ID"],
        "oidc-secret": env["TRANSOM_OIDC_CLIENT_SECRET"],
        "oidc-redirect": f"{env['TRANSOM_INBOX_URL']}/login/callback",
    }


def _wait_ready(env: Mapping[str, str], processes: Mapping[str, subprocess.Popen[bytes]], logs: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    waiting = {name: _ready_url(env, name) for name in processes}
    while waiting:
        for name, url in list(waiting.items()):
            if processes[name].poll() is not None:
                raise ConfigurationError(f"{name} ended as it started: {last_line(logs / f'{name}.log')}")
            if _answers(url):
                del waiting[name]
        if time.monotonic() > deadline:
            raise ConfigurationError(f"{', '.join(waiting)} not ready after {READY_SECONDS:.0f} s: see {logs}")
        time.sleep(_POLL)


def _ready_url(env: Mapping[str, str], name: str) -> str:
    if name == "sandbox":
        return f"{env[SANDBOX_URL]}/_control/health"
    return f"{env[address_of(name)]}/readyz"


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 -- an address of this run
            return bool(answer.status == _HTTP_OK)
    except (urllib.error.URLError, OSError, HTTPException):
        return False


def _drain_seconds(env: Mapping[str, str]) -> float:
    """How long a service may take to stop before it is killed."""
    budget = env.get("TRANSOM_DRAIN_SECONDS") or HttpSettings.model_fields["drain_seconds"].default
    return float(budget) + HARD_SECONDS + _MORE_SECONDS


def _how_ended(code: int) -> str:
    if code >= 0:
        return f"ended by itself with exit code {code}"
    why = " (the system kills what needs memory that it does not have)" if -code == signal.SIGKILL else ""
    return f"was ended by {signal.Signals(-code).name}{why}"


def _watched(process: subprocess.Popen[bytes]) -> Watched | None:
    return Watched.of(process.pid) if process.poll() is None else None
