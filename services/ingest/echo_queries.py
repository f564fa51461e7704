"""The statements of echoes: what staff wrote in the WhatsApp Business app. One batch is one round trip each."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection
from libs.common.thread.message_status import ECHO
from services.ingest.items import StaffEcho
from services.ingest.queries import Place, quoted_by

EchoId = tuple[str, str]
"""Business number, wamid."""

# "offset 0": each is looked up by its key.
_KNOWN = """
select p.account, p.provider_id, p.org_id, p.message_id, p.attempt
  from unnest($1::text[], $2::text[]) as u (account, provider_id)
 cross join lateral (
       select * from provider_ids x
        where x.provider = 'meta' and x.account = u.account and x.provider_id = u.provider_id offset 0) p
"""

_STORE = f"""
insert into messages (org_id, conversation_id, direction, channel, provider, account, provider_id, kind, content,
                      reply_to, actor, status, seq, attempt, sent_at, occurred_at, received_at)
select u.org_id, u.conversation_id, 'out', 'whatsapp', 'meta', u.account, u.provider_id, u.kind, u.content, u.reply_to,
       'staff', 'sent', 1, {ECHO}, u.at, u.at, u.received_at
  from unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::jsonb[], $7::text[], $8::timestamptz[],
              $9::timestamptz[]) with ordinality
    as u (org_id, conversation_id, account, provider_id, kind, content, reply_to, at, received_at, place)
 order by u.place
returning account, provider_id, message_id
"""  # noqa: S608 -- a constant

_POLICIES = "select o.org_id, nullif(o.policy, '{}')::text as policy from orgs o where o.org_id = any($1::text[])"


class Known(NamedTuple):
    """The message that has a wamid already. ``attempt`` is ``ECHO`` of an echo; else a sender of ours sent it."""

    org_id: str
    message_id: UUID
    attempt: int


async def known_ids(db: Connection, ids: Collection[EchoId]) -> dict[EchoId, Known]:
    """The messages that have one of these wamids."""
    found: dict[EchoId, Known] = {}
    for account, provider_id, *rest in await db.fetch(_KNOWN, *as_columns(sorted(ids))):
        found[account, provider_id] = Known(*rest)
    return found


async def store(db: Connection, placed: Sequence[tuple[StaffEcho, Place]]) -> dict[EchoId, UUID]:
    """Store these as messages that were sent, in the order given; their new ids. None of them is stored yet."""
    if not placed:
        return {}
    asked = {(place.org_id, echo.phone_number_id, echo.reply_to) for echo, place in placed if echo.reply_to is not None}
    quoted = await quoted_by(db, asked)
    rows = []
    for echo, place in placed:
        answers = quoted.get((place.org_id, echo.phone_number_id, echo.reply_to))
        rows.append(
            (
                *(place.org_id, place.conversation_id, echo.phone_number_id, echo.provider_id, echo.content["kind"]),
                *(echo.content, None if answers is None else str(answers), echo.at, echo.received_at),
            )
        )
    return {
        (account, provider_id): message_id
        for account, provider_id, message_id in await db.fetch(_STORE, *as_columns(rows))
    }


async def policies(db: Connection, organisations: Collection[str]) -> Mapping[str, str | None]:
    """The policies of these organisations as JSON text; None is an empty one."""
    rows = await db.fetch(_POLICIES, sorted(organisations)) if organisations else []
    return {row["org_id"]: row["policy"] for row in rows}
