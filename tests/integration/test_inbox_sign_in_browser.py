"""Somebody signs in and out in a real Chromium, by the keyboard alone, at an identity provider."""

from collections.abc import AsyncIterator

import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, expect

from tests.integration.test_inbox_sign_in import Door, door
from tests.support.browser import phone

__all__ = ["door"]


@pytest_asyncio.fixture
async def visitor(browser: Browser) -> AsyncIterator[BrowserContext]:
    context = await phone(browser)
    yield context
    await context.close()


async def goes_to(tab: Page, name: str) -> None:
    """By Tab to the link or button of this name, and press it, on a page that is there as a whole."""
    await tab.wait_for_load_state()
    for _ in range(40):
        await tab.keyboard.press("Tab")
        focused = await tab.evaluate("document.activeElement.textContent.trim()")
        if focused == name:
            await tab.keyboard.press("Enter")
            return
    raise AssertionError(f"no way by Tab to {name!r}")


async def test_a_person_signs_in_where_they_wanted_to_be_and_out_for_good_by_keyboard(
    door: Door,
    visitor: BrowserContext,
) -> None:
    kim = await door.somebody(await door.an_org())
    tab = await visitor.new_page()
    broken: list[str] = []
    ours = door.inbox.url
    tab.on(
        "console",
        lambda said: broken.append(said.text) if said.type == "error" and ours in said.location["url"] else None,
    )
    await tab.goto(f"{door.inbox.url}/spend?group_by=day")
    await expect(tab).to_have_url(f"{door.inbox.url}/login?next=%2Fspend%3Fgroup_by%3Dday")
    await goes_to(tab, "Continue")
    await expect(tab.get_by_role("heading", name="Who signs in?")).to_be_visible()
    await goes_to(tab, f"Kim, {kim}")
    await expect(tab).to_have_url(f"{door.inbox.url}/spend?group_by=day")
    kept = {one["name"]: one for one in await visitor.cookies()}
    assert [(one["httpOnly"], one["sameSite"]) for one in kept.values()] == [(True, "Lax")] * len(kept)
    assert not any("session" in one.lower() for one in await tab.evaluate("Object.keys({...localStorage})"))

    await goes_to(tab, "Sign out")
    await expect(tab).to_have_url(f"{door.inbox.url}/login?out=1")
    await tab.go_back()
    await expect(tab).to_have_url(f"{door.inbox.url}/login?next=%2Fspend%3Fgroup_by%3Dday")
    assert broken == []
