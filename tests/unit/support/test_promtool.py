import subprocess
import sys
from pathlib import Path

from tests.support.command import environment
from tests.support.promtool import PROMTOOL, find_promtool
from tests.support.sandbox import ROOT

A_TEST = "def test_a_rule(promtool):\n    assert promtool\n"


def an_executable(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(0o755)
    return path


def test_the_given_program_wins_then_the_paths_then_the_unpacked_one(tmp_path: Path) -> None:
    environ, unpacked = {"PATH": str(tmp_path / "bin")}, tmp_path / "unpacked"
    assert find_promtool(environ, unpacked) is None
    ours = an_executable(unpacked / "usr/bin/promtool")
    assert find_promtool(environ, unpacked) == ours
    on_path = an_executable(tmp_path / "bin" / "promtool")
    assert find_promtool(environ, unpacked) == on_path
    assert find_promtool(environ | {PROMTOOL: "/opt/promtool"}, unpacked) == Path("/opt/promtool")


def test_without_it_the_run_says_so_loudly(tmp_path: Path) -> None:
    env = environment() | {"PATH": str(tmp_path), "TMPDIR": str(tmp_path)}  # none unpacked, and no apt-get
    env |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    env.pop(PROMTOOL, None)
    (tmp_path / "test_rules.py").write_text(A_TEST)
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -p no:cloudcoil")  # as the project's own
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.support.promtool", tmp_path],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    assert "TESTS OF THE ALERTS DID NOT RUN" in ended.stdout
    assert "1 skipped" in ended.stdout
