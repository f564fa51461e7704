"""Waiting for what must come true, with a deadline that only a broken run meets."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

DEADLINE_SECONDS = 40.0


async def eventually(
    condition: Callable[[], object],
    what: str = "what the test waits for",
    *,
    seconds: float = DEADLINE_SECONDS,
    every: float = 0.01,
) -> None:
    """Return when ``condition`` holds; fail with ``what`` when it does not come true.

    A dear condition is asked less often.
    """
    try:
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 -- the condition is the code under test's to make true
                await asyncio.sleep(every)
    except TimeoutError:
        raise AssertionError(f"did not come true in {seconds:.0f} s: {what}") from None


async def eventually_true(
    ask: Callable[[], Awaitable[T]],
    what: str = "what the test waits for",
) -> T:
    """Ask until the answer is true, and return it; fail with ``what`` when it never is."""
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not (found := await ask()):  # noqa: ASYNC110 -- what others make true
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"did not come true in {DEADLINE_SECONDS:.0f} s: {what}") from None
    return found
