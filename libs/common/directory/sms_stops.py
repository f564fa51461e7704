"""STOP and START by SMS, as they are stored.

Rule 1: a STOP holds for the line that it came from: as a withdrawn consent of the customer, and as a mark on the line.
        The mark also covers another customer of the organisation who has the same phone.
Rule 2: START lifts what a STOP from the same line had withdrawn, typed or told by the provider (21610). It lifts no
        opt-out of the platform, and nothing that was said in WhatsApp.
Rule 3: of a STOP and a START of the same second the STOP counts.
Rule 4: whoever stores a word is alone with its line (``SMS_STOPS``) from before the message is stored to the commit.
        Whoever claims an SMS to the line shares it, and reads the facts afterwards. So a claim is committed before the
        STOP, or sees it.
Rule 5: a STOP that is heard after a later START of its line changes nothing. A START is only kept where it lifts a
        STOP, so it is looked for among the newest messages.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from libs.common.db.columns import as_columns
from libs.common.db.locks import SMS_STOPS, lock, share, stop_name
from libs.common.db.pool import Connection
from libs.common.directory.address_marks import addresses_of, mark
from libs.common.directory.consents import KEYWORD, SaidConsent, store_said
from libs.common.directory.reports import Mark
from libs.common.phone import canonical

_LASTS = timedelta(days=3650)
"""A STOP does not expire. A mark needs an end."""


class SmsWordSaid(NamedTuple):
    """A customer wrote STOP, or START (``allowed``), from the number ``sender`` (E.164)."""

    org_id: str
    customer_id: UUID
    sender: str
    allowed: bool
    at: datetime


async def lock_lines(db: Connection, senders: Iterable[tuple[str, str]]) -> None:
    """Be alone with these lines (organisation, E.164). Call first in the transaction that stores the messages."""
    await lock(db, SMS_STOPS, {stop_name(org_id, canonical(sender)) for org_id, sender in senders})


async def share_lines(db: Connection, numbers: Iterable[tuple[str, str]]) -> None:
    """No word from these lines (organisation, E.164) is stored until the transaction ends. Then read the facts."""
    await share(db, SMS_STOPS, {stop_name(org_id, canonical(number)) for org_id, number in numbers})


_STOPPED = """
select m.org_id, m.address from unnest($1::text[], $2::text[]) as u (org_id, address)
  join address_marks m on m.org_id = u.org_id and m.channel = 'sms' and m.address = u.address
   and m.reason = 'sms_opted_out'
"""


async def stopped_lines(db: Connection, lines: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
    """Those of these lines (organisation, canonical number) whose STOP stands."""
    return {(row[0], row[1]) for row in await db.fetch(_STOPPED, *as_columns(sorted(lines)))}


_UNMARK = """
delete from address_marks m
 using unnest($1::text[], $2::text[], $3::timestamptz[]) as u (org_id, address, at)
 where m.org_id = u.org_id and m.channel = 'sms' and m.address = u.address and m.reason = 'sms_opted_out'
   and m.at < u.at
"""


# Messages of a thread are numbered in the order in which they were heard.
_OVERTAKEN = """
select u.n
  from unnest($1::text[], $2::uuid[], $3::text[], $4::timestamptz[]) with ordinality
    as u (org_id, customer_id, spellings, at, n)
 where exists (select from conversations c
                cross join lateral (select m.* from messages m where m.conversation_id = c.conversation_id
                                     order by m.sequence desc limit 200) m
                where c.org_id = u.org_id and c.customer_id = u.customer_id
                  and m.org_id = u.org_id and m.direction = 'in' and m.channel = 'sms' and m.occurred_at > u.at
                  and m.content ->> 'keyword' = 'start'
                  and '+' || m.from_wa_id = any (string_to_array(u.spellings, ' ')))
"""


async def _not_overtaken(db: Connection, words: Sequence[SmsWordSaid]) -> Sequence[SmsWordSaid]:
    """These words without each STOP whose line has said START since, before this batch."""
    lifted = {(one.org_id, canonical(one.sender)) for one in words if one.allowed}
    stops = [one for one in words if not one.allowed and (one.org_id, canonical(one.sender)) not in lifted]
    if not stops:
        return words
    asked = [(one.org_id, one.customer_id, " ".join(addresses_of(one.sender)), one.at) for one in stops]
    overtaken = {id(stops[row["n"] - 1]) for row in await db.fetch(_OVERTAKEN, *as_columns(asked))}
    return [one for one in words if id(one) not in overtaken]


async def store_words(db: Connection, words: Sequence[SmsWordSaid]) -> None:
    """Store what was asked for. Call in the transaction that stores the messages, after them, with each once."""
    words = await _not_overtaken(db, words)
    if not words:
        return
    await store_said(
        db,
        [
            SaidConsent(
                *(one.org_id, one.customer_id, "sms", one.allowed, one.at, "sms", KEYWORD),
                address=canonical(one.sender),
            )
            for one in words
        ],
    )
    newest: dict[tuple[str, str], SmsWordSaid] = {}
    for one in sorted(words, key=lambda w: (w.at, not w.allowed)):
        newest[one.org_id, canonical(one.sender)] = one
    stops = [one for one in newest.values() if not one.allowed]
    starts = [
        (one.org_id, address, one.at) for one in newest.values() if one.allowed for address in addresses_of(one.sender)
    ]
    if starts:
        await db.execute(_UNMARK, *as_columns(sorted(starts)))
    await mark(
        db,
        [
            Mark(one.org_id, "sms", one.sender, "sms_opted_out", None, "message", one.at, one.at + _LASTS)
            for one in stops
        ],
    )
