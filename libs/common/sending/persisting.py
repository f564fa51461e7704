"""Transitions of rows are persisted with their effects and their pending events, in one transaction."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from libs.common.db.pool import Connection
from libs.common.sending import claim_queries, conversation_order, refusals
from libs.common.sending import queries as sends
from libs.common.sending.adapter import ProviderAdapter
from libs.common.sending.outcomes import PreparedT
from libs.common.sending.rows import PendingEvents, SendRow, Settled, Transition

PUBLISH_LEASE = timedelta(seconds=20)
"""The lease under which one process publishes the events of a row. It is longer than a publish may take."""


@dataclass(slots=True)
class Persisted:
    """The result of a transaction, to be published after its commit.

    ``lost``: transitions whose rows had moved meanwhile. ``pending``: the events of each row. ``freed``: accounts with
    a row that may be claimed now, because the row that blocked it has moved.
    """

    done: list[Transition] = field(default_factory=list)
    lost: list[Transition] = field(default_factory=list)
    settled: list[Settled] = field(default_factory=list)
    pending: list[tuple[SendRow, PendingEvents]] = field(default_factory=list)
    freed: set[str] = field(default_factory=set)


async def persist(
    db: Connection, adapter: ProviderAdapter[PreparedT], transitions: Sequence[Transition], now: datetime
) -> Persisted:
    """Write the transitions whose rows are unchanged since they were read, with their effects.

    A late acceptance, whose claim is lost, leaves its provider ids as evidence. Pending events belong to rows that were
    written, and are stored in them until they are published. Call inside a transaction; publish ``pending`` afterwards.
    """
    written = await sends.write(db, [(one.before, one.after) for one in transitions])
    persisted = Persisted(
        done=[one for one in transitions if one.before.key in written],
        lost=[one for one in transitions if one.before.key not in written],
    )
    claims = {one.before.claim_id for one in persisted.done if one.before.state == "claimed"}
    await claim_queries.close_claims(db, [claim_id for claim_id in claims if claim_id is not None])
    persisted.settled = _settled(persisted.done)
    if persisted.settled:
        events = await adapter.apply_effects(db, persisted.settled, now)
        rows = {settled.row.key: settled.row for settled in persisted.settled}
        persisted.pending = [(rows[key], some) for key, some in events.items() if some]
        await sends.keep_pending_events(
            db, [(row.key, _stored(some)) for row, some in persisted.pending], now + PUBLISH_LEASE
        )
    moved = {(s.after.org_id, written[s.after.key]) for s in persisted.done if _unblocks(s)}
    persisted.freed = {
        account
        for channel, account in await conversation_order.release_blocked(db, moved)
        if channel == adapter.transport.channel
    }
    late = [late for late in _settled(persisted.lost) if isinstance(late.final, tuple)]
    if late:
        await adapter.keep_evidence(db, late, now)
    await refusals.keep(db, [refusal for _row, some in persisted.pending for refusal in some.refusals], now)
    return persisted


def _unblocks(step: Transition) -> bool:
    """Whether the row stops blocking younger ones, or blocks them only for a time from now on."""
    return step.final is not None or (
        step.before.blocks_order_until is None and step.after.blocks_order_until is not None
    )


def _settled(steps: Iterable[Transition]) -> list[Settled]:
    return [Settled(step.after, step.final) for step in steps if step.final is not None]


def _stored(events: PendingEvents) -> dict[str, Any]:
    """What the row stores for the sweeper: refusals, and the messages whose newest status is published."""
    return {
        "refusals": [refusal.model_dump(mode="json") for refusal in events.refusals],
        "message_ids": [str(message_id) for message_id in sorted(events.message_ids)],
    }
