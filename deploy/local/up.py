"""``transom up``: the whole system on this machine, in the foreground.

The order is the order of need: servers, schema and topics, providers, services, the ready line. Whatever ends this process, nothing
that it started runs on: Ctrl-C drains the services first, a kill leaves it to the watchdog.
"""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from deploy.local.environment import Ports, address_of, environment, remembered, write
from deploy.local.servers.errors import ServerError
from deploy.local.servers.together import Given, LocalServers
from deploy.local.watchdog import Watchdog, Watched, end
from libs.common.db.migrate import migrate
from libs.common.errors import ConfigurationError
from libs.common.kafka.topics import declare
from libs.common.settings import KafkaSettings

READY_SECONDS = 45.0
DRAIN_SECONDS = 25.0
_POLL = 0.1
_HTTP_OK = 200


@dataclass(frozen=True, slots=True)
class Running:
    """A system that is up. ``env`` is what its clients need; ``processes`` by name, the sandbox among them."""

    env: Mapping[str, str]
    env_file: Path
    logs: Path
    processes: Mapping[str, subprocess.Popen[bytes]]
    servers: LocalServers

    def ended(self) -> str | None:
        """The name of a process that has ended although nobody asked it to, or None."""
        return next((name for name, process in self.processes.items() if process.poll() is not None), None)


@contextmanager
def system(
    folder: Path,
    *,
    port_base: int | None = None,
    given: Mapping[str, str] | None = None,
    console: Console | None = None,
    durable: bool = True,
) -> Iterator[Running]:
    """A system that is ready inside the ``with`` and gone after it.

    ``given`` are ``TRANSOM_*`` variables that win over ours; servers given there are used instead. Raises ConfigurationError in one line.
    """
    wishes = {
        name: value for name, value in (os.environ if given is None else given).items() if name.startswith("TRANSOM_")
    }
    folder = folder.absolute()
    ports = Ports.choose(port_base)
    servers = LocalServers(
        folder, given=Given.from_environment(wishes), port_base=port_base, console=console, durable=durable
    )
    try:
        servers.start()
    except ServerError as error:
        raise ConfigurationError(str(error)) from error
    try:
        env = environment(servers.addresses, ports, wishes, remembered(folder))
        asyncio.run(_prepare(env))
        logs = folder / "logs"
        logs.mkdir(exist_ok=True)
        processes = _spawn(servers.watchdog, env, ports, logs)
        try:
            _wait_ready(env, processes, logs)
            yield Running(env, write(folder, env), logs, processes, servers)
        finally:
            end([w for name, p in processes.items() if name != "sandbox" and (w := _watched(p))], DRAIN_SECONDS)
    finally:
        servers.stop()


def run_up(folder: Path, port_base: int | None) -> None:
    """Run until Ctrl-C or SIGTERM. Raises ConfigurationError when something ended that should not have."""
    console = Console(stderr=True)
    stop = threading.Event()
    interrupt_on_signals()
    try:
        with system(folder, port_base=port_base, console=console) as running:
            follower = threading.Thread(target=_follow, args=(running.logs, stop), daemon=True)
            follower.start()
            sys.stdout.write(f"ready: addresses are in {running.env_file} (source it), logs in {running.logs}\n")
            sys.stdout.flush()
            try:
                while (name := running.ended()) is None:
                    time.sleep(_POLL)
                raise ConfigurationError(f"{name} ended by itself: its log is {running.logs / name}.log")
            finally:
                stop.set()
    except KeyboardInterrupt:
        console.print("stopped")


