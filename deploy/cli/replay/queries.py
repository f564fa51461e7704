"""The rows that records are about, each as its table, its key and a digest of what it holds. Nothing is written."""

from collections.abc import Collection, Mapping
from typing import Any

from deploy.cli.replay.subjects import Subjects
from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection

Rows = Mapping[tuple[str, str], str]
"""By table and key: the digest of a row."""

_PARAMETERS = (
    *("text", "uuid"),  # messages
    *("text", "text", "text"),  # provider_ids
    *("text", "text", "text"),  # writers
    *("text", "uuid"),  # conversations
    "text",  # orgs
    *("text", "text"),  # numbers
    *("text", "uuid"),  # customers
    *("text", "text", "text"),  # templates
)
_A = [f"${n}::{kind}[]" for n, kind in enumerate(_PARAMETERS, 1)]

# "offset 0": each row is found by key, whatever the size of the tables.
_ROWS = f"""
with given as (select * from unnest({_A[2]}, {_A[3]}, {_A[4]}) as u (provider, account, provider_id)),
named as (
    select * from unnest({_A[0]}, {_A[1]}) as u (org_id, message_id)
     union
    select f.org_id, f.message_id
      from given g
     cross join lateral (
           select m.org_id, m.message_id from messages m
            where m.provider = g.provider and m.account = g.account and m.provider_id = g.provider_id
              and m.direction = 'in'
            union all
           select p.org_id, p.message_id from provider_ids p
            where p.provider = g.provider and p.account = g.account and p.provider_id = g.provider_id
           offset 0
           ) f
),
threads as (
    select u.org_id, coalesce(a.conversation_id, u.conversation_id) as conversation_id
      from unnest({_A[8]}, {_A[9]}) as u (org_id, conversation_id)
      left join conversation_aliases a on a.org_id = u.org_id and a.alias = u.conversation_id
     union
    select c.org_id, c.conversation_id
      from unnest({_A[5]}, {_A[6]}, {_A[7]}) as u (number, kind, value)
     cross join lateral (
           select w.org_id from whatsapp_numbers w where w.phone_number_id = u.number
            union
           select o.org_id from orgs o where o.sms_number = u.number
           offset 0
           ) o
     cross join lateral (
           select i.customer_id from customer_identities i
            where i.org_id = o.org_id and i.kind = u.kind and i.value = u.value offset 0
           ) i
     cross join lateral (
           select c.org_id, c.conversation_id from conversations c
            where c.org_id = o.org_id and c.customer_id = i.customer_id offset 0
           ) c
)
select 'messages', concat_ws(' ', t.org_id, t.message_id), md5(t::text)
  from named n join messages t using (org_id, message_id)
union all
select 'decisions', concat_ws(' ', t.org_id, t.intent_id, t.attempt), md5(t::text)
  from named n join decisions t on t.org_id = n.org_id and t.intent_id = n.message_id
union all
select 'sends', concat_ws(' ', t.org_id, t.message_id, t.attempt), md5(t::text)
  from named n join sends t using (org_id, message_id)
union all
select 'charges', concat_ws(' ', t.org_id, t.message_id, t.attempt), md5(t::text)
  from named n join charges t using (org_id, message_id)
union all
select 'parked_messages', concat_ws(' ', t.org_id, t.message_id), md5(t::text)
  from named n join parked_messages t using (org_id, message_id)
union all
select 'inbox_notices', concat_ws(' ', t.org_id, t.message_id), md5(t::text)
  from named n join inbox_notices t using (org_id, message_id)
union all
select 'early_statuses', concat_ws(' ', t.provider, t.account, t.provider_id, t.status), md5(t::text)
  from given g join early_statuses t using (provider, account, provider_id)
union all
select 'sms_parts', concat_ws(' ', t.provider, t.account, t.provider_id), md5(t::text)
  from given g join sms_parts t using (provider, account, provider_id)
union all
select 'conversations', c.conversation_id::text, md5(c::text)
  from threads t join conversations c using (org_id, conversation_id)
union all
select 'bridge_slots', s.conversation_id::text, md5(s::text)
  from threads t join bridge_slots s using (org_id, conversation_id)
union all
select 'conversation_holds', h.conversation_id::text, md5(h::text)
  from threads t join conversation_holds h using (org_id, conversation_id)
union all
select 'conversation_heads', h.conversation_id::text, md5(h::text)
  from threads t join conversation_heads h using (org_id, conversation_id)
union all
select 'orgs', o.org_id, md5(o::text) from orgs o where o.org_id = any ({_A[10]})
union all
select 'whatsapp_numbers', w.phone_number_id, md5(w::text)
  from unnest({_A[11]}, {_A[12]}) as u (org_id, phone_number_id)
  join whatsapp_numbers w on w.phone_number_id = u.phone_number_id
union all
select 'customers', c.customer_id::text, md5(c::text)
  from unnest({_A[13]}, {_A[14]}) as u (org_id, customer_id)
  join customers c on c.customer_id = u.customer_id and c.org_id = u.org_id
union all
select 'consents', concat_ws(' ', c.customer_id, c.category), md5(c::text)
  from unnest({_A[13]}, {_A[14]}) as u (org_id, customer_id)
  join consents c on c.customer_id = u.customer_id and c.org_id = u.org_id
union all
select 'templates', concat_ws(' ', t.org_id, t.waba_id, t.name, t.language), md5(t::text)
  from unnest({_A[15]}, {_A[16]}, {_A[17]}) as u (waba_id, name, language)
  join templates t using (waba_id, name, language)
"""  # noqa: S608 -- numbers and types of parameters


async def rows_of(db: Connection, subjects: Subjects) -> Rows:
    """What stands in the tables about these subjects. This goes over all tenants: the records name whose they are."""
    arguments = [
        *_columns(subjects.messages, 2),
        *_columns(subjects.provider_ids, 3),
        *_columns(subjects.writers, 3),
        *_columns(subjects.conversations, 2),
        *_columns([(org_id,) for org_id in subjects.orgs], 1),
        *_columns(subjects.numbers, 2),
        *_columns(subjects.customers, 2),
        *_columns(subjects.templates, 3),
    ]
    return {(table, key): digest for table, key, digest in await db.fetch(_ROWS, *arguments)}


def _columns(keys: Collection[tuple[Any, ...]], width: int) -> list[list[Any]]:
    """Keys by column. PostgreSQL stores no zero character, so a key with one has no row."""
    found = sorted(key for key in keys if not any(isinstance(part, str) and "\0" in part for part in key))
    return [list(column) for column in as_columns(found)] if found else [[] for _ in range(width)]
