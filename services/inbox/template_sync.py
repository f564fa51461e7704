"""Reading the templates of every account from Meta, in turns.

Rule 1: an account (an organisation in one of its WABAs) is read by one replica at a time: a run holds the lease of the
        account's row. A run that is lost is begun again when the lease is over.
Rule 2: an account is due every ``period``, give or take a tenth, and soon after a webhook or a person asks. Between two
        runs lie ``SYNC_GAP`` at least.
Rule 3: an account that Meta refuses or does not answer rests, longer each time, and its row says why. A wish of a
        person ends the rest; a webhook does not.
Rule 4: a template that the list did not show is asked for by its name before it counts as deleted: pages shift while
        templates come and go. Meta's list may lag by ``LOST_AFTER`` behind what was made or deleted just now. What it
        lists in a shape that cannot be read is not deleted either.
Rule 5: a run is bounded in pages and in time, and an organisation reads with its own token or with the platform's.
Rule 6: organisations take turns in each process: no matter how many accounts of one are due, one of another is next.
"""

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import assert_never

from libs.common.backoff import backoff
from libs.common.db.pool import Pool
from libs.common.directory.templates import SYNC_GAP
from libs.common.forgetting import forget_all
from libs.common.logging import get_logger
from libs.common.periodic import Task
from services.inbox import template_sync_queries as queries
from services.inbox.template_answers import Broken, Failure, Listed, Page, Refused, Throttled, Unknown, Unread
from services.inbox.template_graph import TemplateGraph
from services.inbox.template_sync_queries import Place, Run

log = get_logger()

READERS = 3
READ_PERIOD, HELP_PERIOD = timedelta(seconds=1), timedelta(seconds=5)
SEED_PERIOD, FORGET_PERIOD = timedelta(seconds=15), timedelta(hours=1)
LEASE = timedelta(minutes=2)
RUN_SECONDS = 90.0
"""Of a whole run; less than the lease."""
MAX_PAGES = 200
IN_TURN = 20
"""Organisations that are passed over after their turn, while another one has an account that is due."""
AT_ONCE = 50
"""How many names that the list did not show a run asks for."""
LOST_AFTER = timedelta(minutes=1)
"""A submission without an answer that Meta does not list after this was not made."""
HISTORY_KEPT = timedelta(days=730)
NO_TOKEN = "no_token"  # noqa: S105 -- a code

_FIRST_REST = timedelta(minutes=1)
_LONGEST_REST = timedelta(hours=6)
_LONGEST_PASSING = timedelta(minutes=15)
_JITTER = 0.1


class SyncFailed(Exception):  # noqa: N818 -- an outcome that ends a run
    """Meta did not give the list. ``code`` says why; ``passes``: it may be over soon."""

    def __init__(self, code: str, *, passes: bool) -> None:
        super().__init__(code)
        self.code = code
        self.passes = passes


