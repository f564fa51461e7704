"""The ``transom`` command on a host whose clock is off: ``python -m tests.support.skewed SECONDS WORDS…``.

What reads the host's clock in Python, ours and the libraries', reads it through ``time.time``. Steady clocks are right,
as they are on a host whose time service is wrong.
"""

import runpy
import sys
import time
from collections.abc import Callable
from typing import TypeVar

Instant = TypeVar("Instant", int, float)


def put_off(seconds: float) -> None:
    """From now on this process's wall clock is so many seconds ahead."""
    time.time, time.time_ns = _ahead(time.time, seconds), _ahead(time.time_ns, round(seconds * 1e9))


def _ahead(clock: Callable[[], Instant], by: Instant) -> Callable[[], Instant]:
    return lambda: clock() + by


if __name__ == "__main__":
    put_off(float(sys.argv.pop(1)))
    runpy.run_module("deploy.cli", run_name="__main__", alter_sys=True)
