"""A real Chromium for tests: found, or installed with apt where this process may, and started once per process.

Rule 1: what runs is the distribution's browser or the given one (``TRANSOM_TEST_CHROMIUM``). Nothing is downloaded but
        by apt.
Rule 2: where there is none, and none can be installed, its tests are skipped and the end of the run says so loudly.
"""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, async_playwright, expect

from tests.support import apt
from tests.support.waiting import DEADLINE_SECONDS

CHROMIUM = "TRANSOM_TEST_CHROMIUM"
MISSING = "no Chromium"
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_CACHED = ("chromium-*/chrome-linux*/chrome", "chromium_headless_shell-*/chrome-*/headless_shell")
_FLAGS = (
    "--no-sandbox",  # root has none
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PHONE = (390, 844)
DESKTOP = (1440, 900)

expect.set_options(timeout=DEADLINE_SECONDS * 1000)


def find_chromium(environ: Mapping[str, str]) -> Path | None:
    """The given browser, else one of the PATH, else one that Playwright has downloaded before."""
    if given := environ.get(CHROMIUM):
        return Path(given)
    for name in _NAMES:
        if found := shutil.which(name, path=environ.get("PATH")):
            return Path(found)
    cache = Path(environ.get("PLAYWRIGHT_BROWSERS_PATH") or Path.home() / ".cache" / "ms-playwright")
    return next((path for pattern in _CACHED for path in sorted(cache.glob(pattern), reverse=True)), None)


def provide_chromium() -> Path | None:
    """Find it, or install Debian's package where this process is root and apt is there. One process at a time."""
    with apt.alone():
        if (found := find_chromium(os.environ)) is None and apt.may_install():
            apt.install("chromium")
            found = find_chromium(os.environ)
    return found


@asynccontextmanager
async def running_browser(executable: Path) -> AsyncIterator[Browser]:
    """A headless browser with a profile of its own, which is removed with it."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=executable, args=[*_FLAGS])
        yield browser
        await browser.close()


async def phone(browser: Browser, **options: object) -> BrowserContext:
    """A visitor with a phone: cookies and storage of their own."""
    width, height = PHONE
    base: dict[str, object] = {
        "viewport": {"width": width, "height": height},
        "device_scale_factor": 2,
        "is_mobile": True,
        "has_touch": True,
        "locale": "en-GB",
        "timezone_id": "Europe/London",
        "reduced_motion": "reduce",
    }
    return await browser.new_context(**(base | options))  # type: ignore[arg-type]


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Provide the browser before the first test, outside any test's time limit."""
    wanted = any("browser" in getattr(item, "fixturenames", ()) for item in session.items)
    if wanted and not session.config.option.collectonly and (found := provide_chromium()) is not None:
        os.environ[CHROMIUM] = str(found)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly what was not tried."""
    skipped = [one for one in terminalreporter.stats.get("skipped", []) if MISSING in str(one.longrepr)]
    if skipped:
        terminalreporter.section("BROWSER TESTS DID NOT RUN", sep="!", red=True, bold=True)
        terminalreporter.write_line(
            f"{len(skipped)} tests of pages need Chromium, and there is none: install it"
            f" (Debian: apt install chromium), or name one with {CHROMIUM}."
        )


@pytest_asyncio.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """The process's browser. Each visitor has a context of it."""
    found = find_chromium(os.environ)
    if found is None:
        pytest.skip(MISSING)
    async with running_browser(found) as running:
        yield running
    await asyncio.sleep(0)


@pytest_asyncio.fixture
async def contexts() -> AsyncIterator[list[BrowserContext]]:
    """The browsers of a test, which are closed after it."""
    opened: list[BrowserContext] = []
    yield opened
    for context in opened:
        await context.close()
