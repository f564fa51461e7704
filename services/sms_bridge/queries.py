"""The statements of the SMS bridge. All of them work on many rows of many tenants at once, and each names the tenant of every row."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from libs.common.db.pool import Connection
from libs.common.directory.address_marks import SMS_MARKS
from libs.common.ids import callback_data, callback_without_org
from libs.common.sanitize import sanitize
from libs.common.sending.pauses import Key
from libs.common.sending.rows import SendRow
from libs.common.sms_reach import SmsReach, is_allowed
from libs.common.thread.statuses import ProviderId
from libs.common.window import Window
from services.sms_bridge.gate import GateFacts

# A conversation that was merged into another one is asked for under its old id.
_FACTS = f"""
select u.n, c.last_customer_at, c.refused_at, c.first_refused_at, c.last_refused_at, t.phone, o.sms_active, o.sms_number, m.no_phone_until,
       case when p.consented_at >= m.stopped_at then null else m.stopped_until end as stopped_until,
       p.allowed as sms_allowed, p.address as sms_stopped, p.consented_at is not null as sms_explicit, w.contacted is true as contacted,
       coalesce((select n.allowed from consents n
                  where n.org_id = u.org_id and n.customer_id = k.customer_id and n.category = 'whatsapp'), true) as whatsapp_allowed,
       exists (select from bridge_slots b
                where b.org_id = u.org_id and b.conversation_id = c.conversation_id
                  and b.intent_id <> u.message_id and b.held_until > $4) as slot_taken,
       exists (select from address_marks x
                where x.org_id = u.org_id and x.channel = 'whatsapp' and x.until > $4
                  and x.address = any (array[t.phone, '+' || c.wa_id, c.bsuid])) as unreachable,
       exists (select from messages x
                where x.org_id = u.org_id and x.message_id = u.message_id and x.status in ('delivered', 'read')) as arrived
  from unnest($1::text[], $2::uuid[], $3::uuid[], $5::text[]) with ordinality as u (org_id, conversation_id, message_id, named, n)
  left join conversation_aliases a on a.org_id = u.org_id and a.alias = u.conversation_id
  join conversations c on c.org_id = u.org_id and c.conversation_id = coalesce(a.conversation_id, u.conversation_id)
  join customers k on k.org_id = u.org_id and k.customer_id = c.customer_id
  join orgs o on o.org_id = u.org_id
  cross join lateral ( -- a number that the intent named counts while it is one of the customer's, whichever they have besides
       select case when u.named is null
                     or not exists (select from customer_identities i
                                     where i.org_id = u.org_id and i.kind = 'phone' and i.value = u.named and i.customer_id = k.customer_id)
                   then k.phone else u.named end as phone offset 0
       ) t
  left join lateral ({SMS_MARKS.format(org_id="u.org_id", phone="t.phone")}) m on true
  left join lateral (
       select n.allowed, n.address, case when n.allowed then n.at end as consented_at
         from consents n
        where n.org_id = u.org_id and n.customer_id = k.customer_id and n.category = 'sms' offset 0
       ) p on true
  left join lateral (
       select true as contacted from conversations x
        where x.customer_id = k.customer_id and x.org_id = u.org_id and (x.last_customer_at is not null or x.last_inbound_at is not null)
        limit 1
       ) w on true
"""  # noqa: S608 -- constants

_DROP_LINKS = """
delete from portal_links l
 using unnest($1::text[], $2::bytea[]) as u (org_id, code_hash)
 where l.org_id = u.org_id and l.code_hash = u.code_hash
"""

_KEEP_LINKS = """
insert into portal_links (code_hash, org_id, conversation_id, message_id, expires_at, created_at)
select u.code_hash, u.org_id, coalesce(a.conversation_id, u.conversation_id), u.message_id, $5, $6
  from unnest($1::bytea[], $2::text[], $3::uuid[], $4::uuid[]) as u (code_hash, org_id, conversation_id, message_id)
  left join conversation_aliases a on a.org_id = u.org_id and a.alias = u.conversation_id
"""

_WRITE_BRIDGES = """
insert into messages (org_id, message_id, conversation_id, direction, channel, account, kind, content, ai_generated, notification_type,
                      parent_id, status, attempt, occurred_at, received_at)
