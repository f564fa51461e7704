"""What a message says of its sender beside the ids that it came by. It is bound before the sender is looked for.

Rule 1: a number shared on request is the sender's own (``services.ingest.sharing``).
Rule 2: a reply by a BSUID that nobody has, to a message of ours, is whoever that message was meant for, unless they are known by another BSUID: only
        the recipient has the message to reply to.
Rule 3: what is older than Meta's seven days binds nothing.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

from libs.common.db.pool import Connection, Pool
from libs.common.directory.identities import STALE, Binding, bind
from services.ingest.understood import CustomerMessage

_ORGS = "select phone_number_id, org_id from whatsapp_numbers where phone_number_id = any($1::text[])"

# "offset 0": each reply finds its message by key, whatever the size of the tables.
_REPLIED_TO = """
select c.org_id, c.customer_id
  from unnest($1::text[], $2::text[], $3::text[]) with ordinality as u (account, provider_id, bsuid, n)
  left join lateral (
       select p.org_id, p.message_id from whatsapp_numbers w
         join provider_ids p on p.provider = 'meta' and p.account = w.phone_number_id and p.provider_id = u.provider_id and p.org_id = w.org_id
        where w.phone_number_id = u.account
          and not exists (select from customer_identities i where i.org_id = w.org_id and i.kind = 'bsuid' and i.value = u.bsuid)
          and not exists (select from former_identities f where f.org_id = w.org_id and f.kind = 'bsuid' and f.value = u.bsuid) offset 0
       ) p on true
  left join lateral (
       select c.org_id, c.customer_id from messages m
         left join conversation_aliases a on a.alias = m.conversation_id and a.org_id = m.org_id
         join conversations c on c.org_id = m.org_id and c.conversation_id = coalesce(a.conversation_id, m.conversation_id)
                             and c.phone_number_id = u.account
        where m.org_id = p.org_id and m.message_id = p.message_id and m.direction = 'out' offset 0
       ) c on true
 order by u.n
"""


async def learn(pool: Pool, said: Iterable[CustomerMessage], now: datetime) -> None:
    """Bind what these messages tell. A batch in which nobody shares a number or replies by a BSUID alone costs nothing."""
    unknown = [
        one for one in said if one.sender.wa_id is None and one.sender.bsuid and one.received_at - one.at <= STALE
    ]
    shared = [one for one in unknown if one.shared]
    replies = [one for one in unknown if one.reply_to]
    if not shared and not replies:
        return
    async with pool.acquire() as db:
        bindings = [*await _shares(db, shared), *await _replies(db, replies)]
        if bindings:
            async with db.transaction():
                await bind(db, bindings, now)


async def _shares(db: Connection, shared: Sequence[CustomerMessage]) -> list[Binding]:
    if not shared:
        return []
    orgs: dict[str, str] = {
        row[0]: row[1] for row in await db.fetch(_ORGS, sorted({one.phone_number_id for one in shared}))
    }
    return [
        Binding(
            orgs[one.phone_number_id], one.phone_number_id, None, None, one.sender.bsuid, one.shared, one.at, "shared"
        )
        for one in shared
        if one.phone_number_id in orgs
    ]


async def _replies(db: Connection, replies: Sequence[CustomerMessage]) -> list[Binding]:
    if not replies:
        return []
    asked = [(one.phone_number_id, one.reply_to, one.sender.bsuid) for one in replies]
    found: list[tuple[str | None, UUID | None]] = [
        (row[0], row[1]) for row in await db.fetch(_REPLIED_TO, *zip(*asked, strict=True))
    ]
    return [
        Binding(org_id, one.phone_number_id, customer_id, None, one.sender.bsuid, None, one.at, "message")
        for one, (org_id, customer_id) in zip(replies, found, strict=True)
        if org_id is not None and customer_id is not None
    ]
