"""What becomes of one batch. No Kafka in it: records in, a verdict out.

Rule 1: records are handled in their order; what is handled is always a prefix of each partition.
Rule 2: a record that was not understood is dead before any handler is asked; it costs its neighbours nothing.
Rule 3: expected trouble (``is_transient``) ends the batch: what came before is done, the rest comes again.
Rule 4: any other exception halves the batch until one record is left; that one is tried a few times, then it is dead.
Rule 5: dead letters that stop (what nobody could read, bugs of ours) are counted in a row over batches, by partition. Any other record begins
        the count anew, whether it was handled or refused. With the limit reached the partition is stopped behind its last dead letter, and
        nothing more of it is handled.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from libs.common.errors import Permanent
from libs.common.kafka.records import Handle, RawRecord, Received, Rejected
from libs.common.transience import is_transient

T = TypeVar("T")

Pause = Callable[[int], Awaitable[bool]]
"""Wait before try number n (2 is the second); False means: we are leaving, do not try again."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that will not be handled, and why."""

    record: RawRecord
    reason: str
    detail: str
    attempts: int
    error: Exception | None = None
    """What a handler with a bug raised, for the log."""


@dataclass(slots=True)
class Verdict:
    """How far a batch came. ``next_offsets`` says per partition from where on nothing is done yet."""

    next_offsets: dict[int, int] = field(default_factory=dict)
    dead: list[DeadLetter] = field(default_factory=list)
    runs: dict[int, int] = field(default_factory=dict)
    legible: set[int] = field(default_factory=set)
    """Partitions of which a record was handled, or refused for what it says."""
    stopped: set[int] = field(default_factory=set)
    trouble: Exception | None = None
    halvings: int = 0


Entry = Received[T] | Rejected


@dataclass(frozen=True, slots=True)
class Isolation(Generic[T]):
    """How batches of one subscription are handled.

    ``tries`` is how often a record that fails alone is tried; ``budget`` is after how many seconds a batch that had to be halved is broken
    off (the rest comes again), so that the group does not take us for dead.
    """

    handle: Handle[T]
    pause: Pause
    run_limit: int
    tries: int = 3
    budget: float = 60.0

    async def judge(self, entries: Sequence[Entry[T]], runs: Mapping[int, int]) -> Verdict:
        """Handle ``entries`` (in order); ``runs`` holds, by partition, how many that stop came in a row so far."""
        verdict = Verdict(runs=dict(runs))
        clock = asyncio.get_running_loop().time
        deadline = clock() + self.budget
        waiting = [list(entries)]
        while waiting:
            if verdict.halvings and clock() > deadline:
                break
            part = self._before_the_limit(
                [e for e in waiting.pop() if e.record.partition not in verdict.stopped], verdict
            )
            batch = [entry for entry in part if isinstance(entry, Received)]
            bug, attempts = None, 1
            try:
                rejected = (await self.handle(batch) or ()) if batch else ()
            except Exception as error:  # noqa: BLE001 -- the policy for every exception of every handler is here
                if is_transient(error):
                    verdict.trouble = error
                    break
                if len(batch) > 1:
                    verdict.halvings += 1
                    middle = _middle(part)
                    waiting += [part[middle:], part[:middle]]
                    continue
                dead = await self._try_alone(batch, error)
                if isinstance(dead, Exception):
                    verdict.trouble = dead
                    break
                rejected, attempts, bug = dead
            self._settle(part, {_place(refusal.record): refusal for refusal in rejected}, attempts, bug, verdict)
        return verdict

    async def _try_alone(
        self, batch: Sequence[Received[T]], error: Exception
    ) -> tuple[Sequence[Rejected], int, Exception | None] | Exception:
        """The refusals of a batch of one, how often it was tried, and the bug it died of; or the expected trouble that came between."""
        for attempt in range(1, self.tries + 1):
            if isinstance(error, Permanent):
                return [Rejected(batch[0].record, error.reason, error.detail, error.stops)], attempt, None
            if attempt == self.tries:
                break
            if not await self.pause(attempt + 1):
                return error
            try:
                return await self.handle(batch) or (), attempt + 1, None
            except Exception as again:  # noqa: BLE001 -- see judge
                if is_transient(again):
                    return again
                error = again
        return [Rejected(batch[0].record, "handler_failed", type(error).__name__, stops=True)], self.tries, error

    def _before_the_limit(self, part: Sequence[Entry[T]], verdict: Verdict) -> list[Entry[T]]:
        """``part`` up to where, supposing that everything understood will be handled, each partition's limit is reached."""
        runs = dict(verdict.runs)
        kept: list[Entry[T]] = []
        for entry in part:
            partition = entry.record.partition
            if runs.get(partition, 0) >= self.run_limit:
                continue
            kept.append(entry)
            runs[partition] = runs.get(partition, 0) + 1 if isinstance(entry, Rejected) and entry.stops else 0
        return kept

    def _settle(
        self,
        part: Sequence[Entry[T]],
        refusals: Mapping[tuple[int, int], Rejected],
        attempts: int,
        bug: Exception | None,
        verdict: Verdict,
    ) -> None:
        for entry in part:
            record = entry.record
            if record.partition in verdict.stopped:
                continue
            refusal = entry if isinstance(entry, Rejected) else refusals.get(_place(record))
            if refusal is not None:
                tried, error = (attempts, bug) if isinstance(entry, Received) else (1, None)
                verdict.dead.append(DeadLetter(record, refusal.reason, refusal.detail, tried, error))
            if refusal is None or not refusal.stops:
                verdict.runs[record.partition] = 0
                verdict.legible.add(record.partition)
            else:
                verdict.runs[record.partition] = verdict.runs.get(record.partition, 0) + 1
                if verdict.runs[record.partition] >= self.run_limit:
                    verdict.stopped.add(record.partition)
            verdict.next_offsets[record.partition] = record.offset + 1


def _place(record: RawRecord) -> tuple[int, int]:
    return record.partition, record.offset


def _middle(part: Sequence[Entry[T]]) -> int:
    """Where to cut so that each half holds half of what the handler saw."""
    half = sum(isinstance(entry, Received) for entry in part) // 2
    for index, entry in enumerate(part):
        if isinstance(entry, Received):
            if half == 0:
                return index
            half -= 1
    return len(part)
