"""A customer who is erased, as ``transom erase`` does it."""

from uuid import UUID

from libs.common.clock import utc_now
from libs.common.db.pool import Pool
from libs.common.directory import erasure
from libs.common.directory.erasure import Erasable


async def whom(pool: Pool, org_id: str, conversation_id: UUID | str) -> Erasable:
    """The customer of this conversation, which there must be."""
    async with pool.acquire() as db:
        found = await erasure.find(db, org_id, UUID(str(conversation_id)))
    assert found is not None
    return found


async def erase(pool: Pool, org_id: str, conversation_id: UUID | str) -> None:
    """Erase the customer of this conversation, whatever is under way."""
    found = await whom(pool, org_id, conversation_id)
    async with pool.acquire() as db:
        await erasure.erase(db, found, utc_now())


async def forget(pool: Pool, org_id: str, conversation_id: UUID | str) -> UUID:
    """Erase the person and not yet their words, as between the steps of an erasure. Returns the customer."""
    found = await whom(pool, org_id, conversation_id)
    async with pool.acquire() as db, db.transaction():
        await erasure.forget_person(db, found, utc_now())
    return found.customer_id
