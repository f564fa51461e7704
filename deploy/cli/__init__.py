"""The ``transom`` command. It needs no extra of the wheel, apart from ``transom up``."""

from deploy.cli.command import main

__all__ = ["main"]
