"""Apache Kafka's jars: resolved and fetched once per user, and checked against their SHA-256 at every start.

``kafka/jgo.toml`` names what the broker is made of. jgo resolves it in Python, without Maven and without a system Java.
``kafka/jars.sha256`` lists the files that must result, in the order of the class path.
"""

import contextlib
import fcntl
import hashlib
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import requests
from jgo.env import EnvironmentSpec
from jgo.maven import Artifact, MavenContext, PythonResolver
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from deploy.local.servers import ServerError

_HERE = Path(__file__).resolve().parent.parent / "kafka"
SPEC = _HERE / "jgo.toml"
PINS = _HERE / "jars.sha256"
_AT_ONCE = 8
_TRIES = 3
_INSTEAD = "to use a broker that runs already, set TRANSOM_KAFKA_BOOTSTRAP=host:port"


def cache_folder() -> Path:
    """The folder of this user's jars, shared by all checkouts. Each set of pins has its own."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "transom" / "kafka" / hashlib.sha256(PINS.read_bytes()).hexdigest()[:12]


def pins() -> dict[str, str]:
    """SHA-256 by file name, in the order of the class path."""
    return {name: digest for digest, name in (line.split() for line in PINS.read_text().splitlines())}


def class_path(folder: Path | None = None, console: Console | None = None) -> str:
    """The class path of a verified set of jars. Missing and wrong files are fetched first.

    Raises ServerError in one line when they cannot be had.
    """
    folder = folder or cache_folder()
    wanted = pins()
    if not all(_fits(folder / name, digest) for name, digest in wanted.items()):
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            _fetch(folder, wanted, console or Console(stderr=True))
    return os.pathsep.join(str(folder / name) for name in wanted)


def _fits(path: Path, digest: str) -> bool:
    try:
        with path.open("rb") as jar:
            return hashlib.file_digest(jar, "sha256").hexdigest() == digest
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process fetches at a time; the system releases the lock when the process ends."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fetch(folder: Path, wanted: Mapping[str, str], console: Console) -> None:
    """Fetch every missing jar; complete files of an interrupted run are kept."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress:
        task = progress.add_task("Apache Kafka, first use: resolving", total=None)
        artifacts = _resolve(folder / "repository")
        if set(artifacts) != set(wanted):
            odd = sorted(set(artifacts) ^ set(wanted))
            raise ServerError(f"{SPEC.name} and {PINS.name} do not agree about {', '.join(odd)}")
        missing = [name for name, digest in wanted.items() if not _fits(folder / name, digest)]
        done = len(wanted) - len(missing)
        progress.update(task, description="Apache Kafka, first use: downloading", total=len(wanted), completed=done)
        pool = ThreadPoolExecutor(_AT_ONCE)
        try:
            jobs = {pool.submit(_download, artifacts[name]): name for name in missing}
            for job in as_completed(jobs):
                name = jobs[job]
                if not _fits(job.result(), wanted[name]):
                    job.result().unlink()
                    raise ServerError(f"{name} is not the file that {PINS.name} names; it was thrown away; {_INSTEAD}")
                job.result().replace(folder / name)
                progress.advance(task)
        finally:
            pool.shutdown(cancel_futures=True)
    shutil.rmtree(folder / "repository", ignore_errors=True)


def _resolve(repository: Path) -> dict[str, Artifact]:
    """The artifacts of the spec by file name. The repository starts empty: jgo would trust an incomplete file."""
    shutil.rmtree(repository, ignore_errors=True)
    logging.getLogger("jgo").setLevel(logging.ERROR)
    spec = EnvironmentSpec.load(SPEC)
    context = MavenContext(repo_cache=repository, resolver=PythonResolver())
    try:
        inputs, resolved = context.resolver.resolve([context.create_dependency(one) for one in spec.coordinates])
    except (OSError, RuntimeError, ValueError) as error:  # requests' errors are OSErrors; jgo raises the others
        raise ServerError(f"Apache Kafka's jars cannot be resolved ({_short(error)}); {_INSTEAD}") from error
    return {one.artifact.filename: one.artifact for one in (*inputs, *resolved)}


def _download(artifact: Artifact) -> Path:
    for attempt in range(1, _TRIES + 1):
        try:
            return artifact.resolve()
        except (OSError, RuntimeError) as error:
            if (half := artifact.cached_path) is not None:
                half.unlink(missing_ok=True)
            if attempt == _TRIES or not isinstance(error, requests.RequestException):
                why = f"{artifact.filename} cannot be downloaded ({_short(error)})"
                raise ServerError(f"Apache Kafka: {why}; {_INSTEAD}") from error
    raise AssertionError("unreachable")  # the last try returns or raises


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:160]}"


def _write_pins() -> None:
    """Resolve and download everything again, and write the results as the new pins."""
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(_AT_ONCE) as pool:
        artifacts = _resolve(Path(scratch))
        digests = pool.map(lambda one: hashlib.sha256(_download(one).read_bytes()).hexdigest(), artifacts.values())
        lines = [f"{digest}  {name}" for name, digest in zip(artifacts, digests, strict=True)]
    PINS.write_text("\n".join(lines) + "\n")
    sys.stdout.write(f"{PINS}: {len(lines)} jars\n")


if __name__ == "__main__":
    _write_pins()
