"""What an SMS takes of its organisation's day, asked once more in the claim, and given back where it is not bought.

Rule 1: the router counted the SMS on the day of its decision. While it is claimed on that day, that count holds.
Rule 2: an SMS that is claimed on a later day is counted on that day, or does not go.
Rule 3: where the policy has been lowered meanwhile, so many SMS end that the day is within it again.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import date, datetime

from libs.common.db.pool import Connection
from libs.common.ids import SendKey
from libs.common.sending import sms_caps
from libs.common.sending.outcomes import Refused, Rerouted
from libs.common.sending.rows import SendRow, Settled
from libs.common.sms_policy import Taken
from libs.common.thread.failure_reasons import failure_reason
from libs.common.thread.message_status import UNKNOWN_OUTCOME
from services.sms_bridge.command import command_of
from services.sms_bridge.gate import GateFacts


async def beyond_the_day(
    db: Connection, going: Sequence[tuple[SendRow, GateFacts]], now: datetime
) -> dict[SendKey, Refused]:
    """Those of the SMS that pass the gate for which the organisation's day has no room. The others are counted."""
    today = now.date()
    late = [row for row, _ in going if counted_on(row) != today]
    spent = Counter({row.org_id: facts.spent for row, facts in going})
    if late:
        spent.update(dict.fromkeys(spent, 0))
        spent |= Counter(await sms_caps.lock_days(db, {row.org_id for row in late}, today))
    refused: dict[SendKey, Refused] = {}
    taken: list[Taken] = []
    for row, facts in going:
        moves, segments = counted_on(row) != today, _segments(row)
        if spent[row.org_id] + (segments if moves else 0) > facts.daily_segments:
            refused[row.key] = Refused(None, failure_reason("spend_cap_reached", facts.closed_by(now)))
            spent[row.org_id] -= 0 if moves else segments
        elif moves:
            taken.append(Taken(row.org_id, today, segments))
            spent[row.org_id] += segments
    await sms_caps.add(db, taken)
    return refused


def not_bought(settled: Sequence[Settled]) -> list[Taken]:
    """What the sends that ended without an acceptance give back. One of unknown outcome may have been bought. Pure."""
    return [
        Taken(one.row.org_id, day, _segments(one.row))
        for one in settled
        if isinstance(one.final, Rerouted | Refused)
        and not (isinstance(one.final, Refused) and one.final.reason == UNKNOWN_OUTCOME)
        and (day := counted_on(one.row)) is not None
    ]


def counted_on(row: SendRow) -> date | None:
    """The day on which the SMS is counted: that of its latest claim, else that of its decision. Pure."""
    if row.claimed_at is not None:
        return row.claimed_at.date()
    command = command_of(row)
    return None if command is None else command.day


def _segments(row: SendRow) -> int:
    command = command_of(row)
    return 1 if command is None else command.segments
