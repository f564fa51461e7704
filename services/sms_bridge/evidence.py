"""What the provider's list says of sends whose answer was lost. Pure.

| in the list since the call, between its numbers, of no other send of ours | so the call |
| --- | --- |
| its very text, taken | was accepted, under that id |
| its very text, refused at its creation, and no earlier call's refusal | was refused: this is the answer that got lost |
| any other record: text masked, changed, empty or somebody else's; no id; a number masked that may be the call's | unclear |
| its very text, but plain, while another call between the numbers is under way, whose text may be the same | unclear |
| nothing, but the list was not read to its end, or not with masked numbers | unclear |
| nothing, and since the call or the end of the list's last outage the grace is not over | unclear |
| nothing, otherwise | absent |

Rule 1: only the very text is proof. Twilio can mask texts and numbers, write its own words before them, write
        characters otherwise and shorten links, and other programs may send between the same two numbers. None of that
        shows that our SMS was not taken.
Rule 2: a bridge's text is its own alone, by the code of its link: under a key that is still known, its digest says of
        which call it is. A key that was taken away takes no evidence along: the words around the code are known.
Rule 3: a record is the evidence of one send; one that was taken goes before one that was refused.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from libs.common.sending.outcomes import Absent, Accepted, Denied, Evidence, Found, Unclear
from libs.common.sending.pauses import Key
from services.sms_bridge.providers import ListedSms
from services.sms_bridge.shown import may_show_number, shows_number

SKEW = timedelta(seconds=60)
"""How far the provider's clock may be behind ours."""


@dataclass(frozen=True, slots=True)
class LostSend:
    """A send whose answer was lost.

    ``since``: records of its calls are not older. ``called_at``: its last call. ``before``: how many calls it had
    before that one, whose refusals may have records as well.
    """

    key: Key
    sender: str
    to: str
    since: datetime
    called_at: datetime
    is_text: Callable[[str], bool]
    """Whether it is the very text of the last call, by its digest."""
    has_words: Callable[[str], bool]
    """Whether it says the same but for the code of a link."""
    unique: bool
    """Whether no other call can have that digest."""
    before: int = 0


@dataclass(frozen=True, slots=True)
class AbsenceRule:
    """What a list proves that shows nothing: something once the ``grace`` is over, since the call and ``settled_at``, when an outage has settled."""

    now: datetime
    grace: timedelta
    settled_at: datetime | None = None

    def proves(self, lost: LostSend) -> bool:
        begun = lost.called_at if self.settled_at is None else max(lost.called_at, self.settled_at)
        return self.now - begun >= self.grace


@dataclass(frozen=True, slots=True)
class Resolution:
    """What is known of a send, and by which record."""

    evidence: Evidence
    record: ListedSms | None = None


def resolve(
    sends: Sequence[LostSend],
    listed: Iterable[ListedSms],
    taken: Iterable[str],
    silence: AbsenceRule,
    *,
    account: str,
    in_flight: bool = False,
) -> dict[Key, Resolution]:
    """What the list says of each send, oldest call first. ``taken`` are ids of other sends; ``account`` scopes the ids.

    ``in_flight``: a call between these numbers is under way, so a record may be of that one; only a text that is one
    call's alone is proof then.
    """
    known = set(taken)
    left = [
        record for record in reversed(list(listed)) if record.provider_id is None or record.provider_id not in known
    ]
    seen: dict[Key, Resolution] = {}
    ordered = sorted(sends, key=lambda lost: (lost.called_at, lost.key))
    for fits in (_is_of_one_call,) if in_flight else (_is_of_call, _is_of_send):
        for lost in ordered:
            if lost.key not in seen and (record := _taken(lost, left, fits)) is not None:
                left.remove(record)
                seen[lost.key] = Resolution(Found((Accepted(account, str(record.provider_id)),)), record)
    for lost in ordered:
        if in_flight and not lost.unique:
            continue
        if lost.key not in seen and (record := _refused(lost, left)) is not None and record.refusal is not None:
            left.remove(record)
            seen[lost.key] = Resolution(Denied(record.refusal), record)
    for lost in ordered:
        if lost.key not in seen:
            clear = not in_flight and silence.proves(lost) and not any(_may_be_of(record, lost) for record in left)
            seen[lost.key] = Resolution(Absent() if clear else Unclear())
    return seen


def _taken(lost: LostSend, left: Sequence[ListedSms], fits: Callable[[ListedSms, LostSend], bool]) -> ListedSms | None:
    return next((r for r in left if r.refusal is None and r.provider_id is not None and fits(r, lost)), None)


def _refused(lost: LostSend, left: Sequence[ListedSms]) -> ListedSms | None:
    """The record of the last call's refusal: by a digest that is its own alone, else one more than there were calls before it.

    In the second case nothing else may be of the call: another program, or an earlier send of ours, may have been
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
