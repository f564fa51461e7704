"""``python -m deploy.liveness``: whether the service beside it lives, for the HEALTHCHECK of the image.

It asks ``/livez`` where this environment lets the service listen. ``TRANSOM_ADMIN_PORT`` moves ``/metrics`` alone, so
it does not count. Exit code 0: it answered 200. Otherwise 1, and one line says why.

It runs every few seconds beside each service, so it imports the standard library alone.
"""

import os
import sys
from collections.abc import Mapping
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path

_PORT = "8080"
_SECONDS = 2.0
_LOOPBACK = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}


def addresses(environ: Mapping[str, str]) -> list[tuple[str, int]]:
    """Where the service may listen. Portal and inbox without a public address listen on loopback alone.

    Raises ValueError for a port that is no number, and OSError for a file that cannot be read.
    """
    host, port = _setting(environ, "TRANSOM_HTTP_HOST", ""), int(_setting(environ, "TRANSOM_HTTP_PORT", _PORT))
    return [(one, port) for one in dict.fromkeys((_LOOPBACK.get(host, host), "127.0.0.1"))]


def _setting(environ: Mapping[str, str], name: str, default: str) -> str:
    if path := environ.get(f"{name}_FILE"):
        return Path(path).read_text(encoding="utf-8-sig").rstrip("\r\n")
    return environ.get(name) or default


def check(host: str, port: int) -> str | None:
    """Why the service there does not live. None: it does."""
    connection = HTTPConnection(host, port, timeout=_SECONDS)
    try:
        connection.request("GET", "/livez")
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        return f"{host}:{port} does not answer ({error or type(error).__name__})"
    finally:
        connection.close()
    return None if status == HTTPStatus.OK else f"{host}:{port}/livez answers {status}"


def main() -> int:
    """Ask until one address answers."""
    try:
        found = [check(host, port) for host, port in addresses(os.environ)]
    except (OSError, ValueError) as error:
        found = [f"TRANSOM_HTTP_HOST and TRANSOM_HTTP_PORT: {error}"]
    if None in found:
        return 0
    print(*filter(None, found), sep="; ", file=sys.stderr)  # noqa: T201 -- Docker keeps what a check prints
    return 1


if __name__ == "__main__":
    sys.exit(main())
