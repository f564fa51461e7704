"""Waiting for what must come true, with a deadline that only a broken run meets."""

import asyncio
from collections.abc import Callable

DEADLINE_SECONDS = 40.0


async def eventually(condition: Callable[[], object], what: str = "what the test waits for") -> None:
    """Return when ``condition`` holds; fail with ``what`` when it does not come true."""
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not condition():  # noqa: ASYNC110 -- the condition is the code under test's to make true
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"did not come true in {DEADLINE_SECONDS:.0f} s: {what}") from None
