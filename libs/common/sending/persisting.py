"""Steps of rows become true: written, followed by their effects, remembered until they are told. Inside one transaction."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from libs.common.db.pool import Connection
from libs.common.sending import queries as sends
from libs.common.sending.adapter import ProviderAdapter
from libs.common.sending.outcomes import PreparedT
from libs.common.sending.rows import PendingEvents, SendRow, Settled, Transition
from libs.common.thread import refusals

TELLING = timedelta(seconds=20)
"""So long whoever settled a row, or took it to tell it, tells it alone. Longer than Kafka is waited for."""


@dataclass(slots=True)
class Persisted:
    """What came of a transaction; to be told after its commit. ``lost`` are the steps whose rows had moved on meanwhile.

    ``freed`` are accounts with a row that may be looked at again, because what held it back has moved.
    """

    done: list[Transition] = field(default_factory=list)
    lost: list[Transition] = field(default_factory=list)
    settled: list[Settled] = field(default_factory=list)
    news: list[tuple[SendRow, PendingEvents]] = field(default_factory=list)
    freed: set[str] = field(default_factory=set)

    def add(self, other: "Persisted") -> None:
        """Take in what another transaction came to."""
        self.done += other.done
        self.lost += other.lost
        self.settled += other.settled
        self.news += other.news
        self.freed |= other.freed


async def persist(
    db: Connection, adapter: ProviderAdapter[PreparedT], steps: Sequence[Transition], now: datetime
) -> Persisted:
    """Write the steps whose rows still stand as before and let their effects follow.

    A late acceptance (its claim is lost) leaves its provider ids as evidence. All news is of rows that were written, and stands in them until
    it is told. Call inside a transaction; afterwards publish ``news``.
    """
    written = await sends.write(db, [(step.before, step.after) for step in steps])
    applied = Persisted(
        done=[step for step in steps if step.before.key in written],
        lost=[step for step in steps if step.before.key not in written],
    )
    applied.settled = _settled(applied.done)
    if applied.settled:
        news = await adapter.settle(db, applied.settled, now)
        rows = {settled.row.key: settled.row for settled in applied.settled}
        applied.news = [(rows[key], told) for key, told in news.items() if told]
        await sends.keep_pending_events(db, [(row.key, _remembered(told)) for row, told in applied.news], now + TELLING)
    moved = {(s.after.org_id, written[s.after.key]) for s in applied.done if _lets_go(s)}
    applied.freed = {
        account for channel, account in await sends.release_blocked(db, moved) if channel == adapter.transport.channel
    }
    late = [late for late in _settled(applied.lost) if isinstance(late.final, tuple)]
    if late:
        await adapter.keep_evidence(db, late, now)
    await refusals.keep(db, [refusal for _row, told in applied.news for refusal in told.refusals], now)
    return applied


def _lets_go(step: Transition) -> bool:
    """Whether the row holds back younger ones no more, or from now on only for a time."""
    return step.final is not None or (
        step.before.blocks_order_until is None and step.after.blocks_order_until is not None
    )


def _settled(steps: Iterable[Transition]) -> list[Settled]:
    return [Settled(step.after, step.final) for step in steps if step.final is not None]


def _remembered(news: PendingEvents) -> dict[str, Any]:
    """What the row keeps, so that the sweeper can tell it: refusals as they are, and the messages whose newest rung is to be read."""
    return {
        "refusals": [refusal.model_dump(mode="json") for refusal in news.refusals],
        "message_ids": [str(message_id) for message_id in sorted(news.message_ids)],
    }