select u.org_id, u.message_id, u.conversation_id, 'out', 'sms', u.account, 'text', u.content, false, 'bridge',
       u.parent_id, 'pending', u.attempt, $8, $8
  from unnest($1::text[], $2::uuid[], $3::uuid[], $4::text[], $5::jsonb[], $6::uuid[], $7::int[])
    as u (org_id, message_id, conversation_id, account, content, parent_id, attempt)
on conflict (org_id, message_id) do nothing
"""

# A country's own price wins over the price for anywhere; of several dates the newest that has come; the same currency every time.
_CHARGE = """
insert into charges (org_id, message_id, attempt, conversation_id, channel, category, segments, currency, price, at)
select u.org_id, u.message_id, u.attempt, u.conversation_id, 'sms', 'sms', u.segments, r.currency, r.price * u.segments, $8
  from unnest($1::text[], $2::uuid[], $3::int[], $4::uuid[], $5::int[], $6::text[])
    as u (org_id, message_id, attempt, conversation_id, segments, country)
  left join lateral (
      select currency, price from rate_card
       where channel = 'sms' and category = 'sms' and country in (u.country, '*') and valid_from <= $7
       order by country = '*', valid_from desc, currency
       limit 1) r on true
on conflict (org_id, message_id, attempt) do nothing
"""

_MERGED = """
select a.org_id, a.alias, a.conversation_id
  from unnest($1::text[], $2::uuid[]) as u (org_id, alias)
  join conversation_aliases a on a.org_id = u.org_id and a.alias = u.alias
"""

# An id is known from an answer that came late, or from a status that echoes the send's reference and went between the same numbers, as far as
# they are shown: an account may have customers' numbers masked. (The reference of the release before names no organisation.) "offset 0": each send is
# looked up by its keys, whatever the planner believes of tables that grow.
_IDS_OF_SENDS = """
select u.org_id, u.send_id, u.attempt, p.account, p.provider_id, null as status, null as code
  from unnest($1::text[], $2::uuid[], $3::int[]) as u (org_id, send_id, attempt)
 cross join lateral (
       select p.account, p.provider_id from provider_ids p
        where p.org_id = u.org_id and p.send_id = u.send_id and p.attempt = u.attempt and p.provider = 'sms' offset 0) p
union
select u.org_id, u.send_id, u.attempt, e.account, e.provider_id, e.status, e.code
  from unnest($1::text[], $2::uuid[], $3::int[], $4::text[], $5::text[], $6::text[], $7::text[])
    as u (org_id, send_id, attempt, callback, without_org, sender, recipient)
 cross join lateral (
       select e.* from early_statuses e where e.callback in (u.callback, u.without_org) offset 0) e
 where e.provider = 'sms' and e.account = $8
   and coalesce(e.item ->> 'From', u.sender) = u.sender
   and (coalesce(e.item ->> 'To', u.recipient) = u.recipient or (e.callback = u.callback and e.item ->> 'To' !~ '^[+]?[0-9]+$'))
 order by provider_id
"""

# Asked of the provider's whole account: a message id is looked up to see whether it is anybody's, its owner is not told.
_KNOWN_IDS = """
select provider_id from provider_ids where provider = 'sms' and account = $1 and provider_id = any($2::text[])
"""


_CALLS_IN_FLIGHT = """
select distinct s.account, s.command ->> 'to'
  from sends s
 where s.provider = 'sms' and s.state = 'claimed' and s.account = any($1::text[])
"""

_RECORD_LATEST_LIST_OUTAGE = """
insert into sms_list_outages as o (account, last_at) values ($1, $2)
on conflict (account) do update set last_at = excluded.last_at where o.last_at < excluded.last_at
"""

_LATEST_LIST_OUTAGE = """
select greatest((select last_at from sms_list_outages where account = $1), (select late_at from resend_rounds where provider = 'sms'))
"""


@dataclass(frozen=True, slots=True)
class PortalLink:
    """A magic link as it is stored: the keyed hash of its code, and where it leads."""

    code_hash: bytes
    org_id: str
    conversation_id: UUID
    message_id: UUID


@dataclass(frozen=True, slots=True)
class BridgeMessage:
    """The bridge SMS as a message of its own; ``masked`` is its text without the code, ``account`` the org's own number."""

    org_id: str
    message_id: UUID
    conversation_id: UUID
    account: str
    masked: str
    parent_id: UUID
    attempt: int


