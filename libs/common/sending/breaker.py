"""Whether a provider is silent, and which calls wait because of that. Pure.

A provider's own error is an answer, unless it leaves the outcome open: then it may be an outage. Meta's for a template
is an answer all the same, because it comes for one template again and again. An error page of a proxy on the way to the
provider is none. One such error may concern its message alone, several in a row for different messages do not.

A call without an answer leaves a send of unknown outcome, and a send has two calls. So silence stops three things:

1. After ``UNRESPONSIVE_AFTER`` calls of one account in a row the account is paused for all replicas. Then one call at a
   time probes it, after growing waits, until one is answered. The waiting rows were never sent and lose nothing.
2. Before a probe, and before a message's last call to an account whose latest call was not answered, the provider is
   asked a question that can send nothing. Without an answer to that the call is not made, and the account is paused.
3. After as many calls in a row of any accounts, of which none has a known outcome, this process releases second calls
   one a minute, until a call has one. Here such an error for a template counts too, because the second call is the
   last.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from libs.common.sending.outcomes import (
    UNANSWERED,
    UNANSWERED_READ,
    Accepted,
    BackoffPolicy,
    PreparedT,
    RetryLater,
    SendOutcome,
    Unknown,
)
from libs.common.sending.rows import Claim, Pause, PauseKey, SendRow, UnansweredCall

UNRESPONSIVE_AFTER = 5
"""So many calls in a row without an answer, and the account, or the provider, counts as silent."""
PROBE_EVERY = timedelta(minutes=1)
UNRESPONSIVE = RetryLater("account", BackoffPolicy(timedelta(seconds=15), 2, timedelta(minutes=2)), UNANSWERED)
"""The wait of an account that answers nothing.

It stays short, because the end of an outage is noticed only after the wait.
"""
OPENING = replace(UNRESPONSIVE, policy=replace(UNRESPONSIVE.policy, base=timedelta(seconds=4)))
"""The wait before the first probe: it may be the messages of some recipients alone that get no answer."""
LAST_CALL_LOST = replace(UNRESPONSIVE, policy=replace(UNRESPONSIVE.policy, cap=timedelta(minutes=15)))
"""The wait where the probe was a message's last call: such a probe may cost the message."""
NO_READ = replace(UNRESPONSIVE, code=UNANSWERED_READ, called=False)
"""The question before a call was not answered, so the call was not made, and the account rests."""
_UNASKED, _UNASKED_EVERY = 4, 12
"""The fourth probe of a rest asks nothing, nor does every twelfth after it.

Something on the way may answer no read for ever, and take messages. So within half an hour a message tries it out. It
is one that was not called before, or one that its deadline would end soon.
"""
_SOON = timedelta(minutes=30)
_OUR_FAULT = "fault"
_NEVER_LEFT = "never_left"


def runs_after(
    ended: Sequence[tuple[SendRow, SendOutcome]],
) -> tuple[dict[str, set[UnansweredCall]], set[str]]:
    """What calls that ended in this order make of runs: what is added to each, and which were over before that."""
    added: dict[str, set[UnansweredCall]] = {}
    over = set()
    for row, outcome in ended:
        if isinstance(outcome, Accepted):
            added.pop(row.paused_as, None)
            over.add(row.paused_as)
        elif is_silence(outcome):
            added.setdefault(row.paused_as, set()).add(UnansweredCall(row.paused_as, *row.key, row.resends))
    return added, over


@dataclass(slots=True)
class ResendLimit:
    """How many second calls may go now.

    At the start of a process it is not known whether the provider answers: one call shows it.
    """

    unanswered: int = UNRESPONSIVE_AFTER
    probed_at: datetime | None = None

    def add(self, outcome: SendOutcome) -> None:
        """A call ended with this outcome. A call that never left says nothing."""
        if isinstance(outcome, Unknown) or is_silence(outcome):
            self.unanswered += 1
        elif not (isinstance(outcome, RetryLater) and outcome.code == _NEVER_LEFT):
            self.unanswered = 0

    def allowed(self, wanted: int, now: datetime) -> int:
        """How many of the wanted second calls may go now: one a minute while the provider is silent."""
        if self.unanswered < UNRESPONSIVE_AFTER or wanted == 0:
            return wanted
        return 1 if self.probed_at is None or now - self.probed_at >= PROBE_EVERY else 0

    def released(self, number: int, now: datetime) -> None:
        if number:
            self.probed_at = now


def is_silence(outcome: SendOutcome) -> bool:
    """Whether the call left and the provider itself said nothing. A bug of ours says nothing about it."""
    match outcome:
        case Unknown(code, answered):
            return not answered and code != _OUR_FAULT
        case RetryLater(answered=answered):
            return not answered
        case _:
            return False


def asks_first(
    claim: Claim[PreparedT], ours: Mapping[PauseKey, Pause], unanswered: Collection[str], now: datetime
) -> bool:
    """Whether the provider is asked a question before this call, because the call may be lost.

    ``ours``: the pauses that this process alone probes. ``unanswered``: the accounts with a run. An account that people
    must mend is asked only where it has one: as long as it answers, its probes use up nothing.
    """
    row = claim.row
    pause = ours.get((row.paused_as, "all"))
    silent = pause is not None and pause.kind == "silence"
    if not silent and not (row.paused_as in unanswered and (claim.last or claim.probes & ours.keys())):
        return False
    may_be_lost = not row.resends or now >= row.expires_at - _SOON
    return pause is None or pause.tries % _UNASKED_EVERY != _UNASKED or not may_be_lost


def pause_reason(
    claim: Claim[PreparedT], outcome: SendOutcome, standing: Mapping[PauseKey, Pause], *, opens: bool
) -> RetryLater | None:
    """Why the account must be paused after this answer: the answer itself, or silence. None: it must not."""
    key: PauseKey = (claim.row.paused_as, "all")
    pause = standing.get(key)
    rests = pause is not None and pause.kind != "throttle"
    if isinstance(outcome, RetryLater) and outcome.answered:
        return UNRESPONSIVE if rests and outcome.code == _NEVER_LEFT else outcome
    if rests and key in claim.probes and is_silence(outcome):
        return LAST_CALL_LOST if claim.last and isinstance(outcome, Unknown) else UNRESPONSIVE
    return OPENING if opens else None
