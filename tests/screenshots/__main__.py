"""Takes pictures of the portal's pages: ``make screenshots``. They are for people to look at.

``docs/images`` gets the picture of the README. All others go to the folder given, or to ``build/screenshots``.
"""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from playwright.async_api import Browser

from tests.support.browser import DESKTOP, MISSING, PHONE, phone, provide_chromium, running_browser
from tests.support.page_server import ORIGIN, PageServer
from tests.support.portal_pages import NOW, every_page

FOLDER = Path("build/screenshots")
_WAYS: Mapping[str, Mapping[str, Any]] = {
    "phone": {},
    "phone-dark": {"color_scheme": "dark"},
    "desktop": {"viewport": {"width": DESKTOP[0], "height": DESKTOP[1]}, "is_mobile": False, "device_scale_factor": 1},
    "desktop-dark": {
        "viewport": {"width": DESKTOP[0], "height": DESKTOP[1]},
        "is_mobile": False,
        "device_scale_factor": 1,
        "color_scheme": "dark",
    },
    "german": {"locale": "de-DE", "timezone_id": "Europe/Berlin"},
    "zoomed": {"viewport": {"width": PHONE[0] * 2 // 3, "height": PHONE[1] // 2}},
    "contrast": {"contrast": "more"},
    "mirrored": {},
    "forced-colors": {"forced_colors": "active"},
}


_MIRRORED = "document.documentElement.dir = 'rtl'"
IMAGE = Path("docs/images/portal.png")


async def take(browser: Browser, folder: Path) -> int:
    """Every page in every way. Returns how many pictures there are."""
    count = 0
    for way, options in _WAYS.items():
        visitor = await phone(browser, **options)
        await PageServer(every_page()).serve(visitor)
        tab = await visitor.new_page()
        await tab.clock.set_fixed_time(NOW)
        for name in every_page():
            await tab.goto(f"{ORIGIN}/{name}")
            if way == "mirrored":
                await tab.evaluate(_MIRRORED)
            await tab.screenshot(path=folder / f"{name}-{way}.png", animations="disabled")
            count += 1
        await visitor.close()
    return count


async def take_for_readme(browser: Browser) -> None:
    """The conversation on a phone, as small as a picture may be that is still sharp."""
    visitor = await phone(browser, viewport={"width": PHONE[0], "height": 720}, device_scale_factor=1.5)
    await PageServer(every_page()).serve(visitor)
    tab = await visitor.new_page()
    await tab.clock.set_fixed_time(NOW)
    await tab.goto(f"{ORIGIN}/thread")
    await tab.screenshot(path=IMAGE, animations="disabled")
    await visitor.close()


async def pictures(executable: Path, folder: Path) -> int:
    async with running_browser(executable) as browser:
        await take_for_readme(browser)
        return await take(browser, folder)


def main(folder: Path) -> None:
    """Take them all, and say how many there are."""
    if (executable := provide_chromium()) is None:
        sys.exit(f"screenshots: {MISSING}: install it (Debian: apt install chromium)")
    for made in (folder, IMAGE.parent):
        made.mkdir(parents=True, exist_ok=True)
    sys.stdout.write(f"{asyncio.run(pictures(executable, folder))} pictures in {folder}, one in {IMAGE}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else FOLDER)
