"""What an SMS provider tells about a recipient, kept so that the next intent does not buy the same failure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from libs.common.db.pool import Connection

RecipientFault = Literal["no_phone", "sms_opted_out"]

# Twilio's codes that lie with the recipient (https://www.twilio.com/docs/api/errors); all others say nothing about the next message.
FAULT_OF_CODE: dict[str, RecipientFault] = {
    "21211": "no_phone",  # not a valid number
    "21214": "no_phone",  # cannot be reached
    "21614": "no_phone",  # not a mobile number
    "30005": "no_phone",  # unknown destination handset
    "30006": "no_phone",  # landline or unreachable carrier
    "21610": "sms_opted_out",  # replied STOP
}


@dataclass(frozen=True, slots=True)
class RecipientMark:
    """The customer of ``conversation_id`` cannot be reached at ``phone``, or opted out of SMS, by the provider's ``code``."""

    org_id: str
    conversation_id: UUID
    phone: str
    fault: RecipientFault
    code: str
    at: datetime


_DEAD_PHONES = """
update customers c
   set phone_dead = u.phone
  from (select distinct org_id, conversation_id, phone from unnest($1::text[], $2::uuid[], $3::text[]) as t (org_id, conversation_id, phone)) u
  join conversations v on v.org_id = u.org_id and v.conversation_id = u.conversation_id
 where c.org_id = u.org_id and c.customer_id = v.customer_id and c.phone = u.phone
"""

_OPT_OUTS = """
with told as (
    select distinct on (v.customer_id) v.org_id, v.customer_id, u.code, u.at
      from unnest($1::text[], $2::uuid[], $3::text[], $4::timestamptz[]) as u (org_id, conversation_id, code, at)
      join conversations v on v.org_id = u.org_id and v.conversation_id = u.conversation_id
     order by v.customer_id, u.at desc
), changed as (
    insert into consents as c (org_id, customer_id, category, allowed, at)
    select org_id, customer_id, 'sms', false, at from told
    on conflict (customer_id, category) do update set allowed = false, at = excluded.at where c.at < excluded.at
    returning c.org_id, c.customer_id, c.at
)
insert into audit_log (org_id, customer_id, action, detail, at, source_key)
select t.org_id, t.customer_id, 'consent',
       jsonb_build_object('category', 'sms', 'allowed', false, 'source', 'sms_provider', 'code', t.code), t.at,
       'sms_provider:' || t.customer_id || ':' || t.at
  from told t join changed c using (org_id, customer_id)
on conflict (source_key) do nothing
"""


async def mark_recipients(db: Connection, marks: Sequence[RecipientMark]) -> None:
    """Remember numbers that cannot be reached and customers who opted out, the latter with an audit line. Idempotent."""
    dead = sorted({(m.org_id, m.conversation_id, m.phone) for m in marks if m.fault == "no_phone"})
    if dead:
        await db.execute(_DEAD_PHONES, *map(list, zip(*dead, strict=True)))
    outs = sorted((m.org_id, m.conversation_id, m.code, m.at) for m in marks if m.fault == "sms_opted_out")
    if outs:
        await db.execute(_OPT_OUTS, *map(list, zip(*outs, strict=True)))
