"""``python unprivileged.py UID GID COMMAND…``: become that user irrevocably, then run the command in this process.

Law 1: the command has no capability and can get none: no new privileges, an empty bounding set, no ambient set.
Law 2: a user who is not root has no capability to give up; that is no failure.

This file runs as a script of its own, in an interpreter that ends with ``exec``. So it imports nothing of the project.
"""

import ctypes
import os
import sys
from collections.abc import Sequence

_PR_CAPBSET_READ, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 23, 24, 38, 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_UMASK = 0o077


def as_user(uid: int, gid: int, argv: Sequence[str]) -> list[str]:
    """The command line that runs ``argv`` as that user."""
    script = os.path.abspath(__file__)  # noqa: PTH100 - this script imports as little as it can
    return [sys.executable, "-I", "-S", script, str(uid), str(gid), *argv]


def main(uid: int, gid: int, argv: Sequence[str]) -> None:
    """Drop capabilities, groups and user, in the order in which they can be dropped; never returns."""
    os.umask(_UMASK)
    if sys.platform == "linux":
        _give_up_capabilities()
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    os.execv(argv[0], list(argv))  # noqa: S606 - a list of arguments, no shell


def _give_up_capabilities() -> None:
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl.argtypes = [ctypes.c_int, *([ctypes.c_ulong] * 4)]
    number = 0
    while prctl(_PR_CAPBSET_READ, number, 0, 0, 0) >= 0:
        prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)
        number += 1
    prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    if prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        sys.exit("this kernel cannot forbid new privileges (Linux 3.5 or newer can)")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
