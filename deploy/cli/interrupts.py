"""Signals that interrupt a command.

A shell without job control starts background processes with SIGINT ignored, and Python keeps it ignored.
"""

import signal


def hear_interrupts() -> None:
    """Let SIGINT interrupt this process and its children, even where it was ignored. SIGHUP stays as it is."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def interrupt_on_signals() -> None:
    """Let SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt. A SIGHUP that ``nohup`` has ignored stays ignored."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupt)
