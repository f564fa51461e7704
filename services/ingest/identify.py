"""Identity → customer → conversation.

Rule 1: two workers that meet the same new customer end with one customer and one conversation: whoever settles an identity is alone with it.
Rule 2: what is known and as new as what is known costs one look by key; whose an id was at an older time is asked of the register
        (``libs.common.directory``), as is all that is new.
Rule 3: a notice of the system makes no customer and no conversation. Of people who are known it stands in their thread, where there is one.
Rule 4: what is older than Meta's seven days finds its person and changes nothing of who is who.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from libs.common.db.pool import Connection, Pool
from libs.common.directory.identities import STALE, Notice, Resolved, Sighting, Source, end_links_of, resolve
from libs.common.errors import Transient
from libs.common.phone import canonical
from libs.common.thread import conversations
from libs.common.thread.conversations import Address
from services.ingest import queries
from services.ingest.queries import Found
from services.ingest.understood import Sender

_ROUNDS = 4


class Wanted(NamedTuple):
    """A sender of a business number of ``org_id``, seen at ``at``."""

    org_id: str
    phone_number_id: str
    sender: Sender
    at: datetime
    received_at: datetime


class Changed(NamedTuple):
    """A notice: whoever was ``before`` is ``now`` since ``at``. ``alarm``: the number may be in other hands, though nothing of it changed."""

    org_id: str
    phone_number_id: str
    before: Sender
    now: Sender
    at: datetime
    received_at: datetime
    alarm: bool = False

    @property
    def sender(self) -> Sender:
        return self.before


class Place(NamedTuple):
    """Where an item belongs; ``settled``: how often who is behind the conversation had been settled anew when it was found."""

    org_id: str
    conversation_id: UUID
    settled: int


def is_settled(found: Found, wanted: Wanted) -> bool:
    """Whether every id of the sender leads to one conversation that is reached by these ids, and did so when they were seen."""
    wa_id, bsuid = wanted.sender.ids
    return (
        found.conversation_id is not None
        and (wa_id is None or (found.by_wa_id is not None and found.wa_id == wa_id))
        and (found.since is None or found.since <= wanted.at)
        and (bsuid is None or (found.by_bsuid is not None and found.bsuid == bsuid))
        and (wa_id is None or bsuid is None or found.by_wa_id == found.by_bsuid)
    )


async def places(pool: Pool, asked: Sequence[Wanted | Changed], now: datetime) -> list[Place | None]:
    """Where each belongs, in the order given; ``org_id`` is filled in here. None: a notice of nobody who has a thread.

    What one of them changes may concern another, so that whatever is not placed yet is looked up again.
    """
    placed: dict[int, Place | None] = {}
    async with pool.acquire() as db:
        for _ in range(_ROUNDS):
            open_ = {n: one for n, one in enumerate(asked) if n not in placed}
            if not open_:
                return [placed[n] for n in range(len(asked))]
            senders = list(dict.fromkeys((one.phone_number_id, *one.sender.ids) for one in open_.values()))
            found = dict(zip(senders, await queries.find(db, senders), strict=True))
            unsettled: dict[int, Wanted | Changed] = {}
            for n, one in open_.items():
                there = found[one.phone_number_id, *one.sender.ids]
                if there.org_id is None or there.phone_number_id is None:
                    raise Transient("a business number was taken out of the directory meanwhile")
                if isinstance(one, Changed) or not is_settled(there, one):
                    unsettled[n] = one._replace(org_id=there.org_id, phone_number_id=there.phone_number_id)
                elif there.conversation_id is not None and there.settled is not None:
                    placed[n] = Place(there.org_id, there.conversation_id, there.settled)
            if not unsettled:
                return [placed[n] for n in range(len(asked))]
            placed = {n: place for n, place in placed.items() if n not in open_}
            async with db.transaction():
                found_now = await settle(db, list(unsettled.values()), now)
                placed = await _after(db, placed) | dict(zip(unsettled, found_now, strict=True))
    raise Transient("who is who changes all the time")


async def settle(db: Connection, wanted: Sequence[Wanted | Changed], now: datetime) -> list[Place | None]:
    """Make every sender known, and every change of identity true. Call inside a transaction of its own."""
    resolved = await resolve(db, [_told(one) for one in wanted], now)
    await conversations.ensure(db, _addresses(wanted, resolved))
    alarmed = [
        (one.org_id, who.customer_id, one.at)
        for one, who in zip(wanted, resolved, strict=True)
        if isinstance(one, Changed) and one.alarm and who.customer_id is not None and not _stale(one)
    ]
    await end_links_of(db, [(org_id, customer_id) for org_id, customer_id, _ in alarmed])
    await conversations.close_windows(db, alarmed)
    known = [
        (n, one, who.customer_id)
        for n, (one, who) in enumerate(zip(wanted, resolved, strict=True))
        if who.customer_id is not None
    ]
    found = await conversations.find(db, [(one.org_id, who, one.phone_number_id) for _, one, who in known])
    placed: list[Place | None] = [None] * len(wanted)
    for (n, one, _), thread in zip(known, found, strict=True):
        placed[n] = None if thread is None else Place(one.org_id, *thread)
    return placed


async def _after(db: Connection, placed: dict[int, Place | None]) -> dict[int, Place | None]:
    """The same places after what was settled in the same call: that outdates none of them."""
    known = {n: place for n, place in placed.items() if place is not None}
    settled = await conversations.settled(db, [(place.org_id, place.conversation_id) for place in known.values()])
    after = {
        n: p if now is None else p._replace(settled=now) for (n, p), now in zip(known.items(), settled, strict=True)
    }
    return placed | after


def _told(one: Wanted | Changed) -> Sighting | Notice:
    wa_id, bsuid = one.sender.ids
    if isinstance(one, Wanted):
        source: Source = "stale" if _stale(one) else "message"
        return Sighting(
            one.org_id,
            _number(wa_id),
            wa_id,
            bsuid,
            one.at,
            source,
            name=one.sender.name,
            origin="inbound",
            also=one.sender.also,
        )
    if one.alarm or _stale(one) or one.now.ids == (None, None):  # who is it? nothing is bound
        return Sighting(one.org_id, _number(wa_id), wa_id, bsuid, one.at, "stale")
    new = _number(one.now.wa_id)
    return Notice(one.org_id, _line(_number(wa_id)), bsuid, _line(new), one.now.bsuid, one.at, new)


def _stale(one: Wanted | Changed) -> bool:
    return one.received_at - one.at > STALE


def _number(wa_id: str | None) -> str | None:
    return None if wa_id is None else f"+{wa_id}"


def _line(number: str | None) -> str | None:
    return None if number is None else canonical(number)


def _addresses(wanted: Sequence[Wanted | Changed], resolved: Sequence[Resolved]) -> list[Address]:
    """Per customer and business number the newest word on how to reach them. A notice gives it to conversations of messages alone."""
    newest: dict[tuple[str, str], Address] = {}
    for one, who in zip(wanted, resolved, strict=True):
        if isinstance(one, Changed):
            continue
        if who.customer_id is None:
            raise RuntimeError("a message has no customer")
        key = str(who.customer_id), one.phone_number_id
        newest[key] = Address(one.org_id, who.customer_id, one.phone_number_id)
    for one, who in sorted(zip(wanted, resolved, strict=True), key=lambda pair: pair[0].at):
        theirs = str(who.customer_id), one.phone_number_id
        for key in [theirs] if isinstance(one, Wanted) else [k for k in newest if k[0] == theirs[0]]:
            if who.wa_id is not None:
                newest[key] = newest[key]._replace(wa_id=who.wa_id, wa_id_at=one.at)
            if who.bsuid is not None:
                newest[key] = newest[key]._replace(bsuid=who.bsuid, bsuid_at=one.at)
    return [newest[key] for key in sorted(newest)]
