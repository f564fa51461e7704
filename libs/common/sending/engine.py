"""The engine of one channel: dispatcher, recorder, publisher and sweeper, started and ended together."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Generic, Self, get_args

from libs.common import metrics
from libs.common.clock import Clock
from libs.common.db.pool import Pool
from libs.common.drain import CALLS, FLUSHING, PUBLISHING, RECORDS, Drain
from libs.common.events.outbound import Channel, Route
from libs.common.kafka.producer import Producer
from libs.common.logging import get_logger
from libs.common.open_service import OpenService
from libs.common.periodic import StallDetector, run_periodically
from libs.common.sending import queries as sends
from libs.common.sending.adapter import ProviderAdapter
from libs.common.sending.dispatching import Dispatcher
from libs.common.sending.outcomes import PreparedT, Refused, Rerouted, Timings
from libs.common.sending.persisting import Persisted
from libs.common.sending.publishing import EventPublisher
from libs.common.sending.recording import Recorded, Recorder
from libs.common.sending.rows import EVERY_ACCOUNT, NewSend, Transition, sender_of
from libs.common.sending.sweeping import COUNT_EVERY, ROW_TASKS, Sweeper

log = get_logger()

_DRAIN_SECONDS = 25.0  # of an engine that no service drains


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
        now = self._now()
        async with self._pool.acquire() as db:
            await sends.store(db, self._adapter.transport.channel, commands, now, now + self._timings.lifetime)
        self._dispatcher.wake({command.account for command in commands})

    async def __aenter__(self) -> Self:
        work = {
            "dispatch": self._dispatcher.run(),
            "record": self._recorder.run(),
            "publish": self._publisher.run(),
        }
        for name, tick in self._sweeper.tasks.items():
            period = self._timings.poll * (COUNT_EVERY if name == "waiting" else 1)
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
        _log_steps(self._adapter.transport.channel, applied.done, self._now())
        self._publisher.publish(applied.pending)
        for step in applied.done:
            if step.after.state == "pending":
                self._dispatcher.wake_at(step.after.due_at, step.after.account)
        moved = {step.after.account for step in applied.done if step.final is not None or step.after.state == "unknown"}
        self._dispatcher.wake(moved | applied.freed)

    async def _ends(self, name: str, seconds: float) -> None:
        await asyncio.wait({self._tasks[name]}, timeout=seconds)


@asynccontextmanager
async def open_engine(
    opened: OpenService, adapter: ProviderAdapter[PreparedT], timings: Timings, concurrency: int
) -> AsyncIterator[SendEngine[PreparedT]]:
    """An engine on the servers of a service runs inside the block. The service ends if the engine fails.

    ``concurrency``: calls in flight at once.
    """
    pool, service = opened.pool, opened.service
    async with (
        SendEngine(
            adapter, pool, opened.producer, timings, now=pool.now, concurrency=concurrency, drain=service.drain
        ) as engine,
        service.background(engine.watch()),
    ):
        yield engine


def _log_steps(channel: Channel, steps: Iterable[Transition], now: datetime) -> None:
    """One line and one count per step of a send: ids and codes alone. A claim is not logged; its answer is."""
    for step in steps:
        row = step.after
        fields = _fields_of(channel, step, now)
        code = (row.outcome or {}).get("code")
        match step.final:
            case Rerouted(reason=reason):
                log.info("send.refused", reason=reason, provider_code=code, **fields)
            case Refused(reason=reason):
                log.warning("send.failed", reason=reason, provider_code=code, **fields)
            case tuple():
                log.info("send.accepted", **fields)
            case None if row.state == "unknown":
                log.warning("send.unknown", reason=code, **fields)
            case None if row.state == "pending":
                log.info("send.deferred", reason=code, due_at=row.due_at.isoformat(), **fields)
            case None:
                continue
        outcome = row.state if row.state != "pending" else "deferred"
        metrics.SENDS.labels(channel=channel, provider=row.provider or "none", outcome=outcome).inc()


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
    if (route := row.command.get("route")) in get_args(Route):  # a word of another release is not logged
        fields["route"] = route
    if step.before.state == "claimed" and row.claimed_at is not None:
        fields["duration_ms"] = round((now - row.claimed_at).total_seconds() * 1000, 1)
    return fields