class TemplateSync:
    """Reads accounts that are due. ``token``: the platform's; empty where every number has its own."""

    def __init__(self, pool: Pool, graph: TemplateGraph, *, token: str, period: timedelta) -> None:
        self._pool = pool
        self._graph = graph
        self._token = token
        self._period = period
        self._served: deque[str] = deque(maxlen=IN_TURN)

    @property
    def tasks(self) -> dict[str, Task]:
        """The periodic tasks. An account that is slow holds up one of the readers; the others look more rarely."""
        readers: dict[str, Task] = {
            f"templates_{number}": (READ_PERIOD if number == 0 else HELP_PERIOD, self.read_due)
            for number in range(READERS)
        }
        return {
            **readers,
            "template_accounts": (SEED_PERIOD, self.seed),
            "template_history": (FORGET_PERIOD, self.forget),
        }

    async def seed(self) -> None:
        """Give every account of the directory its row."""
        async with self._pool.acquire() as db:
            await queries.seed(db, self._pool.now())

    async def read_due(self) -> None:
        """Read every account that is due, one after the other, by organisation in turn."""
        while (run := await self._claim()) is not None:
            await self._run(run)

    async def forget(self) -> None:
        """Delete history that is older than two years."""
        await forget_all(self._pool, queries.forget_history, self._pool.now() - HISTORY_KEPT)

    async def token_for(self, place: Place) -> str:
        """The organisation's token for this account. Raises SyncFailed where there is none."""
        async with self._pool.acquire() as db:
            own = await queries.own_token(db, place)
        if not (token := own or self._token):
            raise SyncFailed(NO_TOKEN, passes=False)
        return token

    async def by_name(self, place: Place, name: str) -> list[Listed]:
        """Store what Meta lists under this name now, and return it. Raises SyncFailed."""
        at = self._pool.now()
        token = await self.token_for(place)
        listed: list[Listed] = []
        unread: list[Unread] = []
        async for page in self._pages(place.waba_id, token, name):
            listed += [one for one in page.templates if one.name == name]
            unread += [one for one in page.unread if one.name in (name, None)]
        async with self._pool.acquire() as db, db.transaction():
            await queries.store(db, place, listed, at, at - LOST_AFTER)
            if all(one.name is not None for one in unread):
                languages = [one.language for one in listed] + [one.language for one in unread if one.language]
                await queries.gone(db, place, at, name, languages, lost_before=at - LOST_AFTER)
        return listed

    async def _claim(self) -> Run | None:
        async with self._pool.acquire() as db:
            run = await queries.claim(db, self._pool.now(), LEASE, self._served)
            if run is None and self._served:
                self._served.clear()
                run = await queries.claim(db, self._pool.now(), LEASE)
        if run is not None:
            self._served.append(run.org_id)
        return run

    async def _run(self, run: Run) -> None:
        try:
            async with asyncio.timeout(RUN_SECONDS):
                count = await self._read(run)
        except SyncFailed as failed:
            await self._fail(run, failed)
        except TimeoutError:
            await self._fail(run, SyncFailed("timeout", passes=True))
        else:
            spread = 1 + _JITTER * (2 * random.random() - 1)  # noqa: S311 -- spreads the load
            async with self._pool.acquire() as db:
                await queries.synced(db, run, count, self._pool.now() + self._period * spread, SYNC_GAP)
            log.info("templates.synced", org_id=run.org_id, waba_id=run.waba_id, records=count)

    async def _read(self, run: Run) -> int:
        """Store the whole list, and mark what is gone. Returns how many templates Meta has."""
        place, began = run.place, run.started_at
        token = await self.token_for(place)
        count, at = 0, began
        async for page in self._pages(place.waba_id, token):
            async with self._pool.acquire() as db, db.transaction():
                await queries.store(db, place, page.templates, at, at - LOST_AFTER)
                await queries.seen(db, place, page.unread, at)
            count += len(page.templates)
            at = self._pool.now()  # the next page is asked for from here on
        async with self._pool.acquire() as db:
            names = await queries.missing(db, place, began, began - LOST_AFTER, AT_ONCE)
        for name in names:
            await self.by_name(place, name)
        async with self._pool.acquire() as db:
            await queries.unasked(db, place, began - LOST_AFTER)
        if len(names) == AT_ONCE:
            async with self._pool.acquire() as db:
                await queries.wish(db, *place, self._pool.now(), SYNC_GAP)
        return count

    async def _pages(self, waba_id: str, token: str, name: str | None = None) -> AsyncIterator[Page]:
        after: str | None = None
        for _ in range(MAX_PAGES):
            match await self._graph.page(waba_id, token, after=after, name=name):
                case Page(_, unread, next_after) as page:
                    if unread:
                        log.warning("templates.unread", waba_id=waba_id, records=len(unread))
                    yield page
                    if next_after is None or next_after == after:
                        return
                    after = next_after
                case failure:
                    raise failed_by(failure)
        raise SyncFailed("too_many_pages", passes=False)

    async def _fail(self, run: Run, failed: SyncFailed) -> None:
        cap = _LONGEST_PASSING if failed.passes else _LONGEST_REST
        rest = backoff(run.failures + 1, base=_FIRST_REST, cap=cap, jitter=random.random)
        now = self._pool.now()
        async with self._pool.acquire() as db:
            await queries.failed(db, run, failed.code, now, now + rest)
        log.warning(
            "templates.resting",
            org_id=run.org_id,
            waba_id=run.waba_id,
            provider_code=failed.code,
            attempt=run.failures + 1,
            due_at=(now + rest).isoformat(),
        )


def failed_by(failure: Failure) -> SyncFailed:
    """Why Meta's answer ends a run."""
    match failure:
        case Broken(code) | Refused(code):
            return SyncFailed(code, passes=False)
        case Throttled(code) | Unknown(code):
            return SyncFailed(code, passes=True)
        case _:
            assert_never(failure)
