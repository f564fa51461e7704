"""The dispatcher claims due rows account by account, in turn, as room allows, and makes their calls concurrently.

The process that stored a row wakes its account in memory (``wake``), and also at the ends of waits that it knows. A
periodic look finds all other work: rows of other processes, rows from before a restart, accounts whose pause has ended.
"""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Generic

from libs.common.backoff import backoff
from libs.common.bisection import AdaptiveBatchSize, Bisection, Faulty, TooSlow
from libs.common.clock import Clock
from libs.common.db.pool import Pool
from libs.common.ids import SendKey
from libs.common.log_aggregator import LogAggregator
from libs.common.logging import get_logger
from libs.common.periodic import StallDetector, log_trouble, run_periodically
from libs.common.retryable import is_retryable, is_statement_timeout
from libs.common.sending import queries as sends
from libs.common.sending.adapter import ProviderAdapter
from libs.common.sending.calling import call
from libs.common.sending.claiming import Choice, Moved, claim_due, claim_new, due, postpone
from libs.common.sending.outcomes import Accepted, BackoffPolicy, PreparedT, RetryLater, SendOutcome, Timings, Unknown
from libs.common.sending.persisting import Persisted
from libs.common.sending.quarantine import Quarantine
from libs.common.sending.recording import Recorder
from libs.common.sending.rows import EVERY_ACCOUNT, Claim, NewSend, SendRow
from libs.common.sending.turns import Turns

log = get_logger()

_AT_ONCE = 500
_ACCOUNTS_AT_ONCE = 2_000
_BEGUN_AT_ONCE = 32
"""So many calls of a claim begin in one turn of the event loop. The first answers leave connections to the rest."""
_FULL = 250
"""So many commands may wait for room before they are stored. Fewer do not: a lone message is not held back."""
_ROOM_SECONDS = 2.0
"""How long they wait at most."""
_STORED_ONLY_SECONDS = 10.0
"""After a fault in claiming what is being stored, commands are only stored for so long."""
_AROUND = 100
"""A row that is to be claimed alone is sought among so many due rows of its account."""
_WAIT = timedelta(milliseconds=50)
_LONGEST_WAIT = timedelta(seconds=2)
_TOO_LATE = RetryLater("pair", BackoffPolicy(timedelta(milliseconds=100), 2, timedelta(seconds=2)), "claim_too_old")
_BEHIND = RetryLater("pair", _TOO_LATE.policy, "behind", after=timedelta(0), called=False)