@dataclass(frozen=True, slots=True)
class Charge:
    """What an accepted SMS costs: ``segments`` times the price in ``country`` on that day."""

    org_id: str
    message_id: UUID
    attempt: int
    conversation_id: UUID
    segments: int
    country: str


_ADD_UNCONFIRMED = """
insert into unconfirmed_sms (account, provider_id, org_id, message_id, send_id, attempt, accepted_at, due_at)
select u.*, $7::timestamptz, $7::timestamptz + interval '15 minutes'
  from unnest($1::text[], $2::text[], $3::text[], $4::uuid[], $5::uuid[], $6::int[])
    as u (account, provider_id, org_id, message_id, send_id, attempt)
on conflict do nothing
"""

# Asked after a quarter of an hour, an hour, five (no SMS is valid for longer) and a day.
_TAKE_UNCONFIRMED = """
with due as materialized (
    select h.account, h.provider_id from unconfirmed_sms h
     where h.account = $1 and h.due_at <= $2::timestamptz
     order by h.due_at
     limit $3
       for update skip locked
), taken as (
    update unconfirmed_sms h
       set due_at = greatest($2::timestamptz + interval '5 minutes', h.accepted_at + case when $2::timestamptz < h.accepted_at + interval '1 hour' then interval '1 hour'
                    when $2::timestamptz < h.accepted_at + interval '5 hours' then interval '5 hours' else interval '24 hours' end)
      from due d
     where h.account = d.account and h.provider_id = d.provider_id
    returning h.*
)
select t.account, t.provider_id, t.org_id, t.message_id, t.send_id, t.attempt, t.accepted_at,
       exists (select from messages m
                where m.org_id = t.org_id and m.message_id = t.message_id and m.attempt = t.attempt and m.status = 'pending' offset 0)
  from taken t
"""

_REMOVE_UNCONFIRMED = """
delete from unconfirmed_sms h using unnest($1::text[], $2::text[]) as u (account, provider_id)
 where h.account = u.account and h.provider_id = u.provider_id
"""


class Unconfirmed(NamedTuple):
    """An SMS that the provider took at ``accepted_at``; ``pending``: nothing has been heard of it since."""

    account: str
    provider_id: str
    org_id: str
    message_id: UUID
    send_id: UUID
    attempt: int
    accepted_at: datetime
    pending: bool


class KnownId(NamedTuple):
    """An id of a send; ``status`` and ``code`` of a status that came before the id was stored, in our words, else None."""

    account: str
    provider_id: str
    status: str | None
    code: str | None


async def facts_of(
    db: Connection,
    messages: Sequence[tuple[str, UUID, UUID, str | None]],
    window: tuple[timedelta, timedelta],
    now: datetime,
) -> list[GateFacts | None]:
    """What stands of each (org_id, conversation_id, message_id, named) now, in their order; None where there is no such conversation.

    ``named``: the line of the number that the intent itself named.

    ``window``: its length, and how long after a message a refusal by Meta is doubtful.
    """
    facts: list[GateFacts | None] = [None] * len(messages)
    *asked, named = _columns(messages) if messages else ([], [], [], [])
    for row in await db.fetch(_FACTS, *asked, now, named):
        facts[row["n"] - 1] = GateFacts(
            window=Window(
                row["last_customer_at"], *window, row["refused_at"], row["first_refused_at"], row["last_refused_at"]
            ),
            whatsapp_allowed=row["whatsapp_allowed"],
            reach=SmsReach(
                phone=row["phone"],
                no_phone_until=row["no_phone_until"],
                stopped_until=row["stopped_until"],
                allowed=is_allowed(row["phone"], consent=row["sms_allowed"], stopped=row["sms_stopped"]),
                explicit=row["sms_explicit"],
                contacted=row["contacted"],
                number=row["sms_number"],
                active=row["sms_active"],
            ),
            slot_taken=row["slot_taken"],
            unreachable=row["unreachable"],
            arrived=row["arrived"],
        )
    return facts


async def merged(db: Connection, conversations: Collection[tuple[str, UUID]]) -> dict[tuple[str, UUID], UUID]:
    """The conversations among these (org_id, conversation_id) that became part of another one, and of which."""
    return {(row[0], row[1]): row[2] for row in await db.fetch(_MERGED, *_columns(sorted(conversations)))}


