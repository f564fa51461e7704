"""A provider that answers nothing any more: its account rests, before every message that is due has spent a call on it. Pure.

Each call into an outage leaves a send of unknown outcome, and a send has two calls. So after ``RUN`` such calls in a row the account rests
for all; then one call at a time tries it out, ever more rarely, until one is answered. What waits was never sent and loses nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta

from libs.common.send_rows import UNANSWERED, Pause, PauseKey
from libs.common.sending.outcomes import Accepted, Curve, PreparedT, RetryLater, SendOutcome, Unknown
from libs.common.sending.rows import Claim

RUN = 5
"""So many calls of one account without an answer, none accepted in between, and it rests."""
SILENT = RetryLater("account", Curve(timedelta(seconds=15), 2, timedelta(minutes=2)), UNANSWERED)
"""The wait of an account that answers nothing. It does not grow far: as long again passes until the end of an outage is noticed."""
LAST_CALL_LOST = replace(SILENT, curve=replace(SILENT.curve, cap=timedelta(minutes=15)))
"""The same when the try was a message's last call, because no other message waits: such a try may cost the message."""
_OUR_FAULT = "fault"
_NEVER_LEFT = "never_left"


@dataclass(slots=True)
class Runs:
    """Calls in a row without an answer, as this process sees them; that an account rests is known to all."""

    _runs: dict[str, int] = field(default_factory=dict)

    def heard(self, account: str, outcome: SendOutcome) -> bool:
        """A call ended so. Returns whether the account must rest now; the count then begins anew, the rest is ended by an answer."""
        if isinstance(outcome, Accepted):
            self._runs.pop(account, None)
        if not is_silence(outcome):
            return False
        self._runs[account] = self._runs.get(account, 0) + 1
        if self._runs[account] < RUN:
            return False
        del self._runs[account]
        return True


def is_silence(outcome: SendOutcome) -> bool:
    """Whether the call left and nothing certain came back. A bug of ours says nothing about the provider."""
    return isinstance(outcome, Unknown) and outcome.code != _OUR_FAULT


def cause(
    claim: Claim[PreparedT], outcome: SendOutcome, standing: Mapping[PauseKey, Pause], *, opens: bool
) -> RetryLater | None:
    """For what an account must rest after this answer, if at all: the answer itself, or silence (a run of it, or that of a probe)."""
    key: PauseKey = (claim.row.account, "all")
    pause = standing.get(key)
    rests = pause is not None and pause.kind == "silence"
    if isinstance(outcome, RetryLater):
        return SILENT if rests and outcome.code == _NEVER_LEFT else outcome
    if rests and key in claim.probes and is_silence(outcome):
        return LAST_CALL_LOST if claim.row.resends else SILENT
    return SILENT if opens else None
