"""The SQL of files: where a message's file is to be had."""

from uuid import UUID

from libs.common.db.pool import Connection
from services.inbox.media import StoredFile

_FILE = """
select m.content ->> 'media_id' as media_id, m.kind, m.content ->> 'filename' as filename, n.token
  from messages m
  left join whatsapp_numbers n on n.org_id = m.org_id and n.phone_number_id = m.account
 where m.org_id = $1 and m.message_id = $2 and m.provider = 'meta'
   and m.content ->> 'media_id' is not null
"""


async def file_of(db: Connection, org_id: str, message_id: UUID) -> StoredFile | None:
    """The file of a customer's message, or of what staff sent from the phone; None where it has none."""
    row = await db.fetchrow(_FILE, org_id, message_id)
    return None if row is None else StoredFile(**row)
