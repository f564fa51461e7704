"""Processes that a test starts by itself end with the run, however that ends: a killed pytest runs no ``finally``."""

import atexit
import functools

import psutil

from deploy.local.watchdog import Watchdog, Watched


def ends_with_us(pid: int) -> None:
    """Have the process with this pid, and all below it, ended when this run is gone.

    Its environment and its pipes stay as they are.
    """
    try:
        watched = Watched.of(pid)
    except psutil.NoSuchProcess:
        return
    _watchdog().watch(watched)


@functools.cache
def _watchdog() -> Watchdog:
    watchdog = Watchdog()
    atexit.register(watchdog.close)
    return watchdog
