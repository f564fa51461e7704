"""What the provider's list proves about sends whose answer was lost. Pure.

| in the list since the call, between its numbers, of no other send of ours | so the call |
| --- | --- |
| its very text, taken | was accepted, under that id |
| its very text, refused at its creation, and not the refusal of an earlier call | was refused with the lost answer |
| any other record: text masked, changed, empty or another; no id; a masked number that may be the call's | is unclear |
| its very text, not a bridge's, while another call between the numbers is in flight | is unclear |
| nothing, but the list was not read to its end, or not with masked numbers | is unclear |
| nothing, but the grace since the call, or since the list's latest outage, is not over | is unclear |
| nothing, otherwise | was not accepted |

Rule 1: only the very text is proof. Twilio can mask texts and numbers, write its own words before them, write
        characters otherwise and shorten links, and other programs may send between the same two numbers. None of that
        shows that our SMS was not taken.
Rule 2: the text of a bridge is unique, because of the code of its link. The fingerprint says of which call it is, as
        long as its key is known. Without the key the words around the code are compared.
Rule 3: a record is the evidence of one send. A record that was taken is matched before one that was refused.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from libs.common.ids import SendKey
from libs.common.sending.outcomes import Accepted, Confirmed, Denied, Evidence, Inconclusive, NotSent
from services.sms_bridge.providers import ListedSms, may_show_number, shows_number

SKEW = timedelta(seconds=60)
"""How far the provider's clock may be behind ours."""


@dataclass(frozen=True, slots=True)
class LostSend:
    """A send whose answer was lost.

    ``since``: no record of its calls is older. ``called_at``: its latest call. ``before``: the number of calls before
    that one, whose refusals may have records as well.
    """

    key: SendKey
    sender: str
    to: str
    since: datetime
    called_at: datetime
    is_text: Callable[[str], bool]
    """Whether this is the very text of the latest call, by its fingerprint."""
    has_words: Callable[[str], bool]
    """Whether this text differs at most by the code of a link."""
    unique: bool
    """Whether no other call can have this fingerprint."""
    before: int = 0


@dataclass(frozen=True, slots=True)
class AbsenceRule:
    """When an empty list proves something: ``grace`` after the call, and after ``settled_at``, the end of an outage."""

    now: datetime
    grace: timedelta
    settled_at: datetime | None = None

    def proves(self, lost: LostSend) -> bool:
        begun = lost.called_at if self.settled_at is None else max(lost.called_at, self.settled_at)
        return self.now - begun >= self.grace


@dataclass(frozen=True, slots=True)
class Resolution:
    """What is known of a send, and the record that shows it."""

    evidence: Evidence
    record: ListedSms | None = None


def resolve(
    sends: Sequence[LostSend],
    listed: Iterable[ListedSms],
    taken: Iterable[str],
    absence: AbsenceRule,
    *,
    account: str,
    in_flight: bool = False,
) -> dict[SendKey, Resolution]:
    """What the list proves about each send, oldest call first.

    ``taken`` are ids of other sends; ``account`` scopes the ids. ``in_flight``: another call between these numbers is
    in flight and a record may be of that one. Then only a unique text is proof.
    """
    known = set(taken)
    left = [
        record for record in reversed(list(listed)) if record.provider_id is None or record.provider_id not in known
    ]
    found: dict[SendKey, Resolution] = {}
    ordered = sorted(sends, key=lambda lost: (lost.called_at, lost.key))
    for fits in (_is_of_one_call,) if in_flight else (_is_of_call, _is_of_send):
        for lost in ordered:
            if lost.key not in found and (record := _taken(lost, left, fits)) is not None:
                left.remove(record)
                found[lost.key] = Resolution(Confirmed((Accepted(account, str(record.provider_id)),)), record)
    for lost in ordered:
        if in_flight and not lost.unique:
            continue
        if lost.key not in found and (record := _refused(lost, left)) is not None and record.refusal is not None:
            left.remove(record)
            found[lost.key] = Resolution(Denied(record.refusal), record)
    for lost in ordered:
        if lost.key not in found:
            clear = not in_flight and absence.proves(lost) and not any(_may_be_of(record, lost) for record in left)
            found[lost.key] = Resolution(NotSent() if clear else Inconclusive())
    return found


def _taken(lost: LostSend, left: Sequence[ListedSms], fits: Callable[[ListedSms, LostSend], bool]) -> ListedSms | None:
    return next((r for r in left if r.refusal is None and r.provider_id is not None and fits(r, lost)), None)


def _refused(lost: LostSend, left: Sequence[ListedSms]) -> ListedSms | None:
    """The record of the latest call's refusal: the one with a unique text, else one more than there were calls before.

    In the second case no other record may be of the call: another program, or an earlier send of ours, may have been
    refused with the same words.
    """
    if lost.unique:
        own = next((r for r in left if r.refusal is not None and _is_of_call(r, lost)), None)
        if own is not None:
            return own
    refused = [r for r in left if r.refusal is not None and _is_of_send(r, lost)]
    if len(refused) <= lost.before or any(r.refusal is None and _may_be_of(r, lost) for r in left):
        return None
    return refused[-1]


def _is_of_one_call(record: ListedSms, lost: LostSend) -> bool:
    return lost.unique and _is_of_call(record, lost)


def _is_of_call(record: ListedSms, lost: LostSend) -> bool:
    if record.text is None or not _may_be_of(record, lost):
        return False
    return lost.is_text(record.text) and (lost.unique or _shows_numbers(record, lost))


def _is_of_send(record: ListedSms, lost: LostSend) -> bool:
    if record.text is None or not _may_be_of(record, lost) or not _shows_numbers(record, lost):
        return False
    return lost.is_text(record.text) or lost.has_words(record.text)


def _may_be_of(record: ListedSms, lost: LostSend) -> bool:
    return (
        record.created_at >= lost.since - SKEW
        and may_show_number(record.sender, lost.sender)
        and may_show_number(record.to, lost.to)
    )


def _shows_numbers(record: ListedSms, lost: LostSend) -> bool:
    return shows_number(record.sender, lost.sender) and shows_number(record.to, lost.to)
