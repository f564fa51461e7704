"""The logs of the processes of a run: one file each, copied to standard output as it grows."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_POLL = 0.1


def fresh_log(folder: Path, name: str) -> Path:
    """The log of a process that is about to start. The log of the previous run is kept as ``.log.1``."""
    path = folder / f"{name}.log"
    with suppress(FileNotFoundError):
        path.replace(path.with_suffix(".log.1"))
    return path


def last_line(log: Path) -> str:
    """The last line of a log, or a sentence that there is none."""
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"it wrote nothing to {log}"


@contextmanager
def following(folder: Path) -> Iterator[None]:
    """Copy every line that is added to ``*.log`` to standard output, until the block ends."""
    logs = {path: path.stat().st_size for path in sorted(folder.glob("*.log"))}
    stop = threading.Event()
    thread = threading.Thread(target=_follow, args=(logs, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _follow(places: dict[Path, int], stop: threading.Event) -> None:
    with suppress(BrokenPipeError):  # standard output is closed; the files have everything
        while True:
            last = stop.is_set()
            for path, place in places.items():
                places[path] = _copy(path, place)
            if last:
                return
            stop.wait(_POLL)


def _copy(path: Path, place: int) -> int:
    """Copy whole lines from ``place`` on. Returns the new place. A file that was truncated is read from its start."""
    size = path.stat().st_size
    if size == place:
        return place
    with path.open("rb") as log:
        log.seek(place if place <= size else 0)
        start = log.tell()
        found = log.read()
    whole = found.rfind(b"\n") + 1
    if whole:
        sys.stdout.write(found[:whole].decode(errors="replace"))
        sys.stdout.flush()
    return start + whole
