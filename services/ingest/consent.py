"""What customers say in WhatsApp about marketing, and its publication.

Rule 1: a typed STOP and WhatsApp's own switch change the consent for marketing alone, not that for WhatsApp.
Rule 2: the switch of an unknown customer changes nothing: marketing is off for them already.
Rule 3: one process at a time publishes what was stored, from what is recorded.
"""

from collections.abc import Sequence
from datetime import timedelta

from libs.common import metrics
from libs.common.db.locks import try_alone
from libs.common.db.pool import Connection, Pool
from libs.common.directory import consents
from libs.common.directory.consents import KEYWORD, ConsentGiver, SaidConsent
from libs.common.events.topics import DIRECTORY_CHANGES
from libs.common.kafka.producer import Producer, Record
from libs.common.logging import get_logger
from services.ingest.items import CustomerPreference
from services.ingest.queries import StoredMessage

log = get_logger()

PUBLISH_EVERY = timedelta(seconds=1)
_AT_ONCE = 500


async def store_keywords(db: Connection, messages: Sequence[StoredMessage]) -> None:
    """Store the consents that keywords among these messages change, in the transaction that stores the messages."""
    await consents.store_said(
        db,
        [
            SaidConsent(one.org_id, one.customer_id, "marketing", keyword == "start", one.at, "whatsapp", KEYWORD)
            for one in messages
            if one.customer_id is not None and (keyword := one.content.get("keyword")) is not None
        ],
    )


async def store_preferences(pool: Pool, preferences: Sequence[CustomerPreference]) -> None:
    """Store the consents that customers switched in WhatsApp."""
    givers = [ConsentGiver(one.phone_number_id, *one.sender.ids, one.at) for one in preferences]
    async with pool.acquire() as db, db.transaction():
        customers = await consents.find_givers(db, givers)
        await consents.store_said(
            db,
            [
                SaidConsent(*customer, "marketing", one.marketing, one.at, "whatsapp", "preferences")
                for customer, one in zip(customers, preferences, strict=True)
                if customer is not None
            ],
        )
    if unknown := customers.count(None):
        metrics.WEBHOOKS_IGNORED.labels(kind="user_preferences").inc(unknown)


async def publish(pool: Pool, producer: Producer) -> None:
    """Publish the stored consents that are not published yet. At rest this is one round trip."""
    async with pool.acquire() as db:
        if not await consents.unpublished(db, 1):
            return
    async with pool.acquire() as db, db.transaction():
        if not await try_alone(db, "consents.publish"):
            return  # another replica publishes
        changes = await consents.unpublished(db, _AT_ONCE)
        await producer.publish(
            [Record(DIRECTORY_CHANGES, change.org_id.encode(), change.encode()) for change in changes]
        )
        await consents.mark_published(db, changes)
    for change in changes:
        log.info(
            "consent.told",
            org_id=change.org_id,
            customer_id=str(change.customer_id),
            kind=change.category,
            outcome="on" if change.allowed else "off",
            channel=change.source,
            reason=change.cause,
        )
