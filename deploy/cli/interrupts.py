"""Ctrl-C for commands that a shell without job control started in its background: it has SIGINT ignored for them, and Python then leaves it so."""

import signal


def hear_interrupts() -> None:
    """Let SIGINT interrupt this process, and what it starts, also where it was ignored. SIGHUP stays as ``nohup`` wants it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
