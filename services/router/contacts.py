"""First contacts: a customer and a conversation for a phone number that an intent is the first to write to."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from libs.common.db.pool import Connection
from libs.common.directory.identities import Sighting, resolve
from libs.common.errors import Transient
from libs.common.thread import conversations
from libs.common.thread.conversations import ConversationAddress


class Contact(NamedTuple):
    """A phone number that is written to for the first time from this business number.

    ``customer_id`` is None where the directory does not know them.
    """

    org_id: str
    phone_number_id: str
    phone: str
    customer_id: UUID | None


async def open_conversations(db: Connection, contacts: Sequence[Contact], now: datetime) -> list[tuple[UUID, UUID]]:
    """Conversation and customer of each contact, in order; created where they are missing. Call inside a transaction.

    A number is its line's holder's, under any spelling.
    """
    unknown = [c for c in contacts if c.customer_id is None]
    sightings = [Sighting(c.org_id, c.phone, None, None, now, "intent", origin="outbound") for c in unknown]
    resolved = iter(await resolve(db, sightings, now) if sightings else [])
    wanted: list[tuple[str, UUID, str]] = []
    for contact in contacts:
        customer_id = contact.customer_id or next(resolved).customer_id
        if customer_id is None:
            raise RuntimeError("an intent's number has no customer")
        wanted.append((contact.org_id, customer_id, contact.phone_number_id))
    await conversations.ensure(db, [ConversationAddress(*one) for one in sorted(set(wanted))])
    threads = await conversations.find(db, wanted)
    opened: list[tuple[UUID, UUID]] = []
    for (_, customer_id, _), thread in zip(wanted, threads, strict=True):
        if thread is None:
            raise Transient("a customer was merged meanwhile")
        opened.append((thread.conversation_id, customer_id))
    return opened
