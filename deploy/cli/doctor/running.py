"""Runs all checks side by side and ends in time, whatever hangs.

Rule 1: each check has a thread with an event loop of its own. A check that blocks its thread holds up no other.
Rule 2: each check has its own deadline, and all together have ``WHOLE_SECONDS``. What a check has told by then counts;
        that it did not end is a finding.
Rule 3: nothing waits for a thread that does not end. Python's own exit would, also for the thread of a name that is
        being resolved, so the command ends by ``os._exit``.
"""

import asyncio
import queue
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

from deploy.cli.doctor.catalogue import Area
from deploy.cli.doctor.findings import Finding
from libs.common.clock import steady

WHOLE_SECONDS = 22.0
"""Of all checks together. The start of the command and its output have the rest of 30 seconds."""
CHECK_SECONDS = 18.0
CALL_SECONDS = 5.0
"""Of one question to a server or provider."""
_CLEANUP_SECONDS = 0.5

SiteT = TypeVar("SiteT")
Tell = Callable[[Finding], None]


class Told:
    """Passes findings on and keeps them, for whoever says at the end that a subject is good."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self.findings: list[Finding] = []

    def __call__(self, finding: Finding) -> None:
        self.findings.append(finding)
        self._tell(finding)

    @property
    def is_good(self) -> bool:
        """Whether nothing was told that asks for anybody."""
        return all(one.severity == "info" for one in self.findings)


@dataclass(frozen=True, slots=True)
class Check(Generic[SiteT]):
    """A check of one area: it tells what it finds as it goes on."""

    area: Area
    look: Callable[[SiteT, Tell], Awaitable[None]]
    seconds: float = CHECK_SECONDS

    def word(self, end: str) -> str:
        """The code of a finding about the check itself."""
        return f"{self.area.replace('-', '_')}_{end}"


def run_checks(checks: Sequence[Check[SiteT]], site: SiteT, *, seconds: float = WHOLE_SECONDS) -> tuple[Finding, ...]:
    """What the checks find. It returns within ``seconds``."""
    found: list[Finding] = []
    ended: queue.SimpleQueue[Check[SiteT]] = queue.SimpleQueue()
    for check in checks:
        run = (check, site, found.append, ended.put)
        threading.Thread(target=_run, args=run, name=check.area, daemon=True).start()
    deadline = steady() + seconds
    waiting = list(checks)
    while waiting and (left := deadline - steady()) > 0:
        with suppress(queue.Empty):
            waiting.remove(ended.get(timeout=left))
    return (*found, *(_unended(check) for check in waiting))


def _run(check: Check[SiteT], site: SiteT, tell: Tell, done: Callable[[Check[SiteT]], None]) -> None:
    loop = asyncio.new_event_loop()
    task = loop.create_task(_look(check, site, tell))
    try:
        loop.run_until_complete(asyncio.wait({task}, timeout=check.seconds))
        if not task.done():
            tell(_unended(check))
    finally:
        done(check)
    task.cancel()
    loop.run_until_complete(asyncio.wait({task}, timeout=_CLEANUP_SECONDS))
    left = asyncio.all_tasks(loop)
    for one in left:
        one.cancel()
    if left:
        loop.run_until_complete(asyncio.wait(left, timeout=_CLEANUP_SECONDS))
    loop.close()


async def _look(check: Check[SiteT], site: SiteT, tell: Tell) -> None:
    try:
        await check.look(site, tell)
    except Exception as error:  # noqa: BLE001 -- a bug in one check is a finding; the others go on
        tell(
            Finding(
                check.word("failed"),
                check.area,
                f"The check itself failed ({type(error).__name__}), so not everything was looked at.",
                "This is a fault of transom doctor: report it with its version and this line.",
            )
        )


def _unended(check: Check[SiteT]) -> Finding:
    return Finding(
        check.word("silent"),
        check.area,
        "The check did not end in time: a server or the way to it hangs. The rest of it was not looked at.",
        "Look whether addresses resolve and servers answer from this host, then run transom doctor again.",
    )
