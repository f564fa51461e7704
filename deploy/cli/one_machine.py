"""The only door from this package to ``deploy.local``: ``transom up``, and the sandbox beside a loaded file.

``deploy.local`` needs the extra ``local``. So it is imported when it is asked for; every other command runs without it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from libs.common.errors import ConfigurationError

SANDBOX_URL = "TRANSOM_SANDBOX_URL"


def run_up(folder: Path, port_base: int | None) -> None:
    """Run the whole system until Ctrl-C. Raises ConfigurationError, also where the extra is not installed."""
    with _extra("transom up"):
        from deploy.local.up import run_up  # noqa: PLC0415 -- see the module
    run_up(folder, port_base)


async def register(sandbox_url: str, dsn: str) -> None:
    """Give the sandbox every number and template in the database. Raises ConfigurationError."""
    with _extra("TRANSOM_SANDBOX_URL"):
        from deploy.local.register import register  # noqa: PLC0415 -- see the module
    await register(sandbox_url, dsn)


@contextmanager
def _extra(user: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as missing:
        raise ConfigurationError(
            f"{user} needs the extra `local` ({missing.name} is not installed): pip install 'transom[local]'"
        ) from missing
