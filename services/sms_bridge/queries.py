"""The SQL of the gate and of the effects of an SMS.

Every statement takes a whole batch and names the tenant of each row.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection
from libs.common.directory.address_marks import SMS_MARKS
from libs.common.directory.consents import CONSENTS
from libs.common.sanitize import sanitize
from libs.common.sending.rows import SendRow
from libs.common.sms_policy import policy_of
from libs.common.sms_reach import SmsReach, is_allowed
from libs.common.thread.conversations import current_conversation
from libs.common.window import Window
from services.sms_bridge.gate import GateFacts

# A conversation that was merged into another one may be named by its old id.
_FACTS = f"""
select u.n, o.country, nullif(o.policy, '{{}}')::text as policy, coalesce(d.segments, 0) as spent,
       c.last_customer_at, c.identity_changed_at, c.first_refused_at, c.last_refused_at, t.phone, o.sms_active,
       o.sms_number, m.no_phone_until,
       case when p.sms_consented_at >= m.stopped_at then null else m.stopped_until end as stopped_until,
       p.whatsapp_consent, p.sms_consent, p.sms_stopped_by, p.sms_consented_at is not null as sms_explicit,
       w.contacted is true as contacted,
       exists (select from orgs x where x.sms_spellings @> array[t.phone]) as phone_of_organisation,
       exists (select from bridge_slots b
                where b.org_id = u.org_id and b.conversation_id = c.conversation_id
                  and (case when b.held_until > $4 then b.intent_id else b.others[1] end <> u.message_id
                       or b.others <> '{{}}' and exists (
                           select from sends x
                            where x.org_id = u.org_id and x.message_id = any(b.intent_id || b.others)
                              and x.message_id <> u.message_id and x.state in ('claimed', 'unknown')))) as slot_taken,
       exists (select from address_marks x
                where x.org_id = u.org_id and x.channel = 'whatsapp' and x.until > $4
                  and x.address = any (array[t.phone, '+' || c.wa_id, c.bsuid])) as unreachable,
       exists (select from messages x
                where x.org_id = u.org_id and x.message_id = u.message_id
                  and x.status in ('delivered', 'read')) as arrived
  from unnest($1::text[], $2::uuid[], $3::uuid[], $5::text[])
       with ordinality as u (org_id, conversation_id, message_id, named, n)
  join conversations c on c.org_id = u.org_id and c.conversation_id = {current_conversation("u")}
  join customers k on k.org_id = u.org_id and k.customer_id = c.customer_id
  join orgs o on o.org_id = u.org_id
  left join sms_days d on d.org_id = u.org_id and d.day = $6
  cross join lateral ( -- a number that the intent named counts while it is one of the customer's numbers
       select case when u.named is null
                     or not exists (select from customer_identities i
                                     where i.org_id = u.org_id and i.kind = 'phone' and i.value = u.named
                                       and i.customer_id = k.customer_id)
                   then k.phone else u.named end as phone offset 0
       ) t
  left join lateral ({SMS_MARKS.format(org_id="u.org_id", phone="t.phone")}) m on true
  left join lateral ({CONSENTS.format(org_id="u.org_id", customer_id="k.customer_id")}) p on true
  left join lateral (
       select true as contacted from conversations x
        where x.customer_id = k.customer_id and x.org_id = u.org_id
          and (x.last_customer_at is not null or x.last_inbound_at is not null)
        limit 1
       ) w on true
"""  # noqa: S608 -- constants

_DROP_LINKS = """
delete from portal_links l
 using unnest($1::text[], $2::bytea[]) as u (org_id, code_hash)
 where l.org_id = u.org_id and l.code_hash = u.code_hash
"""

_KEEP_LINKS = f"""
insert into portal_links (code_hash, org_id, conversation_id, message_id, host, phone, expires_at, created_at)
select u.code_hash, u.org_id, {current_conversation("u")}, u.message_id, u.host, u.phone, $7, $8
  from unnest($1::bytea[], $2::text[], $3::uuid[], $4::uuid[], $5::text[], $6::text[])
    as u (code_hash, org_id, conversation_id, message_id, host, phone)
"""  # noqa: S608 -- a constant

_WRITE_BRIDGES = """
insert into messages (org_id, message_id, conversation_id, direction, channel, account, kind, content, ai_generated,
                      notification_type, parent_id, status, attempt, occurred_at, received_at)
select u.org_id, u.message_id, u.conversation_id, 'out', 'sms', u.account, 'text', u.content, false, 'bridge',
       u.parent_id, 'pending', u.attempt, $8, $8
  from unnest($1::text[], $2::uuid[], $3::uuid[], $4::text[], $5::jsonb[], $6::uuid[], $7::int[])
    as u (org_id, message_id, conversation_id, account, content, parent_id, attempt)
