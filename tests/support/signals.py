"""Starting a process as a shell does that ignores signals: under ``nohup`` (SIGHUP), in the background of a script
(SIGINT), behind ``trap ''``.
"""

import signal
import sys
from collections.abc import Sequence

USUAL = (signal.SIGINT, signal.SIGHUP)
"""What a command under ``nohup`` in the background of a script finds ignored."""


def ignoring(numbers: Sequence[signal.Signals]) -> list[str]:
    """What stands before a command, so that it begins with exactly these ignored of the polite ones.

    It stays the same process.
    """
    sets = "; ".join(
        f"signal.signal({number.value}, signal.{'SIG_IGN' if number in numbers else 'SIG_DFL'})"
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)
    )
    return [sys.executable, "-c", f"import os, signal, sys; {sets}; os.execv(sys.argv[1], sys.argv[1:])"]
