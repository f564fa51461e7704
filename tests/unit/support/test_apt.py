import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support import apt

APT = """\
#!/bin/sh
mkdir "$FAKE/busy" || echo clash >> "$FAKE/log"
for word; do case $word in update | install | download) what=$word ;; esac; done
echo "$what" >> "$FAKE/log"
[ "$what" != update ] || touch "$FAKE/lists"
[ -e "$FAKE/lists" ]; known=$?
rmdir "$FAKE/busy"
exit $known
"""


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a machine without lists of packages was asked."""
    program = tmp_path / "apt-get"
    program.write_text(APT)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path / "log"


def test_whoever_needs_a_package_waits_for_the_others_and_the_lists_are_fetched_once(log: Path, tmp_path: Path) -> None:
    def install(package: str) -> bool:
        with apt.alone():
            return apt.download(package, tmp_path) if package == "prometheus" else apt.install(package)

    with ThreadPoolExecutor(3) as workers:
        assert all(workers.map(install, ("chromium", "prometheus", "redis-tools")))
    said = log.read_text().split()
    assert "clash" not in said
    assert said.count("update") == 1
    assert len(said) == 5  # one of three failed before the lists were there


def test_the_lists_that_cannot_be_fetched_are_not_asked_again(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE", str(log.parent / "nowhere"))
    with apt.alone():
        assert not apt.install("chromium")
