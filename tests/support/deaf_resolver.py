"""The ``transom`` command on a host whose resolver never answers: ``python -m tests.support.deaf_resolver WORDS…``.

Addresses in numbers need no resolver, and are found as ever.
"""

import runpy
import socket
import threading
from ipaddress import ip_address
from typing import Any

_resolve = socket.getaddrinfo


def _deaf(host: Any, *others: Any, **options: Any) -> Any:
    try:
        ip_address(host)
    except ValueError:
        threading.Event().wait()
    return _resolve(host, *others, **options)


if __name__ == "__main__":
    socket.getaddrinfo = _deaf
    runpy.run_module("deploy.cli", run_name="__main__", alter_sys=True)