async def replace_links(
    db: Connection,
    links: Sequence[PortalLink],
    unsent: Sequence[tuple[str, bytes]],
    *,
    expires_at: datetime,
    now: datetime,
) -> None:
    """Store the links of this claim; ``unsent`` are (org_id, hash) of those whose SMS certainly never left: they lead nowhere."""
    if unsent:
        await db.execute(_DROP_LINKS, *_columns(unsent))
    if links:
        rows = [(link.code_hash, link.org_id, link.conversation_id, link.message_id) for link in links]
        await db.execute(_KEEP_LINKS, *_columns(rows), expires_at, now)


async def write_bridges(db: Connection, bridges: Sequence[BridgeMessage], now: datetime) -> None:
    """Put the bridges into their threads; one that is there already (a resend) stays as it is."""
    if bridges:
        rows = [
            (
                *(b.org_id, b.message_id, b.conversation_id, b.account),
                *(sanitize({"kind": "text", "text": b.masked}), b.parent_id, b.attempt),
            )
            for b in sorted(bridges, key=lambda b: (b.org_id, b.message_id))
        ]
        await db.execute(_WRITE_BRIDGES, *_columns(rows), now)


async def charge(db: Connection, charges: Sequence[Charge], *, day: date, now: datetime) -> None:
    """Record what was bought; without a price where no rate card covers the country and day."""
    if charges:
        rows = [(c.org_id, c.message_id, c.attempt, c.conversation_id, c.segments, c.country) for c in charges]
        await db.execute(_CHARGE, *_columns(rows), day, now)


async def ids_of_sends(db: Connection, account: str, sends: Sequence[SendRow]) -> dict[Key, list[KnownId]]:
    """Every id that these sends are known to have got, with what its early statuses say."""
    found: dict[Key, list[KnownId]] = {}
    if not sends:
        return found
    rows = [
        (
            *s.key,
            callback_data(*s.key),
            callback_without_org(s.message_id, s.attempt),
            s.account,
            str(s.command.get("to") or ""),
        )
        for s in sorted(sends, key=lambda s: s.key)
    ]
    for row in await db.fetch(_IDS_OF_SENDS, *_columns(rows), account):
        found.setdefault((row[0], row[1], row[2]), []).append(KnownId(*row[3:]))
    return found


async def add_unconfirmed(db: Connection, ids: Sequence[ProviderId], now: datetime) -> None:
    """These were accepted now: ask after them when nothing is heard."""
    if ids:
        rows = [(i.account, i.provider_id, i.org_id, i.message_id, i.send_id, i.attempt) for i in ids]
        await db.execute(_ADD_UNCONFIRMED, *_columns(rows), now)


async def take_unconfirmed(db: Connection, account: str, now: datetime, limit: int) -> list[Unconfirmed]:
    """SMS that are due to be asked after; taking them puts off their next time, so that nobody asks twice."""
    return [Unconfirmed(*row) for row in await db.fetch(_TAKE_UNCONFIRMED, account, now, limit)]


async def remove_unconfirmed(db: Connection, ids: Sequence[tuple[str, str]]) -> None:
    """No one needs to ask after these any more."""
    await db.execute(_REMOVE_UNCONFIRMED, *_columns(ids))


async def known_ids(db: Connection, account: str, provider_ids: Collection[str]) -> set[str]:
    """Which of these ids belong to a send of ours already."""
    return {row[0] for row in await db.fetch(_KNOWN_IDS, account, sorted(provider_ids))}


async def calls_in_flight(db: Connection, senders: Collection[str]) -> set[tuple[str, str]]:
    """(sender, recipient) of calls of these senders that are under way now: what they get is nobody's in the list yet."""
    return {(row[0], row[1] or "") for row in await db.fetch(_CALLS_IN_FLIGHT, sorted(senders))}


async def record_list_outage(db: Connection, account: str, now: datetime) -> None:
    """The provider's list could not be read now."""
    await db.execute(_RECORD_LATEST_LIST_OUTAGE, account, now)


async def latest_list_outage(db: Connection, account: str) -> datetime | None:
    """When the provider's list could last not be read, or was last found to be late; None: never, as far as is known."""
    last: datetime | None = await db.fetchval(_LATEST_LIST_OUTAGE, account)
    return last


def _columns(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