def interrupt_on_signals() -> None:
    """Let every polite signal end this process as Ctrl-C does. A shell starts what runs in its background with SIGINT ignored."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)


async def _prepare(env: Mapping[str, str]) -> None:
    await migrate(env["TRANSOM_POSTGRES_DSN"])
    settings = KafkaSettings(kafka_bootstrap=env["TRANSOM_KAFKA_BOOTSTRAP"], topic_prefix=env["TRANSOM_TOPIC_PREFIX"])
    await declare(settings.kafka_connection("transom-up"))


def _spawn(watchdog: Watchdog, env: Mapping[str, str], ports: Ports, logs: Path) -> dict[str, subprocess.Popen[bytes]]:
    processes = {}
    if "sandbox" in _needed(env, ports):
        processes["sandbox"] = watchdog.spawn(
            [sys.executable, "-m", "deploy.local.sandbox", *_sandbox_options(env, ports)], output=logs / "sandbox.log"
        )
    for service, port in ports.services.items():
        processes[service] = watchdog.spawn(
            [sys.executable, "-m", "deploy.local.cli", "run", service, "--port", str(port)],
            output=logs / f"{service}.log",
            env=env,
        )
    return processes


def _needed(env: Mapping[str, str], ports: Ports) -> set[str]:
    """The sandbox is needed unless both providers were given."""
    own = f":{ports.sandbox}"
    return {"sandbox"} if any(env[f"TRANSOM_{p}_BASE_URL"].endswith(own) for p in ("GRAPH", "TWILIO")) else set()


def _sandbox_options(env: Mapping[str, str], ports: Ports) -> list[str]:
    public = env["TRANSOM_PUBLIC_URL"]
    options = {
        "port": str(ports.sandbox),
        "webhook-url": f"{public}/webhooks/meta",
        "sms-url": f"{public}/webhooks/twilio/sms",
        "app-secret": env["TRANSOM_META_APP_SECRETS"].split(",")[0].strip(),
        "verify-token": env["TRANSOM_META_VERIFY_TOKEN"],
        "token": env["TRANSOM_WHATSAPP_TOKEN"],
        "twilio-sid": env["TRANSOM_TWILIO_ACCOUNT_SID"],
        "twilio-token": env["TRANSOM_TWILIO_AUTH_TOKENS"].split(",")[0].strip(),
        "day-seconds": env.get("TRANSOM_WINDOW_SECONDS", "86400"),
    }
    return [word for name, value in options.items() for word in (f"--{name}", value)]


def _wait_ready(env: Mapping[str, str], processes: Mapping[str, subprocess.Popen[bytes]], logs: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    waiting = {name: _ready_url(env, name) for name in processes}
    while waiting:
        for name, url in list(waiting.items()):
            if processes[name].poll() is not None:
                raise ConfigurationError(f"{name} ended as it started: {_last_line(logs / f'{name}.log')}")
            if _answers(url):
                del waiting[name]
        if time.monotonic() > deadline:
            raise ConfigurationError(f"{', '.join(waiting)} not ready after {READY_SECONDS:.0f} s: see {logs}")
        time.sleep(_POLL)


def _ready_url(env: Mapping[str, str], name: str) -> str:
    if name == "sandbox":
        return f"{env['TRANSOM_SANDBOX_URL']}/_control/health"
    return f"{env[address_of(name)]}/readyz"


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 -- an address of ours
            return bool(answer.status == _HTTP_OK)
    except (urllib.error.URLError, OSError):
        return False


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"it wrote nothing to {log}"


def _watched(process: subprocess.Popen[bytes]) -> Watched | None:
    return Watched.of(process.pid) if process.poll() is None else None


def _follow(logs: Path, stop: threading.Event) -> None:
    """Copy what the services log to our own output, line by line."""
    places: dict[Path, int] = {path: path.stat().st_size for path in logs.glob("*.log")}
    while not stop.is_set():
        for path in sorted(logs.glob("*.log")):
            with path.open("rb") as log:
                log.seek(places.get(path, 0))
                found = log.read()
            whole = found.rfind(b"\n") + 1
            if whole:
                sys.stdout.write(found[:whole].decode(errors="replace"))
                sys.stdout.flush()
                places[path] = places.get(path, 0) + whole
        stop.wait(_POLL)