on conflict (org_id, message_id) do nothing
"""

_ACCOUNT_NAMES = "select org_id, sms_provider, sms_account from orgs where org_id = any($1::text[])"

_MERGED = """
select a.org_id, a.alias, a.conversation_id
  from unnest($1::text[], $2::uuid[]) as u (org_id, alias)
  join conversation_aliases a on a.org_id = u.org_id and a.alias = u.alias
"""


@dataclass(frozen=True, slots=True)
class PortalLink:
    """A magic link as it is stored: the keyed hash of its code, and the message that it leads to.

    It opens on ``host`` alone, and only while ``phone``, which the SMS goes to, is on file for the customer.
    """

    code_hash: bytes
    org_id: str
    conversation_id: UUID
    message_id: UUID
    host: str
    phone: str


@dataclass(frozen=True, slots=True)
class BridgeMessage:
    """The bridge SMS as a message of its own.

    ``masked``: its text without the code; ``account``: the organisation's SMS number.
    """

    org_id: str
    message_id: UUID
    conversation_id: UUID
    account: str
    masked: str
    parent_id: UUID
    attempt: int


async def facts_of(
    db: Connection, sends: Sequence[SendRow], *, window_length: timedelta, window_doubt: timedelta, now: datetime
) -> list[GateFacts | None]:
    """The facts of each send, in order. None: its conversation no longer exists."""
    facts: list[GateFacts | None] = [None] * len(sends)
    asked = [s.org_id for s in sends], [s.conversation_id for s in sends], [s.message_id for s in sends]
    for row in await db.fetch(_FACTS, *asked, now, [s.named_line for s in sends], now.date()):
        policy = policy_of(row["policy"], row["country"], row["sms_number"])
        facts[row["n"] - 1] = GateFacts(
            window=Window(
                last_customer_at=row["last_customer_at"],
                length=window_length,
                doubt=window_doubt,
                identity_changed_at=row["identity_changed_at"],
                first_refused_at=row["first_refused_at"],
                last_refused_at=row["last_refused_at"],
            ),
            whatsapp_allowed=row["whatsapp_consent"],
            reach=SmsReach(
                phone=row["phone"],
                no_phone_until=row["no_phone_until"],
                stopped_until=row["stopped_until"],
                allowed=is_allowed(row["phone"], consent=row["sms_consent"], stopped=row["sms_stopped_by"]),
                explicit=row["sms_explicit"],
                contacted=row["contacted"],
                number=row["sms_number"],
                active=row["sms_active"],
                of_organisation=row["phone_of_organisation"],
                countries=policy.countries,
            ),
            spent=row["spent"],
            daily_segments=policy.daily_segments,
            slot_taken=row["slot_taken"],
            unreachable=row["unreachable"],
            arrived=row["arrived"],
        )
    return facts


class AccountName(NamedTuple):
    """The account that an organisation names: of each None where it names none."""

    sms_provider: str | None
    sms_account: str | None


async def account_names(db: Connection, org_ids: Collection[str]) -> dict[str, AccountName]:
    """Which account each of these organisations names now."""
    rows = await db.fetch(_ACCOUNT_NAMES, sorted(org_ids))
    return {row["org_id"]: AccountName(row["sms_provider"], row["sms_account"]) for row in rows}


async def merged(db: Connection, conversations: Collection[tuple[str, UUID]]) -> dict[tuple[str, UUID], UUID]:
    """By (org_id, conversation_id), the conversation that it became part of. The others are left out."""
    rows = await db.fetch(_MERGED, *as_columns(sorted(conversations)))
    return {(row["org_id"], row["alias"]): row["conversation_id"] for row in rows}


async def replace_links(
    db: Connection,
    links: Sequence[PortalLink],
    unsent: Sequence[tuple[str, bytes]],
    *,
    expires_at: datetime,
    now: datetime,
) -> None:
    """Store the links of this claim, and delete the ``unsent`` ones (org_id, hash), whose SMS certainly never left."""
    if unsent:
        await db.execute(_DROP_LINKS, *as_columns(unsent))
    if links:
        rows = [(i.code_hash, i.org_id, i.conversation_id, i.message_id, i.host, i.phone) for i in links]
        await db.execute(_KEEP_LINKS, *as_columns(rows), expires_at, now)


async def write_bridges(db: Connection, bridges: Sequence[BridgeMessage], now: datetime) -> None:
    """Put the bridges into their threads. A bridge that is there already, because of a resend, stays as it is."""
    if bridges:
        rows = [
            (
                *(b.org_id, b.message_id, b.conversation_id, b.account),
                *(sanitize({"kind": "text", "text": b.masked}), b.parent_id, b.attempt),
            )
            for b in sorted(bridges, key=lambda b: (b.org_id, b.message_id))
        ]
        await db.execute(_WRITE_BRIDGES, *as_columns(rows), now)
