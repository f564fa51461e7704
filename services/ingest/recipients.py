"""Whom our messages reached, as their statuses tell: number, wa_id and BSUID of one customer.

Rule 1: what the conversation is reached by already is no news; a batch without news costs one look by key.
Rule 2: a status belongs to a send by its provider id, or, before that is stored, by the callback data that it echoes.
Rule 3: a failure that names a number alone tells nothing: Meta repeats what we gave it.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from libs.common.db.pool import Connection
from libs.common.directory.identities import Binding, bind
from libs.common.ids import read_callback
from services.ingest.understood import MessageStatus, Sender

# "offset 0": each status finds its send by key, whatever the size of the tables.
_SENDS = """
select n.org_id, c.customer_id, c.phone_number_id, c.wa_id, c.bsuid, s.sent_to
  from unnest($1::text[], $2::text[], $3::uuid[], $4::int[]) with ordinality as u (account, provider_id, message_id, attempt, n)
  left join lateral (
       select n.org_id from whatsapp_numbers n where n.phone_number_id = u.account offset 0
       ) n on true
  left join lateral (
       select p.send_id, p.attempt from provider_ids p
        where p.provider = 'meta' and p.account = u.account and p.provider_id = u.provider_id and p.org_id = n.org_id offset 0
       ) p on true
  left join lateral (
       select coalesce(a.conversation_id, m.conversation_id) as conversation_id
         from messages m
         left join conversation_aliases a on a.alias = m.conversation_id and a.org_id = m.org_id
        where m.org_id = n.org_id and m.message_id = coalesce(p.send_id, u.message_id) and m.direction = 'out' offset 0
       ) m on true
  left join lateral (
       select s.command ->> 'to' as sent_to from sends s
        where s.org_id = n.org_id and s.message_id = coalesce(p.send_id, u.message_id) and s.attempt = coalesce(p.attempt, u.attempt)
          and s.provider = 'meta' offset 0
       ) s on true
  left join lateral (
       select c.customer_id, c.phone_number_id, c.wa_id, c.bsuid from conversations c
        where c.org_id = n.org_id and c.conversation_id = m.conversation_id and c.phone_number_id = u.account offset 0
       ) c on true
 order by u.n
"""


class _Reached(NamedTuple):
    """The customer whom a message was meant for, how WhatsApp knows them, and the number it was sent to."""

    org_id: str | None
    customer_id: UUID | None
    phone_number_id: str | None
    wa_id: str | None
    bsuid: str | None
    sent_to: str | None


async def learn(db: Connection, statuses: Sequence[MessageStatus], now: datetime) -> None:
    """Bind the ids that these statuses tell. Call in a transaction that holds nothing yet."""
    telling = [
        (one, one.recipient)
        for one in statuses
        if one.recipient is not None and _tells(one.status.status, one.recipient)
    ]
    if not telling:
        return
    asked = []
    for one, _ in telling:
        callback = read_callback(one.status.callback)
        named = (None, None) if callback is None else (callback.message_id, callback.attempt)
        asked.append((one.status.account, one.status.provider_id, *named))
    found = [_Reached(*row) for row in await db.fetch(_SENDS, *zip(*asked, strict=True))]
    bindings = [
        Binding(
            org_id=reached.org_id,
            phone_number_id=reached.phone_number_id,
            customer_id=reached.customer_id,
            wa_id=recipient.wa_id,
            bsuid=recipient.bsuid,
            phone=reached.sent_to,
            at=one.status.at,
            source="status",
        )
        for (one, recipient), reached in zip(telling, found, strict=True)
        if reached.org_id is not None and reached.customer_id is not None and _is_news(recipient, reached)
    ]
    if bindings:
        await bind(db, list(dict.fromkeys(bindings)), now)


def _tells(status: str, recipient: Sender) -> bool:
    return status != "failed" or recipient.bsuid is not None


def _is_news(recipient: Sender, reached: _Reached) -> bool:
    return recipient.wa_id not in (None, reached.wa_id) or recipient.bsuid not in (None, reached.bsuid)
