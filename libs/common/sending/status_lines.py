"""The log lines and counts of statuses that were applied. They are written after the commit."""

from collections import Counter
from collections.abc import Iterable

from libs.common import metrics
from libs.common.logging import get_logger
from libs.common.sending.rows import StatusLine

log = get_logger()


def log_statuses(told: Iterable[StatusLine]) -> None:
    """One line for each. Those that are new are counted."""
    counts: Counter[tuple[str, str]] = Counter()
    for org_id, conversation_id, message_id, channel, status, reason, provider_code, outcome, route in told:
        if outcome == "moved":
            counts[channel or "none", status] += 1
        log.info(
            "status.applied",
            org_id=org_id,
            conversation_id=None if conversation_id is None else str(conversation_id),
            message_id=str(message_id),
            channel=channel,
            status=status,
            reason=reason,
            provider_code=provider_code,
            outcome=outcome,
            **({} if route is None else {"route": route}),
        )
    for (on, word), count in counts.items():
        metrics.STATUSES.labels(channel=on, status=word).inc(count)
