"""SQL of what is asked for through the inbox. Every statement names the organisation."""

from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from libs.common.db.pool import Connection, changed
from libs.common.template_parameters import Asked, asked_by
from libs.common.thread.conversations import current_conversation


class Place(NamedTuple):
    """Where a message goes: the conversation under its present id, its customer, its organisation's policy as JSON.

    Of a first contact the conversation and the customer are None. ``phone_number_id``: the business number; None where
    the conversation has none.
    """

    conversation_id: UUID | None
    customer_id: UUID | None
    phone_number_id: str | None
    policy: str | None


class Before(NamedTuple):
    """What was asked for under an id before. ``published``: its intent is on the topic."""

    body_hash: bytes
    published: bool


class Noted(NamedTuple):
    """What became of a note. ``oldest``: when the first of those was asked for that count against the person."""

    stored: bool
    too_many: bool
    oldest: datetime | None


_CONVERSATION = f"""
select c.conversation_id, c.customer_id, c.phone_number_id, nullif(o.policy, '{{}}')::text as policy
  from (select $1::text as org_id, $2::uuid as conversation_id) u
  join orgs o on o.org_id = u.org_id
  join conversations c on c.org_id = u.org_id and c.conversation_id = {current_conversation("u")}
"""  # noqa: S608 -- a constant

_NUMBER = """
select null::uuid as conversation_id, null::uuid as customer_id,
       coalesce(n.replaced_by, n.phone_number_id) as phone_number_id, nullif(o.policy, '{}')::text as policy
  from whatsapp_numbers n
  join orgs o on o.org_id = n.org_id
 where n.org_id = $1 and n.phone_number_id = $2
"""

_ASKED = """
select t.parameter_format, t.body, t.header, t.buttons
  from whatsapp_numbers n
  join templates t on t.org_id = n.org_id and t.waba_id = n.waba_id
 where n.org_id = $1 and n.phone_number_id = $2 and t.name = $3 and t.language = $4 and t.status = 'APPROVED'
"""

_IS_IN = f"""
select exists (select from messages m
                where m.org_id = $1 and m.message_id = $3 and {current_conversation("m")} = $2)
"""  # noqa: S608 -- a constant

# Meta's id of a message that went through WhatsApp: of ours by the latest attempt.
_META_ID = f"""
select case m.direction
       when 'in' then case when m.provider = 'meta' then m.provider_id end
       else (select i.provider_id from provider_ids i
              where i.org_id = m.org_id and i.send_id = m.message_id and i.provider = 'meta'
              order by i.attempt desc limit 1)
       end
  from messages m
 where m.org_id = $1 and m.message_id = $3 and {current_conversation("m")} = $2
"""  # noqa: S608 -- a constant

_CAME_IN = "select exists (select from messages where org_id = $1 and message_id = $2 and direction = 'in')"

_BEFORE = "select body_hash, published from inbox_sends where org_id = $1 and intent_id = $2"

_NOTE = """
with lately as (
    select count(*) as number, min(s.sent_at) as oldest
      from (select sent_at from inbox_sends
             where org_id = $1 and user_id = $3 and sent_at > $5::timestamptz - $6::interval
             order by sent_at desc limit $7) s
), stored as (
    insert into inbox_sends (org_id, intent_id, user_id, body_hash, sent_at)
    select $1, $2, $3, $4, $5 from lately where number < $7
    on conflict do nothing
    returning true
)
select exists (select from stored) as stored, number >= $7 as too_many, oldest from lately
"""

_PUBLISHED = "update inbox_sends set published = true where org_id = $1 and intent_id = $2 and not published"

_FORGET = """
delete from inbox_sends
 where ctid = any (array(select ctid from inbox_sends where sent_at < $1 order by sent_at limit $2))
"""


async def conversation(db: Connection, org_id: str, conversation_id: UUID) -> Place | None:
    """The organisation's conversation. None: it has none of this id."""
    row = await db.fetchrow(_CONVERSATION, org_id, conversation_id)
    return None if row is None else Place(**row)


async def number(db: Connection, org_id: str, phone_number_id: str) -> Place | None:
    """The organisation's business number. None: it is not its own."""
    row = await db.fetchrow(_NUMBER, org_id, phone_number_id)
    return None if row is None else Place(**row)


async def asked(db: Connection, org_id: str, phone_number_id: str, name: str, language: str) -> Asked | None:
    """What this template of the number's account asks for. None: no approved one is known."""
    row = await db.fetchrow(_ASKED, org_id, phone_number_id, name, language)
    return None if row is None else asked_by(*row)


async def is_in(db: Connection, org_id: str, conversation_id: UUID, message_id: UUID) -> bool:
    """Whether this message is of the conversation, by its present id."""
    return bool(await db.fetchval(_IS_IN, org_id, conversation_id, message_id))


async def meta_id(db: Connection, org_id: str, conversation_id: UUID, message_id: UUID) -> str | None:
    """Meta's id of a message of the conversation. None: there is no such message, or Meta does not know it."""
    found: str | None = await db.fetchval(_META_ID, org_id, conversation_id, message_id)
    return found


async def came_in(db: Connection, org_id: str, message_id: UUID) -> bool:
    """Whether this id is that of a message of a customer."""
    return bool(await db.fetchval(_CAME_IN, org_id, message_id))


async def before(db: Connection, org_id: str, intent_id: UUID) -> Before | None:
    """What was asked for under this id."""
    row = await db.fetchrow(_BEFORE, org_id, intent_id)
    return None if row is None else Before(**row)


class Note(NamedTuple):
    """A wish that counts against its person."""

    org_id: str
    intent_id: UUID
    user_id: str
    body_hash: bytes
    at: datetime


async def note(db: Connection, wish: Note, period: timedelta, most: int) -> Noted:
    """Note a wish, unless its id was asked for before, or the person asked ``most`` times within the period.

    Requests side by side may exceed that by as many as there are.
    """
    [row] = await db.fetch(_NOTE, *wish, period, most)
    return Noted(**row)


async def published(db: Connection, org_id: str, intent_id: UUID) -> None:
    """The intent of this id is on the topic."""
    await db.execute(_PUBLISHED, org_id, intent_id)


async def forget(db: Connection, before: datetime, limit: int) -> int:
    """Delete up to ``limit`` wishes that are older; returns how many."""
    return await changed(db, _FORGET, before, limit)
