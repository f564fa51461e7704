"""The three servers of one machine, started and stopped together.

``LocalServers`` has the data folder, which one run at a time may use, the addresses of the servers, and the watchdog.
A server that is given by its address is used instead of a local one.
"""

import contextlib
import fcntl
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from rich.console import Console

from deploy.local.servers import ServerError
from deploy.local.servers.kafka import KafkaServer
from deploy.local.servers.ports import is_free
from deploy.local.servers.postgres import PostgresServer
from deploy.local.servers.private import PRIVATE_FILE, PRIVATE_FOLDER, SEARCHABLE_FOLDER
from deploy.local.servers.server import Server
from deploy.local.servers.valkey import ValkeyServer
from deploy.local.watchdog import Watchdog


@dataclass(frozen=True, slots=True)
class Servers:
    kafka_bootstrap: str
    postgres_dsn: str
    redis_url: str


@dataclass(frozen=True, slots=True)
class Given:
    """Servers that run already and are used instead of local ones; None means a local one."""

    kafka_bootstrap: str | None = None
    postgres_dsn: str | None = None
    redis_url: str | None = None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """TRANSOM_KAFKA_BOOTSTRAP, TRANSOM_POSTGRES_DSN, TRANSOM_REDIS_URL; empty counts as not given."""
        return cls(
            environ.get("TRANSOM_KAFKA_BOOTSTRAP") or None,
            environ.get("TRANSOM_POSTGRES_DSN") or None,
            environ.get("TRANSOM_REDIS_URL") or None,
        )


class LocalServers:
    """A context manager: the servers run inside it, at ``addresses``.

    ``port_base`` is Kafka's port; its controller, PostgreSQL and Valkey take the next three. None takes free ports.
    ``durable=False`` never waits for the disk. ``watchdog`` spawns further processes that must not outlive the run.
    ``scratch`` is a folder that was made for this run alone; it is removed if the run is killed. ``rights``: see
    PostgresServer. Raises ServerError in one line.
    """

    def __init__(
        self,
        folder: Path,
        *,
        given: Given | None = None,
        port_base: int | None = None,
        durable: bool = True,
        console: Console | None = None,
        scratch: Path | None = None,
        rights: Sequence[str] = (),
    ) -> None:
        self.scratch = scratch
        self.rights = rights
        self.folder = folder.absolute()
        self.given = given or Given()
        self.port_base = port_base
        self.durable = durable
        self.console = console
        self.kafka: KafkaServer | None = None
        self.postgres: PostgresServer | None = None
        self.valkey: ValkeyServer | None = None
        self._running = contextlib.ExitStack()
        self._watchdog: Watchdog | None = None
        self._addresses: Servers | None = None

    @property
    def addresses(self) -> Servers:
        if self._addresses is None:
            raise RuntimeError("the servers do not run")
        return self._addresses

    @property
    def watchdog(self) -> Watchdog:
        if self._watchdog is None:
            raise RuntimeError("the servers do not run")
        return self._watchdog

    @property
    def processes(self) -> dict[str, tuple[subprocess.Popen[bytes], Path]]:
        """The process and the log of each local server that was started, by its name."""
        servers: tuple[Server | None, ...] = (self.kafka, self.postgres, self.valkey)
        return {one.name: (one.process, one.log) for one in servers if one is not None and one.process is not None}

    @property
    def _lasting(self) -> bool:
        return self.durable and self.scratch is None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> Servers:
        """Start the servers that are not given, at the same time. A failure stops those that had started."""
        with contextlib.ExitStack() as starting:
            try:
                self._take_folder()
                starting.enter_context(self._lock())
            except OSError as error:
                why = f"{error.filename}: {error.strerror}"
                raise ServerError(f"{self.folder} cannot be the data folder ({why}): choose another one") from error
            self._watchdog = starting.enter_context(Watchdog())
            if self.scratch is not None:
                self._watchdog.scratch(self.scratch)
            servers = self._build(self._watchdog)
            if not self._lasting:
                starting.callback(remove_all, servers)
            starting.callback(stop_all, servers)
            if self.kafka is not None:
                self.kafka.fetch()  # in the main thread, which Ctrl-C interrupts
            start_all(servers)
            self._running = starting.pop_all()
        self._addresses = Servers(
            self.given.kafka_bootstrap or _address(self.kafka),
            self.given.postgres_dsn or _address(self.postgres),
            self.given.redis_url or _address(self.valkey),
        )
        return self._addresses

    def stop(self) -> None:
        """Stop the servers and the other processes of the watchdog; returns when none is left."""
        self._running.close()
        self._addresses = None

    def _build(self, watchdog: Watchdog) -> list[Server]:
        ports = [None] * 4 if self.port_base is None else list(range(self.port_base, self.port_base + 4))
        wanted: list[Server] = []
        if self.given.kafka_bootstrap is None:
            self.kafka = KafkaServer(
                self.folder / "kafka", watchdog, ports[0], controller_port=ports[1], console=self.console
            )
            wanted.append(self.kafka)
        if self.given.postgres_dsn is None:
            self.postgres = PostgresServer(
                self.folder / "postgres",
                watchdog,
                ports[2],
                durable=self.durable,
                lasting=self._lasting,
                rights=self.rights,
            )
            wanted.append(self.postgres)
        if self.given.redis_url is None:
            self.valkey = ValkeyServer(self.folder / "valkey", watchdog, ports[3], durable=self.durable)
            wanted.append(self.valkey)
        for server in wanted:
            server.end_leftover()
            for port in server.ports:
                if not is_free(port):
                    raise ServerError(f"port {port} is taken, {server.name} cannot have it: choose another base")
        return wanted

    def _take_folder(self) -> None:
        """Make the folder, or set the mode of one that an earlier run made. Other folders keep their mode.

        If root made it, other users can pass through it, because PostgreSQL runs as another user.
        """
        ours = not self.folder.exists() or (self.folder / "lock").exists() or self.scratch == self.folder
        self.folder.mkdir(parents=True, exist_ok=True)
        if ours:
            self.folder.chmod(SEARCHABLE_FOLDER if os.geteuid() == 0 else PRIVATE_FOLDER)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """One run at a time per folder. The system releases the lock when this process ends."""
        path = self.folder / "lock"
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, PRIVATE_FILE), "a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                lock.seek(0)
                holder = lock.read().strip() or "unknown"
                raise ServerError(f"{self.folder} is in use by another run (process {holder})") from error
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            yield


def start_all(servers: Sequence[Server]) -> None:
    """Start all at the same time. The first failure, or Ctrl-C, cancels the others and is raised after that."""
    if not servers:
        return
    with ThreadPoolExecutor(len(servers)) as pool:
        try:
            for started in as_completed([pool.submit(server.start) for server in servers]):
                started.result()
        except BaseException:
            for server in servers:
                server.give_up()
            raise


def stop_all(servers: Sequence[Server]) -> None:
    """Stop all at the same time. Those that do not run may be among them."""
    if servers:
        with ThreadPoolExecutor(len(servers)) as pool:
            list(pool.map(lambda server: server.stop(), servers))


def remove_all(servers: Sequence[Server]) -> None:
    """Remove the files of these servers, none of which runs."""
    for server in servers:
        server.remove()


def _address(server: Server | None) -> str:
    if server is None:
        raise RuntimeError("neither given nor started")
    return server.address
