"""The image, built once per process where a Docker engine answers.

Where none answers, its tests are skipped and the end of the run says so loudly.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import docker  # type: ignore[import-untyped] # it ships no types
import pytest

from tests.support.containers import docker_answers
from tests.support.sandbox import ROOT

MISSING = "no Docker engine"
VERSION = "0.0.0-test"


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """The engine, and the image that it built of this working tree."""

    engine: Any
    image: Any

    def runs(self, *words: str, **options: Any) -> str:
        """What a command in the image prints. Raises docker's ContainerError where it fails."""
        output = self.engine.containers.run(self.image.id, list(words), remove=True, **options)
        return bytes(output).decode()


@pytest.fixture(scope="session")
def built_image() -> Iterator[BuiltImage]:
    """The image of deploy/Dockerfile. It is removed at the end; the layers stay in the engine's cache."""
    if not docker_answers():
        pytest.skip(MISSING)
    engine = docker.from_env(timeout=900)
    image, _ = engine.images.build(
        path=str(ROOT), dockerfile="deploy/Dockerfile", buildargs={"VERSION": VERSION}, rm=True, forcerm=True
    )
    yield BuiltImage(engine, image)
    engine.images.remove(image.id, force=True)
    engine.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly what was not tried."""
    skipped = [one for one in terminalreporter.stats.get("skipped", []) if MISSING in str(one.longrepr)]
    if skipped:
        terminalreporter.section("THE IMAGE WAS NOT BUILT", sep="!", red=True, bold=True)
        terminalreporter.write_line(
            f"{len(skipped)} tests build deploy/Dockerfile and start every service from it, and no Docker engine"
            " answers here. Its file, its parts of the lock, its wheel and its health check were tested without one."
        )