class Dispatcher(Generic[PreparedT]):
    """Claims and sends until ``end``.

    At most ``concurrency`` calls run at a time, and at most twice as many claims are open: an answer in hand gives the
    place of its call to the next of its run, or frees it, and its claim stays open until it is recorded.
    """

    def __init__(
        self,
        adapter: ProviderAdapter[PreparedT],
        pool: Pool,
        recorder: Recorder[PreparedT],
        timings: Timings,
        *,
        now: Clock,
        concurrency: int,
        ended: Callable[[Persisted], None],
        pulse: StallDetector,
    ) -> None:
        self._adapter = adapter
        self._pool = pool
        self._recorder = recorder
        self._timings = timings
        self._now = now
        self._ended = ended
        self._pulse = pulse
        self._turns = Turns(concurrency)
        self._calls: set[asyncio.Task[bool]] = set()
        self._wake = asyncio.Event()
        self._released = asyncio.Event()
        self._looked_to = ""
        self._taken: list[str] = []
        self._quarantine = Quarantine("claim")
        self._suspected: dict[SendKey, SendRow] = {}
        """Rows that were too slow alone. Each is claimed alone, when ``SlowSuspects`` says that it is due."""
        self._portion = AdaptiveBatchSize(_AT_ONCE)
        self._strange: LogAggregator[str, str] = LogAggregator()
        self._running = self._ending = False
        self._stored_only_until = float("-inf")
        self._storing: set[asyncio.Future[None]] = set()
        """One for each batch that is being stored. What it claims is called before ``run`` returns."""

    def wake(self, accounts: Iterable[str]) -> None:
        """These accounts may have rows that are due now."""
        self._turns.wake(accounts)
        self._wake.set()

    def wake_at(self, due: datetime, account: str) -> None:
        """Look at this account then: a row will be due, or its pause will have ended."""
        self._turns.wake_at(due, account)
        self._wake.set()  # the present sleep may be longer

    def moved(self, accounts: Iterable[str]) -> None:
        """Rows of these accounts are settled, so that others behind them may be due now."""
        self._turns.moved(accounts)
        self._wake.set()

    def release(self, closed: Mapping[str, int]) -> None:
        """So many answers of these accounts are recorded: their claims are open no more."""
        self._turns.recorded(closed, self._loop_time())
        self._wake.set()
        self._released.set()

    def begin(self) -> None:
        """From now on ``accept`` claims what it stores. Call ``run`` then."""
        self._running = True

    def end(self) -> None:
        """Stop claiming."""
        self._running, self._ending = False, True
        self._wake.set()
        self._released.set()

    async def accept(self, commands: Sequence[NewSend]) -> None:
        """Store commands as rows, once each. Those that wait for nothing are claimed with it, and their calls begin."""
        storing = asyncio.get_running_loop().create_future()
        self._storing.add(storing)
        try:
            if len(commands) >= _FULL:
                await self._until_room(commands)
            await self._accept(commands)
        finally:
            self._storing.discard(storing)
            storing.set_result(None)

    async def _until_room(self, commands: Sequence[NewSend]) -> None:
        """Wait while earlier rows of these accounts have the room, and leave it fast enough.

        A row that is stored without room is written and looked at once more, and so is all that follows in its
        conversation. So what a busy process cannot claim yet is better left in the topic for a moment.
        """
        rows = Counter(command.account for command in commands)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ROOM_SECONDS):
                while self._running and self._turns.room_comes(rows, self._loop_time()):
                    self._released.clear()
                    await self._released.wait()

    async def _accept(self, commands: Sequence[NewSend]) -> None:
        began, now = self._loop_time(), self._now()
        at_once = self._running and began >= self._stored_only_until
        room = self._turns.take_at_once(Counter(command.account for command in commands)) if at_once else {}
        claims: list[Claim[PreparedT]] | None = None
        try:
            if room:
                with self._turns.reserved(room):
                    async with self._pool.acquire(kept_plans=True) as db, db.transaction():
                        found = await claim_new(db, self._adapter, commands, room, now, timings=self._timings)
                    claims = found  # committed
                    self._open(claims)
        except Exception as error:
            if is_retryable(error) and not is_statement_timeout(error):
                raise
            if not isinstance(error, Moved):
                # claiming finds the row that is at fault, or too slow, and no partition waits for it
                log_trouble("accept", error)
                self._stored_only_until = self._loop_time() + _STORED_ONLY_SECONDS
        if claims is None:
            async with self._pool.acquire(kept_plans=True) as db:
                await sends.store(db, self._adapter.transport.channel, commands, now, now + self._timings.lifetime)
            claims = []
        claimed = {claim.row.key for claim in claims}
        self.wake({command.account for command in commands if command.key not in claimed})
        await self._begin(claims, began)

    async def run(self) -> None:
        """Claim and send until ``end``. Returns when every call in flight has its answer."""
        failures = 0
        looking = asyncio.create_task(run_periodically("look", self._timings.poll, self._look, self._pulse))
        while not self._ending:
            self._wake.clear()
            try:
                self._pulse.begins("dispatch")
                more = await self._round()
                self._pulse.ends("dispatch")
                failures = 0
            except Exception as error:  # noqa: BLE001 -- nothing may end the sending of all other rows; it is logged
                failures += 1
                more = await self._trouble(error, failures)
            if not more and not self._ending:
                await self._sleep()
        looking.cancel()
        while self._calls or self._storing:
            left: set[asyncio.Future[Any]] = {*self._calls, *self._storing}
            await asyncio.wait(left)

    async def _round(self) -> bool:
        """Claim once and begin the calls; returns whether to claim again at once."""
        self._turns.wake(self._turns.ended_waits(self._now()) - {EVERY_ACCOUNT})
        suspects = [
            row for row in self._suspected.values() if self._quarantine.suspects.is_due(row.key, self._loop_time())
        ]
        if suspects:
            await self._apart(suspects, dict.fromkeys((row.account for row in suspects), _AROUND))
        budgets = self._turns.take(self._portion.size)
        if not budgets:
            return False
        called = self._turns.with_claims(budgets)
        with self._turns.reserved(budgets):
            await self._claim_in_turn(budgets, called)
        return True

    async def _claim_in_turn(self, budgets: Mapping[str, int], called: Collection[str]) -> None:
        self._taken = list(budgets)
        choice = Choice(but={*self._suspected, *self._quarantine.keys(self._now())})
        try:
            claimed = await self._claim(budgets, choice, called)
        except Exception as error:
            if is_retryable(error) and not is_statement_timeout(error):
                raise
            log_trouble("claim", error)
            with self._portion.taken():
                async with self._pool.acquire() as db:
                    rows = await due(db, self._adapter, budgets, self._now(), self._timings, choice=choice)
            await self._apart(rows, budgets)
            self._turns.wake(budgets)
        else:
            self._quarantine.passed(claimed)
        self._taken = []

    async def _claim(self, budgets: Mapping[str, int], choice: Choice, called: Collection[str] = ()) -> int:
        """Claim the chosen rows of these accounts and begin their calls. Returns how many."""
        began = self._loop_time()
        async with self._pool.acquire(kept_plans=True) as db, db.transaction():
            found = await claim_due(
                db, self._adapter, budgets, self._now(), self._timings, choice=choice, called=called
            )
        self._log_strange(found.strange)
        self._open(found.claims)
        if choice.only is None:
            self._turns.emptied(budgets.keys() - found.held - found.more)
        await self._begin(found.claims, began)
        self._turns.wake(found.more)
        for due_at, account in found.waits:
            self._turns.wake_at(due_at, account)
        self._ended(found.applied)
        if found.applied.settled:
            await self._adapter.committed(found.applied.settled)
        return len(found.claims)

    def _open(self, claims: Sequence[Claim[PreparedT]]) -> None:
        """A run has its place of the account of its last row, which gives it back: its rows may have several."""
        followed = {claim.after for claim in claims}
        runs = Counter(claim.row.account for claim in claims if claim.row.key not in followed)
        self._turns.opened(runs, Counter(claim.row.account for claim in claims))

    async def _begin(self, claims: Sequence[Claim[PreparedT]], began: float) -> None:
        """Begin the calls of one claim, which was made from ``began`` on."""
        calls: dict[SendKey, asyncio.Task[bool]] = {}
        followed = {claim.after for claim in claims}
        for number, claim in enumerate(claims, 1):
            before = None if claim.after is None else calls[claim.after]
            ends_run = claim.row.key not in followed
            task = calls[claim.row.key] = asyncio.create_task(self._send(claim, began, before, ends_run=ends_run))
            self._calls.add(task)
            task.add_done_callback(self._calls.discard)
            if number % _BEGUN_AT_ONCE == 0:
                await asyncio.sleep(0)

    async def _apart(self, rows: Sequence[SendRow], budgets: Mapping[str, int]) -> None:
        """Claim these rows in parts, down to the row that fails or is too slow alone, and quarantine that row."""

        async def claim(part: Sequence[SendRow]) -> None:
            await self._claim(budgets, Choice(only={row.key for row in part}))

        suspects = self._quarantine.suspects
        search = Bisection[SendRow, None, SendKey](
            claim, suspects, key=lambda row: row.key, ordering_key=lambda row: row.key
        )
        async for found in search.run(rows):
            if isinstance(found, Faulty | TooSlow):
                await self._quarantine_row(found.item, found.error)
        self._suspected |= {row.key: row for row in search.suspected}
        self._suspected = {key: row for key, row in self._suspected.items() if key in suspects}
        if search.transient_error is not None:
            raise search.transient_error

    def _log_strange(self, strange: Mapping[str, int]) -> None:
        """Log rows of another release: at once, then once a minute with their count."""
        now = asyncio.get_running_loop().time()
        entries = [self._strange.add(code, code, now, count) for code, count in strange.items()]
        for one in (*entries, *self._strange.due(now)):
            if one is not None:
                log.error(
                    "row.set_aside",
                    task="claim",
                    reason=one.sample,
                    records=one.count,
                    channel=self._adapter.transport.channel,
                )

    async def _look(self) -> None:
        """Wake accounts with due rows that this process does not know of; of very many, the rest at the next look."""
        async with self._pool.acquire() as db:
            found = await sends.accounts_after(
                db, self._adapter.transport, self._now(), self._looked_to, _ACCOUNTS_AT_ONCE
            )
        self._looked_to = found[-1][0] if len(found) == _ACCOUNTS_AT_ONCE else ""
        self.wake([account for account, ready in found if ready])

    async def _send(
        self, claim: Claim[PreparedT], claimed: float, before: "asyncio.Task[bool] | None", *, ends_run: bool
    ) -> bool:
        """Make one call, after the call ``before``. Returns whether it was accepted.

        The recorder always gets an outcome, also after a bug in the call. Where the call before was not accepted, this
        one is not made: the facts may have changed, and the row is claimed again. So is a row whose lease became too
        short for a call while the one before went on.
        """
        loop = asyncio.get_running_loop()
        latest = claimed + (self._timings.lease - self._timings.timeout).total_seconds()
        accepted_before = before is None or await _accepted(before, latest - loop.time())
        began = loop.time()
        outcome: SendOutcome
        if not accepted_before or (before is not None and (self._ending or began >= latest)):
            outcome = _BEHIND
        elif began >= latest:
            outcome = _TOO_LATE  # this process was stalled: a call that begins now could outlive its lease
        else:
            try:
                outcome = await call(self._adapter, self._pool, claim, latest)
            except Exception:  # a bug: whether the request left is not known
                log.exception("task.failed", task="send", message_id=str(claim.row.message_id))
                outcome = Unknown("fault")
        self._recorder.add(claim, outcome)
        if before is not None and not before.done():
            await asyncio.wait(
                [before]
            )  # this row waited too long for a call that goes on, and that call has the place
        if ends_run and self._turns.answered(claim.row.account):
            self._wake.set()
        return isinstance(outcome, Accepted)

    async def _trouble(self, error: Exception, failures: int) -> bool:
        """Log and wait, because the database is away or slow for every row."""
        taken, self._taken = self._taken, []
        self._turns.wake(taken)
        log_trouble("claim", error, attempt=failures)
        wait = backoff(failures, base=_WAIT, cap=_LONGEST_WAIT, jitter=random.random)
        await asyncio.sleep(wait.total_seconds())
        return True

    async def _quarantine_row(self, row: SendRow, error: Exception) -> None:
        """Quarantine the row in this process, and postpone it in the database for all."""
        now = self._now()
        self._quarantine.put(row, error, now)
        try:
            async with self._pool.acquire() as db, db.transaction():
                steps = await postpone(db, self._adapter, row, now, self._timings)
            self._ended(Persisted(done=list(steps)))
        except Exception as again:  # the row is quarantined in this process all the same
            log.warning("task.retried", task="set_aside", exc_info=again)

    @staticmethod
    def _loop_time() -> float:
        return asyncio.get_running_loop().time()

    async def _sleep(self) -> None:
        """Sleep until an account is woken, or the next known wait ends."""
        seconds = self._timings.poll.total_seconds()
        next_wait = self._turns.next_wait()
        if next_wait is not None:
            seconds = min(seconds, (next_wait - self._now()).total_seconds())
        try:
            async with asyncio.timeout(max(seconds, 0)):
                await self._wake.wait()
        except TimeoutError:
            return


async def _accepted(call: "asyncio.Task[bool]", seconds: float) -> bool:
    """Whether the provider accepts this call within so many seconds. The call itself goes on."""
    ended, _running = await asyncio.wait([call], timeout=max(seconds, 0))
    return bool(ended) and call.result()
