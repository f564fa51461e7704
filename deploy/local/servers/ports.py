"""Free ports on the loopback address."""

import contextlib
import random
import socket
import sys

from deploy.local.servers import ServerError

LOOPBACK = "127.0.0.1"

# Below the range from which systems take the ports of outgoing connections (32768 on Linux): a server that is stopped
# for a while must find its port free when it comes back.
_LOWEST, _HIGHEST = 20_000, 32_000
_TRIES = 200
_held: dict[int, int | None] = {}
"""The ports that this process has chosen, with the descriptor of a socket that is bound there and does not listen."""


def is_free(port: int) -> bool:
    """Whether a server may listen there. It may where a port is only held."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port on which nothing listens, and that no other process chooses while this one runs.

    It is held also while the server that it is for is down. A server that sets SO_REUSEADDR may listen on it, as all of
    them do on Linux. It is random, so that two runs rarely choose the same where a port cannot be held.
    """
    choose = random.SystemRandom()
    for _ in range(_TRIES):
        port = choose.randrange(_LOWEST, _HIGHEST)
        if port in _held or not is_free(port):
            continue
        with contextlib.suppress(OSError):  # another process holds it
            _held[port] = _hold(port) if sys.platform == "linux" else None  # elsewhere nobody could listen beside it
            return port
    raise ServerError(f"no free port between {_LOWEST} and {_HIGHEST} after {_TRIES} tries")


def _hold(port: int) -> int:
    """The descriptor of a socket that is bound to the port, until this process ends. Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as holding:
        holding.bind((LOOPBACK, port))  # without SO_REUSEADDR it meets whoever is bound there
        holding.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return holding.detach()
