"""One log line and one count per step of a send: ids and codes, nothing private."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, get_args

from libs.common import metrics
from libs.common.events.outbound import Channel, Route
from libs.common.logging import get_logger
from libs.common.sending.outcomes import Refused, Rerouted
from libs.common.sending.rows import Transition

log = get_logger()


def log_steps(channel: Channel, steps: Iterable[Transition], now: datetime) -> None:
    """Log what steps made of their rows. A claim is silent: its answer follows."""
    for step in steps:
        row = step.after
        fields: dict[str, Any] = {
            "org_id": row.org_id,
            "conversation_id": str(row.conversation_id),
            "message_id": str(row.message_id),
            "attempt": row.attempt,
            "channel": channel,
        }
        if (route := row.command.get("route")) in get_args(Route):  # another release's word is none that may be logged
            fields["route"] = route
        if step.before.state == "claimed" and row.claimed_at is not None:
            fields["duration_ms"] = round((now - row.claimed_at).total_seconds() * 1000, 1)
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
        metrics.SENDS.labels(channel=channel, outcome=row.state if row.state != "pending" else "deferred").inc()
