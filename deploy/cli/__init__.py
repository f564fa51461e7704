"""The ``transom`` command. It needs no extra of the wheel, apart from ``transom up``."""

import importlib
import signal
import sys


def main() -> None:
    """Run the command that this process was started with. Its modules are imported then."""
    if sys.argv[1:2] == ["run"]:  # until the service hears it: process 1 would not end by it
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    importlib.import_module("deploy.cli.command").main()
