"""Pictures of the demo's own pages while it plays, where a headless browser is at hand.

Rule 1: the browser signs in and opens links as a person does.
Rule 2: the story does not depend on it. Without a browser there are no pictures, and trouble with one is only said.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

FOLDER = Path("build/demo")
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_FLAGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
_MS = 8_000  # for one step
_COMPUTER: dict[str, Any] = {"viewport": {"width": 1440, "height": 900}, "locale": "en-GB"}
_PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
    "locale": "en-GB",
}


class Camera:
    """A browser, or none: then it takes no pictures. ``report`` gets a line for each picture."""

    def __init__(self, browser: "Browser | None", report: Callable[[str], None]) -> None:
        self._browser = browser
        self._report = report
        self._inbox: Page | None = None

    async def signs_in(self, link: str) -> None:
        """Open the inbox by this link."""

        async def work(browser: "Browser") -> None:
            tab = await (await browser.new_context(**_COMPUTER)).new_page()
            await tab.goto(link, timeout=_MS)
            self._inbox = tab

        await self._try(work)

    async def takes_inbox(self, name: str, url: str) -> None:
        """A picture of a page of the inbox."""

        async def work(_browser: "Browser") -> None:
            if self._inbox is not None:
                await self._inbox.goto(url, timeout=_MS)
                await self._take(self._inbox, name)

        await self._try(work)

    async def takes_portal(self, link: str) -> None:
        """A picture of the portal on a phone, whose page opens by itself."""

        async def work(browser: "Browser") -> None:
            tab = await (await browser.new_context(**_PHONE)).new_page()
            await tab.goto(link, timeout=_MS)
            await tab.wait_for_url("**/conversation", timeout=_MS)
            await self._take(tab, "portal")

        await self._try(work)

    async def _take(self, tab: "Page", name: str) -> None:
        path = FOLDER / f"{name}.png"
        await tab.screenshot(path=path, animations="disabled", timeout=_MS)
        self._report(f"a picture of it: {path}")

    async def _try(self, work: "Callable[[Browser], Awaitable[None]]") -> None:
        if self._browser is None:
            return
        from playwright.async_api import Error  # noqa: PLC0415 -- it comes with the extra dev

        try:
            await work(self._browser)
        except Error as error:
            self._report(f"no picture: {str(error).splitlines()[0]}")


@asynccontextmanager
async def camera(report: Callable[[str], None]) -> AsyncIterator[Camera]:
    """A camera with a headless Chromium of the PATH, where there is one and Playwright is installed."""
    executable = next((found for name in _NAMES if (found := shutil.which(name))), None)
    if executable is None or find_spec("playwright") is None:
        yield Camera(None, report)
        return
    from playwright.async_api import async_playwright  # noqa: PLC0415 -- it comes with the extra dev

    await asyncio.to_thread(FOLDER.mkdir, parents=True, exist_ok=True)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=executable, args=[*_FLAGS])
        try:
            yield Camera(browser, report)
        finally:
            await browser.close()
