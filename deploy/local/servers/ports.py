"""Free ports on the loopback address."""

import random
import socket

from deploy.local.servers import ServerError

LOOPBACK = "127.0.0.1"

# Below the range from which systems take the ports of outgoing connections (32768 on Linux): a server that is stopped
# for a while must find its port free when it comes back.
_LOWEST, _HIGHEST = 20_000, 32_000
_TRIES = 200
_chosen: set[int] = set()  # by this process; a chosen port may not be in use yet


def is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port on which nothing listens, never the same twice. It is random, so that two runs rarely choose the same."""
    choose = random.SystemRandom()
    for _ in range(_TRIES):
        port = choose.randrange(_LOWEST, _HIGHEST)
        if port not in _chosen and is_free(port):
            _chosen.add(port)
            return port
    raise ServerError(f"no free port between {_LOWEST} and {_HIGHEST} after {_TRIES} tries")


def listens(port: int) -> bool:
    try:
        socket.create_connection((LOOPBACK, port), timeout=1).close()
    except OSError:
        return False
    return True
