"""Takes pictures of the pages of inbox and portal: ``make screenshots``. They are for people to look at.

``docs/images`` gets the pictures of the README. All others go to the folder given, or to ``build/screenshots``.
"""

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, Page

from deploy.local.demo.pictures import FOLDER as DEMO
from tests.support import inbox_pages, portal_pages
from tests.support.browser import DESKTOP, MISSING, PHONE, phone, provide_chromium, running_browser
from tests.support.page_server import ORIGIN, PageServer

FOLDER, IMAGES = Path("build/screenshots"), Path("docs/images")
_COMPUTER: dict[str, Any] = {
    "viewport": {"width": DESKTOP[0], "height": DESKTOP[1]},
    "is_mobile": False,
    "has_touch": False,
    "device_scale_factor": 1,
}
_WAYS: Mapping[str, Mapping[str, Any]] = {
    "phone": {},
    "phone-dark": {"color_scheme": "dark"},
    "desktop": _COMPUTER,
    "desktop-dark": _COMPUTER | {"color_scheme": "dark"},
    "german": {"locale": "de-DE", "timezone_id": "Europe/Berlin"},
    "zoomed": {"viewport": {"width": PHONE[0] * 2 // 3, "height": PHONE[1] // 2}},
    "contrast": {"contrast": "more"},
    "mirrored": {},
    "mirrored-desktop": _COMPUTER,
    "forced-colors": {"forced_colors": "active"},
}
_MIRRORED = "document.documentElement.dir = 'rtl'"
_OF_PORTAL = ("portal", portal_pages.page_server, tuple(portal_pages.every_page()), portal_pages.NOW)
_OF_INBOX = (
    "inbox",
    inbox_pages.page_server,
    (*inbox_pages.every_page(), *inbox_pages.DOORS, "spend"),
    inbox_pages.NOW,
)
_README: Sequence[tuple[str, Callable[[], PageServer], str, Mapping[str, Any]]] = (
    ("portal", portal_pages.page_server, "thread",
     {"viewport": {"width": PHONE[0], "height": 720}, "device_scale_factor": 1.5}),
    ("inbox-open", inbox_pages.page_server, "open", _COMPUTER),
    ("inbox-expired", inbox_pages.page_server, "expired", _COMPUTER),
    ("spend", inbox_pages.page_server, "spend", _COMPUTER),
)  # fmt: skip
"""The picture, and the page that it shows, as small as it may be and still be sharp."""


async def _open(browser: Browser, server: PageServer, options: Mapping[str, Any]) -> Page:
    visitor = await phone(browser, **options)
    await server.serve(visitor)
    tab = await visitor.new_page()
    await tab.clock.set_fixed_time(inbox_pages.NOW)
    return tab


async def take(browser: Browser, folder: Path) -> int:
    """Every page in every way. Returns how many pictures there are."""
    count = 0
    for service, server, names, now in (_OF_PORTAL, _OF_INBOX):
        for way, options in _WAYS.items():
            tab = await _open(browser, server(), options)
            await tab.clock.set_fixed_time(now)
            for name in names:
                await tab.goto(f"{ORIGIN}/{name}")
                if way.startswith("mirrored"):
                    await tab.evaluate(_MIRRORED)
                await tab.screenshot(path=folder / f"{service}-{name}-{way}.png", animations="disabled")
                count += 1
            await tab.context.close()
    return count


async def take_for_readme(browser: Browser) -> int:
    """The pictures of the README."""
    for image, server, name, options in _README:
        tab = await _open(browser, server(), options)
        await tab.goto(f"{ORIGIN}/{name}")
        await tab.screenshot(path=IMAGES / f"{image}.png", animations="disabled")
        await tab.context.close()
    return len(_README)


def take_of_the_demo() -> None:
    """The picture of ``transom watch``, which the demo takes while it plays."""
    subprocess.run([sys.executable, "-m", "deploy.local.demo"], check=True)
    shutil.copy(DEMO / "watch.svg", IMAGES / "watch.svg")


async def pictures(executable: Path, folder: Path) -> tuple[int, int]:
    """All of them: how many there are of each."""
    async with running_browser(executable) as browser:
        return await take_for_readme(browser), await take(browser, folder)


def main(folder: Path) -> None:
    """Take them all, and say how many there are."""
    if (executable := provide_chromium()) is None:
        sys.exit(f"screenshots: {MISSING}: install it (Debian: apt install chromium)")
    for made in (folder, IMAGES):
        made.mkdir(parents=True, exist_ok=True)
    readme, others = asyncio.run(pictures(executable, folder))
    take_of_the_demo()
    sys.stdout.write(f"{others} pictures in {folder}, {readme + 1} in {IMAGES}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else FOLDER)
