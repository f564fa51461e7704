"""Messages that customers wrote into a WhatsApp group.

Rule 1: a group has a thread of its own and nothing else: no customer, no window, no address. What is meant for its conversation is rejected by the
        router (``unknown_conversation``), because there is none that can be written to.
Rule 2: nobody's private thread, window or identity is touched.
Rule 3: as everywhere: stored once, and told from what stands recorded.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from libs.common.db.pool import Pool
from libs.common.errors import Transient
from libs.common.events.inbound import InboundMessage
from libs.common.events.topics import INBOUND_MESSAGES
from libs.common.kafka.producer import Record
from libs.common.logging import get_logger
from libs.common.phone import canonical, from_wa_id
from services.ingest import translate
from services.ingest.understood import GroupMessage

log = get_logger()

# A thread is there before its messages, and stays; what stands already is not written again.
_THREADS = """
insert into group_threads (org_id, phone_number_id, group_id)
select n.org_id, n.phone_number_id, u.group_id
  from (select distinct number, group_id from unnest($1::text[], $2::text[]) as u (number, group_id) order by number, group_id) u
  join whatsapp_numbers n on n.phone_number_id = u.number
on conflict (org_id, phone_number_id, group_id) do nothing
"""

_STORE = """
insert into messages (org_id, conversation_id, direction, channel, account, provider_id, kind, content, reply_to, status, occurred_at, received_at,
                      from_wa_id, from_bsuid)
select g.org_id, g.conversation_id, 'in', 'whatsapp', u.number, u.provider_id, u.kind, u.content, u.reply_to, 'received', u.at, u.received_at,
       u.wa_id, u.bsuid
  from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::jsonb[], $6::text[], $7::timestamptz[], $8::timestamptz[], $9::text[], $10::text[])
       with ordinality as u (number, group_id, provider_id, kind, content, reply_to, at, received_at, wa_id, bsuid, place)
  join whatsapp_numbers n on n.phone_number_id = u.number
  join group_threads g on g.org_id = n.org_id and g.phone_number_id = u.number and g.group_id = u.group_id
 order by u.place
on conflict (account, provider_id) where direction = 'in' do nothing
returning account, provider_id
"""

_STANDING = """
select m.account, m.provider_id, m.org_id, m.message_id, m.conversation_id, m.content, m.reply_to, m.occurred_at, m.received_at, g.group_id,
       coalesce(b.customer_id, w.customer_id)
  from unnest($1::text[], $2::text[], $3::text[], $4::text[]) as u (number, provider_id, line, bsuid)
  join whatsapp_numbers n on n.phone_number_id = u.number
  join messages m on m.account = u.number and m.provider_id = u.provider_id and m.direction = 'in' and m.org_id = n.org_id
  left join group_threads g on g.org_id = m.org_id and g.conversation_id = m.conversation_id
  left join customer_identities b on b.org_id = m.org_id and b.kind = 'bsuid' and b.value = u.bsuid
  left join customer_identities w on w.org_id = m.org_id and w.kind = 'phone' and w.value = u.line and w.since <= m.occurred_at
   and (u.bsuid is null or w.bsuid is null or w.bsuid = u.bsuid) -- else somebody else has the line by now
"""


class _Standing(NamedTuple):
    """A message of a group as it was stored; ``customer_id``: who wrote it, if anybody knows."""

    account: str
    provider_id: str
    org_id: str
    message_id: UUID
    conversation_id: UUID
    content: dict[str, Any]
    reply_to: str | None
    at: datetime
    received_at: datetime
    group_id: str | None
    customer_id: UUID | None


async def store(pool: Pool, said: Sequence[GroupMessage], now: datetime) -> list[Record]:
    """Store each message once; the records that tell it."""
    unique = {(one.phone_number_id, one.provider_id): one for one in reversed(said)}
    messages = list(reversed(unique.values()))
    if not messages:
        return []
    async with pool.acquire() as db, db.transaction():
        await db.execute(_THREADS, *_columns([(one.phone_number_id, one.group_id) for one in messages]))
        fresh = {(row[0], row[1]) for row in await db.fetch(_STORE, *_columns([_row(one) for one in messages]))}
        asked = [(one.phone_number_id, one.provider_id, _line(one), one.sender.bsuid) for one in messages]
        standing = [_Standing(*row) for row in await db.fetch(_STANDING, *_columns(asked))]
    found = {(one.account, one.provider_id): one for one in standing}
    if any((one.phone_number_id, one.provider_id) not in found for one in messages):
        raise Transient("a business number was taken out of the directory meanwhile")
    order = [found[one.phone_number_id, one.provider_id] for one in messages]
    return [_told(one, fresh=(one.account, one.provider_id) in fresh, now=now) for one in order]


def _row(said: GroupMessage) -> tuple[object, ...]:
    return (
        *(said.phone_number_id, said.group_id, said.provider_id, said.content["kind"], said.content, said.reply_to),
        *(said.at, said.received_at, *said.sender.ids),
    )


def _line(said: GroupMessage) -> str | None:
    number = from_wa_id(said.sender.wa_id)
    return None if number is None else canonical(number)


def _told(one: _Standing, *, fresh: bool, now: datetime) -> Record:
    conversation, message = str(one.conversation_id), str(one.message_id)
    content, beside = translate.told(one.content)
    value = {
        "type": InboundMessage.TYPE,
        "message_id": message,
        "org_id": one.org_id,
        "conversation_id": conversation,
        "customer_id": None if one.customer_id is None else str(one.customer_id),
        "channel": "whatsapp",
        "provider_id": one.provider_id,
        "content": content,
        **beside,
        "reply_to": one.reply_to,
        "group_id": one.group_id,
        "sent_at": one.at,
        "received_at": one.received_at,
        "window": {"opened_at": None, "closes_at": None, "open": False},
    }
    log.info(
        "message.received",
        org_id=one.org_id,
        conversation_id=conversation,
        message_id=message,
        channel="whatsapp",
        kind=content["kind"],
        outcome="stored" if fresh else "known",
        lag_ms=round((now - one.received_at).total_seconds() * 1000),
    )
    return Record(INBOUND_MESSAGES, conversation.encode(), orjson.dumps(value, option=orjson.OPT_UTC_Z))


def _columns(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
