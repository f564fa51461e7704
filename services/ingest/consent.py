"""What customers say in WhatsApp about marketing, and telling it.

Rule 1: a typed STOP and WhatsApp's own switch speak of marketing alone. Whether the garage may write at all is another consent.
Rule 2: the switch of somebody whom nobody knows changes nothing: marketing is off for them already.
Rule 3: what was heard is told by one process at a time, from what stands recorded.
"""

from collections.abc import Iterable, Sequence
from datetime import timedelta

from libs.common import metrics
from libs.common.db.locks import try_alone
from libs.common.db.pool import Connection, Pool
from libs.common.directory import consents
from libs.common.directory.consents import KEYWORD, ConsentGiver, SaidConsent
from libs.common.events.topics import DIRECTORY_CHANGES
from libs.common.kafka.producer import Producer, Record
from libs.common.logging import get_logger
from services.ingest.queries import Entry, Standing
from services.ingest.understood import CustomerPreference

log = get_logger()

TELL_EVERY = timedelta(milliseconds=500)
_AT_ONCE = 500


def has_keyword(entries: Iterable[Entry]) -> bool:
    """Whether one of these messages is a keyword."""
    return any(entry.content is not None and "keyword" in entry.content for entry in entries)


async def hear_keywords(db: Connection, entries: Sequence[Entry], standing: Sequence[Standing]) -> None:
    """Store what the keywords among these messages ask for. Call inside the transaction that stores the messages."""
    await consents.store_said(
        db,
        [
            SaidConsent(entry.org_id, one.customer_id, "marketing", keyword == "start", entry.at, "whatsapp", KEYWORD)
            for entry, one in zip(entries, standing, strict=True)
            if entry.content is not None and (keyword := entry.content.get("keyword")) is not None
        ],
    )


async def hear_preferences(pool: Pool, preferences: Sequence[CustomerPreference]) -> None:
    """Store what customers switched."""
    people = [ConsentGiver(p.phone_number_id, *p.sender.ids, p.at) for p in preferences]
    async with pool.acquire() as db, db.transaction():
        known = await consents.find_givers(db, people)
        await consents.store_said(
            db,
            [
                SaidConsent(*whose, "marketing", preference.marketing, preference.at, "whatsapp", "preferences")
                for whose, preference in zip(known, preferences, strict=True)
                if whose is not None
            ],
        )
    if strangers := known.count(None):
        metrics.WEBHOOKS_IGNORED.labels(kind="user_preferences").inc(strangers)


async def tell(pool: Pool, producer: Producer) -> None:
    """Publish what customers said and nobody was told yet."""
    async with pool.acquire() as db, db.transaction():
        if not await try_alone(db, "consents.tell"):
            return  # another replica is at it
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
