"""What customers say in WhatsApp about marketing, and its publication.

Rule 1: a typed STOP and WhatsApp's own switch change the consent for marketing alone, not that for WhatsApp.
Rule 2: a stop by the switch counts, whoever it is of: of somebody unknown it makes a customer, without a conversation.
        The directory may know them later, with an older consent. A stop of somebody who was erased since makes none,
        and is kept as what they had denied.
        A resume of somebody unknown changes nothing.
Rule 3: one process at a time publishes what was stored, from what is recorded.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from libs.common import metrics
from libs.common.db.locks import try_alone
from libs.common.db.pool import Connection, Pool
from libs.common.directory import consents, erased_identities, identities, suppressions
from libs.common.directory.consents import KEYWORD, SaidConsent
from libs.common.directory.identities import Observation
from libs.common.directory.identity_history import Origin
from libs.common.errors import Transient
from libs.common.events.directory import ConsentCategory
from libs.common.events.topics import DIRECTORY_CHANGES
from libs.common.kafka.producer import Producer, Record
from libs.common.logging import get_logger
from services.ingest.identity_queries import find_senders
from services.ingest.items import CustomerPreference
from services.ingest.queries import StoredMessage

log = get_logger()

PUBLISH_EVERY = timedelta(seconds=1)
_AT_ONCE = 500
_MARKETING: ConsentCategory = "marketing"


async def store_keywords(db: Connection, messages: Sequence[StoredMessage]) -> None:
    """Store the consents that keywords among these messages change, in the transaction that stores the messages."""
    await consents.store_said(
        db,
        [
            SaidConsent(one.org_id, one.customer_id, _MARKETING, keyword == "start", one.at, "whatsapp", KEYWORD)
            for one in messages
            if one.customer_id is not None and (keyword := one.content.get("keyword")) is not None
        ],
    )


async def store_preferences(pool: Pool, preferences: Sequence[CustomerPreference], now: datetime) -> None:
    """Store the consents that customers switched in WhatsApp."""
    async with pool.acquire() as db, db.transaction():
        senders = await find_senders(db, [(one.phone_number_id, *one.sender.ids) for one in preferences])
        seen = [_seen(row.org_id, one) for row, one in zip(senders, preferences, strict=True)]
        over = await _of_erased(db, seen)
        seen = [over.get(n, one) for n, one in enumerate(seen)]
        found = await identities.resolve(db, seen, now)
        lost = [seen[n] for n in sorted(over) if found[n].customer_id is None]
        await suppressions.deny(
            db,
            [
                (one.org_id, id_, _MARKETING, one.at, "whatsapp", "preferences")
                for one in lost
                for id_ in (one.number, one.bsuid)
                if id_
            ],
        )
        said = [
            SaidConsent(one.org_id, who.customer_id, _MARKETING, told.marketing, one.at, "whatsapp", "preferences")
            for one, who, told in zip(seen, found, preferences, strict=True)
            if who.customer_id is not None
        ]
        await consents.store_said(db, said)
    if unknown := len(preferences) - len(said):
        metrics.WEBHOOKS_IGNORED.labels(kind="user_preferences").inc(unknown)


def _seen(org_id: str | None, one: CustomerPreference) -> Observation:
    """A look-up: who had these ids then. No holder loses one by it."""
    if org_id is None:
        raise Transient("a business number was taken out of the directory meanwhile")
    wa_id, bsuid = one.sender.ids
    number = None if wa_id is None else f"+{wa_id}"
    origin: Origin | None = None if one.marketing else "inbound"
    return Observation(org_id, number, wa_id, bsuid, one.at, "stale", name=one.sender.name, origin=origin)


async def _of_erased(db: Connection, seen: Sequence[Observation]) -> dict[int, Observation]:
    """What somebody said before they were erased, by its place: without the ids that somebody else had by then.

    A resume has no ids: it gives nothing to whoever has them now.
    """
    asked = [(n, id_) for n, one in enumerate(seen) for id_ in (one.number, one.bsuid) if id_]
    over = await erased_identities.over(db, [(seen[n].org_id, id_, seen[n].at) for n, id_ in asked])
    told: dict[int, Observation] = {}
    for place, passed_on in over.items():
        n, id_ = asked[place]
        one, resume = told.get(n, seen[n])._replace(origin=None), seen[n].origin is None
        if resume or (passed_on and id_ == one.number):
            one = one._replace(number=None, wa_id=None)
        if resume or (passed_on and id_ == one.bsuid):
            one = one._replace(bsuid=None)
        told[n] = one
    return told


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
