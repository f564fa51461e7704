"""The engine of one channel: dispatcher, recorder, publisher and sweeper, started and ended together."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Generic, Self, get_args

from libs.common import metrics
from libs.common.clock import Clock
from libs.common.db.pool import Pool
from libs.common.drain import CALLS, FLUSHING, PUBLISHING, RECORDS, Drain
from libs.common.events.outbound import Channel, Route
from libs.common.ids import MessageKey
from libs.common.kafka.producer import Producer
from libs.common.logging import get_logger
from libs.common.open_service import OpenService
from libs.common.periodic import StallDetector, run_periodically
from libs.common.sending.adapter import ProviderAdapter
from libs.common.sending.dispatching import Dispatcher
from libs.common.sending.outcomes import PreparedT, Refused, Rerouted, Timings
from libs.common.sending.persisting import Persisted
from libs.common.sending.publishing import EventPublisher
from libs.common.sending.recording import Recorded, Recorder
from libs.common.sending.rows import EVERY_ACCOUNT, NewSend, Transition, sender_of
from libs.common.sending.status_lines import log_statuses
from libs.common.sending.sweeping import RARELY, ROW_TASKS, Sweeper

log = get_logger()

_DRAIN_SECONDS = 25.0  # of an engine that no service drains
_ROUTES = frozenset(get_args(Route))


class SendEngine(Generic[PreparedT]):
    """``async with SendEngine(…) as engine``: sends what ``accept`` stores.

    Leaving drains: no row is claimed any more, calls in flight end and are recorded. What cannot be recorded or
    published before the drain ends is not lost: the sweeper of another process settles and publishes it from the rows.
    """

    def __init__(
        self,
        adapter: ProviderAdapter[PreparedT],
        pool: Pool,
        producer: Producer,
        timings: Timings,
        *,
        now: Clock,
        concurrency: int,
        drain: Drain | None = None,
    ) -> None:
        """``drain``: the stop of the service, whose seconds the engine shares."""
        self._adapter = adapter
        self._pool = pool
        self._timings = timings
        self._now = now
        self._drain = drain
        self._publisher = EventPublisher(pool, producer, adapter.transport.channel, now=now)
        self._pulse = StallDetector()
        self._recorder = Recorder(adapter, pool, timings, now=now, recorded=self._recorded, pulse=self._pulse)
        self._dispatcher = Dispatcher(
            adapter,
            pool,
            self._recorder,
            timings,
            now=now,
            concurrency=concurrency,
            ended=self._ended,
            pulse=self._pulse,
        )
        self._sweeper = Sweeper(adapter, pool, self._publisher, timings, now=now, ended=self._ended, awake=self._awake)
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def accept(self, commands: Sequence[NewSend]) -> None:
        """Store commands as rows, once each, and send them at once. They are durable when this returns."""
        if commands:
            await self._dispatcher.accept(commands)

    async def __aenter__(self) -> Self:
        self._dispatcher.begin()
        work = {
            "dispatch": self._dispatcher.run(),
            "record": self._recorder.run(),
            "publish": self._publisher.run(),
            "leases": run_periodically("leases", self._timings.poll, self._recorder.keep_leases),
        }
        for name, tick in self._sweeper.tasks.items():
            period = self._timings.poll * (1 if name in ROW_TASKS else RARELY)
            work[f"sweep.{name}"] = run_periodically(
                f"sweep.{name}", period, tick, self._pulse if name in ROW_TASKS else None
            )
        self._tasks = {name: asyncio.create_task(run, name=name) for name, run in work.items()}
        return self

    async def __aexit__(self, *_exc: object) -> None:
        for name in self._sweeper.tasks:
            self._tasks[f"sweep.{name}"].cancel()
        drain = self._drain or Drain(_DRAIN_SECONDS, asyncio.get_running_loop().time)
        drain.begin()
        self._dispatcher.end()
        await self._ends("dispatch", drain.left(CALLS))
        self._recorder.end()
        await self._ends("record", drain.left(RECORDS))
        self._publisher.end()
        await self._ends("publish", drain.left(PUBLISHING))
        for task in self._tasks.values():
            task.cancel()
        await asyncio.wait(self._tasks.values(), timeout=drain.left(FLUSHING))

    async def watch(self) -> None:
        """Never return. Raise the error that ended one of the tasks."""
        done, _running = await asyncio.wait(self._tasks.values(), return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    def unready(self) -> str | None:
        """Which task has made no progress for a minute, or None."""
        return self._pulse.why(asyncio.get_running_loop().time())

    def _recorded(self, recorded: Recorded) -> None:
        self._ended(recorded.applied)
        self._dispatcher.release(recorded.answers)
        for pause in recorded.rests:
            self._dispatcher.wake_at(pause.until, sender_of(pause.account))
        self._awake(recorded.awake)

    def _awake(self, accounts: Iterable[str]) -> None:
        self._dispatcher.wake(
            {*map(sender_of, accounts)} - {EVERY_ACCOUNT}
        )  # after a pause of every account the look finds the accounts with work

    def _ended(self, applied: Persisted) -> None:
        """After a commit: log what happened, publish the events, and look at rows that may go now."""
        failures = {
            (update.org_id, row.message_id): update.reason
            for row, events in applied.pending
            for update in events.updates
            if update.status == "failed" and update.message_id == row.message_id
        }
        _log_steps(self._adapter.transport.channel, applied.done, self._now(), failures)
        for _row, events in applied.pending:
            log_statuses(events.told)  # of statuses that came before the answer
        self._publisher.publish(applied.pending)
        for step in applied.done:
            if step.after.state == "pending":
                self._dispatcher.wake_at(step.after.due_at, step.after.account)
        moved = {step.after.account for step in applied.done if step.final is not None or step.after.state == "unknown"}
        self._dispatcher.moved(moved)
        self._dispatcher.wake(applied.freed)

    async def _ends(self, name: str, seconds: float) -> None:
        await asyncio.wait({self._tasks[name]}, timeout=seconds)


@asynccontextmanager
async def open_engine(
    opened: OpenService, adapter: ProviderAdapter[PreparedT], timings: Timings, concurrency: int
) -> AsyncIterator[SendEngine[PreparedT]]:
    """An engine on the servers of a service runs inside the block. The service ends if the engine fails.

    ``concurrency``: calls in flight at once (``Dispatcher``).
    """
    pool, service = opened.pool, opened.service
    async with (
        SendEngine(
            adapter, pool, opened.producer, timings, now=pool.now, concurrency=concurrency, drain=service.drain
        ) as engine,
        service.background(engine.watch()),
    ):
        yield engine


def _log_steps(
    channel: Channel, steps: Iterable[Transition], now: datetime, failures: Mapping[MessageKey, str | None]
) -> None:
    """One line and one count per step of a send: ids and codes alone. A claim is not logged; its answer is.

    ``failures``: the reasons with which messages ended; that of a message whose bridge failed is another one.
    """
    outcomes: Counter[tuple[str, str]] = Counter()
    for step in steps:
        row = step.after
        if step.final is None and row.state == "claimed":
            continue
        fields = _fields_of(channel, step, now)
        code = (row.outcome or {}).get("code")
        outcomes[row.provider or "none", "deferred" if row.state == "pending" else row.state] += 1
        match step.final:
            case Rerouted(reason=reason):
                # the gate has no code, so Meta refused it
                if reason == "window_closed" and code is not None and fields.get("route") != "template":
                    metrics.SENDS_AFTER_WINDOW.inc()
                log.info("send.refused", reason=reason, provider_code=code, **fields)
            case Refused(reason=reason, detail=detail):
                told = failures.get((row.org_id, row.message_id)) or reason
                fields |= {} if detail is None else {"detail": detail}
                log.warning("send.failed", reason=told, provider_code=code, **fields)
            case tuple():
                log.info("send.accepted", **fields)
            case None if row.state == "unknown":
                log.warning("send.unknown", reason=code, **fields)
            case None:
                log.info("send.deferred", reason=code, due_at=row.due_at.isoformat(), **fields)
    for (provider, outcome), number in outcomes.items():
        metrics.SENDS.labels(channel=channel, provider=provider, outcome=outcome).inc(number)


def _fields_of(channel: Channel, step: Transition, now: datetime) -> dict[str, Any]:
    row = step.after
    fields: dict[str, Any] = {
        "org_id": row.org_id,
        "conversation_id": str(row.conversation_id),
        "message_id": str(row.message_id),
        "attempt": row.attempt,
        "channel": channel,
    }
    if row.provider is not None:
        fields["provider"] = row.provider
    if (route := row.command.get("route")) in _ROUTES:  # a word of another release is not logged
        fields["route"] = route
    if step.before.state == "claimed" and row.claimed_at is not None:
        fields["duration_ms"] = round((now - row.claimed_at).total_seconds() * 1000, 1)
    return fields
