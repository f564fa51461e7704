"""Messages of ours in a thread, as senders leave them once Meta has given them an id."""

from datetime import timedelta
from uuid import UUID, uuid4

from libs.common.clock import utc_now
from libs.common.db.pool import Pool
from libs.common.events.topics import INBOUND_MESSAGES
from libs.common.sending.status_effects import store_provider_ids
from libs.common.sending.statuses import ProviderId
from tests.support.ingest import ORG, Ingest, now
from tests.support.webhooks import NUMBER, a_message, of_messages

_OUT = """
insert into messages (org_id, message_id, conversation_id, direction, channel, kind, content, status, attempt,
    occurred_at, received_at)
values ($1, $2, $3, 'out', 'whatsapp', $4, '{}', 'pending', 1, now(), now())
on conflict do nothing
"""


async def a_conversation(ingest: Ingest) -> UUID:
    """A customer wrote an hour ago."""
    await ingest.post(of_messages(a_message(now() - timedelta(hours=1))))
    (published,) = await ingest.published.events(INBOUND_MESSAGES, 1)
    return UUID(published["conversation_id"])


async def sent(
    pool: Pool, conversation_id: UUID, wamid: str, message_id: UUID | None = None, *, kind: str = "text"
) -> UUID:
    """A message of ours that Meta calls ``wamid``."""
    message_id = message_id or uuid4()
    async with pool.acquire() as db, db.transaction():
        await db.execute(_OUT, ORG, message_id, conversation_id, kind)
        ours = ProviderId("whatsapp", "meta", NUMBER, wamid, ORG, message_id, message_id, 1)
        await store_provider_ids(db, [ours], utc_now())
    return message_id
