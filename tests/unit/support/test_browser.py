import subprocess
import sys
from pathlib import Path

from tests.support.browser import CHROMIUM, find_chromium
from tests.support.command import environment
from tests.support.sandbox import ROOT

A_TEST = "tests/integration/test_portal_pages.py::test_the_newest_message_is_in_view_without_scripts"


def an_executable(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(0o755)
    return path


def test_the_given_browser_wins_then_the_paths_then_playwrights(tmp_path: Path) -> None:
    environ = {"PATH": str(tmp_path / "bin"), "PLAYWRIGHT_BROWSERS_PATH": str(tmp_path / "cache")}
    assert find_chromium(environ) is None
    cached = an_executable(tmp_path / "cache" / "chromium-1255" / "chrome-linux64" / "chrome")
    assert find_chromium(environ) == cached
    on_path = an_executable(tmp_path / "bin" / "google-chrome")
    assert find_chromium(environ) == on_path
    assert find_chromium(environ | {CHROMIUM: "/opt/chromium"}) == Path("/opt/chromium")


def test_without_a_browser_the_run_says_so_loudly(tmp_path: Path) -> None:
    env = environment() | {"PATH": str(tmp_path), "HOME": str(tmp_path)}  # no browser, and no apt-get
    env.pop(CHROMIUM, None)
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", A_TEST],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    assert "BROWSER TESTS DID NOT RUN" in ended.stdout
    assert "no Chromium" in ended.stdout
