"""Rows and pauses of senders for unit tests, valid by default."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from libs.common.sending.outcomes import (
    Allowed,
    BackoffPolicy,
    Timings,
)
from libs.common.sending.rows import (
    Pause,
    PauseKey,
    PauseKind,
    PauseProof,
    SendRow,
    State,
)
from libs.common.sending.transitions import (
    claim,
    unknown,
)

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
TIMINGS = Timings(timeout=10 * SECOND, lease=20 * SECOND, grace=30 * SECOND)
CURVE = BackoffPolicy(SECOND, 2, 60 * SECOND)
CLAIM = UUID(int=7)


def a_row(
    number: int = 1,
    *,
    state: State = "pending",
    account: str = "106",
    template: bool = False,
    expires_in: timedelta = timedelta(hours=24),
) -> SendRow:
    found = SendRow(
        org_id="acme",
        message_id=UUID(int=number),
        attempt=1,
        conversation_id=UUID(int=number),
        account=account,
        command={"route": "template" if template else "session"},
        state="pending",
        due_at=NOW,
        expires_at=NOW + expires_in,
        created_at=NOW,
    )
    if state == "pending":
        return found
    claimed = claim(found, Allowed(None), CLAIM, NOW, provider="meta", timings=TIMINGS)
    return claimed if state == "claimed" else unknown(claimed, "timeout", NOW, TIMINGS)


ALL: PauseKey = ("106", "all")
OF_TEMPLATES: PauseKey = ("106", "templates")
BUDGETS = {"106": 50, "107": 50}


def a_pause(
    until: datetime = NOW,
    tries: int = 1,
    reason: str = "130429",
    kind: PauseKind = "throttle",
    proof: PauseProof = "answer",
) -> Pause:
    return Pause("106", "all", until, tries, reason, kind, proof, NOW)


def no_jitter() -> float:
    return 0.0
