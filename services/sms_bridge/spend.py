"""What an SMS takes of its organisation's day, asked once more in the claim, and given back where it is not bought.

Rule 1: the router counted the SMS on the day of its decision. While it is claimed on that day, that count holds.
Rule 2: an SMS that is claimed on a later day is counted on that day alone, or does not go. Only a resend stays counted
        on the day of its first call as well, because that call may have been bought.
Rule 3: where the policy has been lowered meanwhile, so many SMS end that the day is within it again.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date, datetime

from libs.common.db.pool import Connection
from libs.common.ids import SendKey
from libs.common.sending import sms_caps
from libs.common.sending.outcomes import Refused, Rerouted
from libs.common.sending.rows import SendRow, Settled
from libs.common.sending.sms_caps import Unsent
from libs.common.sms_policy import Taken
from libs.common.sms_reach import day_reached
from libs.common.thread.failure_reasons import failure_reason
from libs.common.thread.message_status import UNKNOWN_OUTCOME
from services.sms_bridge.command import command_of, is_bridge
from services.sms_bridge.gate import GateFacts


async def beyond_the_day(
    db: Connection, going: Sequence[tuple[SendRow, GateFacts]], now: datetime
) -> dict[SendKey, Refused]:
    """Those of the SMS that pass the gate for which the organisation's day has no room. The others are counted."""
    today = now.date()
    late = [row for row, _ in going if counted_on(row) != today]
    spent = Counter({row.org_id: facts.spent for row, facts in going})
    if late:
        former = {(one.day, one.org_id) for row in late if (one := _moved_from(row)) is not None}
        locked = await sms_caps.lock_days(db, former | {(today, row.org_id) for row in late})
        spent |= Counter({org_id: segments for (day, org_id), segments in locked.items() if day == today})
    refused: dict[SendKey, Refused] = {}
    taken: list[Taken] = []
    given: list[Taken] = []
    for row, facts in going:
        moves, segments = counted_on(row) != today, _segments(row)
        others = spent[row.org_id] - (0 if moves else segments)
        if (cap := day_reached(others, segments, facts.daily_segments)) is not None:
            refused[row.key] = Refused(None, failure_reason("spend_cap_reached", facts.closed_by(now)), cap)
            spent[row.org_id] = others
        elif moves:
            taken.append(_taken(row, today))
            if (one := _moved_from(row)) is not None:
                given.append(one)
            spent[row.org_id] += segments
    await sms_caps.add(db, taken)
    await sms_caps.give_back(db, given)
    return refused


def _moved_from(row: SendRow) -> Taken | None:
    """What the SMS gives back of the day on which it is counted, where it goes on a later one."""
    day = counted_on(row)
    return None if day is None or row.resends else _taken(row, day)


def not_bought(settled: Sequence[Settled]) -> list[Taken]:
    """What the sends that ended without an acceptance give back. One of unknown outcome may have been bought. Pure."""
    return [_taken(row, day) for row in _unbought(settled) if (day := counted_on(row)) is not None]


def unsent_answers(settled: Sequence[Settled]) -> list[Unsent]:
    """The answers of which no SMS was bought. A bridge is no answer. Pure."""
    return [
        Unsent(row.org_id, row.conversation_id, row.message_id, row.attempt)
        for row in _unbought(settled)
        if not is_bridge(row)
    ]


def _unbought(settled: Sequence[Settled]) -> Iterator[SendRow]:
    for one in settled:
        match one.final:
            case Refused(_, reason) if reason == UNKNOWN_OUTCOME:
                continue
            case Rerouted() | Refused():
                yield one.row
            case _:
                continue


def counted_on(row: SendRow) -> date | None:
    """The day on which the SMS is counted: that of its latest claim, else that of its decision. Pure."""
    if row.claimed_at is not None:
        return row.claimed_at.date()
    command = command_of(row)
    return None if command is None else command.day


def _taken(row: SendRow, day: date) -> Taken:
    return Taken(row.org_id, day, _segments(row), 1 if is_bridge(row) else 0)


def _segments(row: SendRow) -> int:
    command = command_of(row)
    return 1 if command is None else command.segments
