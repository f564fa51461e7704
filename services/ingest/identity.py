"""Identity → customer → conversation.

Rule 1: two workers that meet the same new customer end with one customer and one conversation. Each holds the locks of
        the ids that it resolves.
Rule 2: a known sender costs one look-up by key. The directory (``libs.common.directory.identities``) resolves new
        senders, and the holder of an id at an older time.
Rule 3: a notice of the system creates no customer and no conversation. The notice of a known customer goes into their
        thread, where there is one.
Rule 4: a message of a customer who was erased goes where it is stored, whoever has its sender's ids now. So does one
        that another organisation stored while it had the business number. It creates nobody.
Rule 5: a call or a change of identity of before its customer was erased comes to nothing.
Rule 6: an item that is older than Meta's seven days finds its customer and changes no identity.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from libs.common.db.pool import Connection, Pool
from libs.common.directory import erased_identities, identities
from libs.common.directory.identities import STALE, Notice, Observation, Resolved, Source
from libs.common.directory.portal_access import end_access_of_customers
from libs.common.errors import Transient
from libs.common.phone import canonical
from libs.common.thread import conversations
from libs.common.thread.conversations import ConversationAddress
from services.ingest.identity_queries import SenderRow, find_senders, fixed_places
from services.ingest.items import CustomerCall, CustomerMessage, IdentityChange, StaffEcho
from services.ingest.queries import Place

_ROUNDS = 4

OfCustomer = CustomerMessage | CustomerCall | IdentityChange
Placeable = OfCustomer | StaffEcho


class IdentityRequest(NamedTuple):
    """An item whose customer is to be resolved. ``phone_number_id``: under which its number's conversations are."""

    org_id: str
    phone_number_id: str
    item: Placeable


def is_known(row: SenderRow, item: Placeable) -> bool:
    """Whether every id of the sender leads to one conversation that these ids reach, also when they were seen.

    And whether its customer needs no name, or is told none.
    """
    wa_id, bsuid = item.sender.ids
    return (
        row.conversation_id is not None
        and (wa_id is None or (row.by_wa_id is not None and row.wa_id == wa_id))
        and (row.since is None or row.since <= item.at)
        and (bsuid is None or (row.by_bsuid is not None and row.bsuid == bsuid))
        and (wa_id is None or bsuid is None or row.by_wa_id == row.by_bsuid)
        and (item.sender.name is None or not row.nameless)
    )


async def places(pool: Pool, items: Sequence[Placeable], now: datetime) -> list[Place | None]:
    """Where each item belongs, in the order given.

    None: a notice of a customer who has no thread, or is unknown; a notice or a call of one who was erased since.
    What one item changes may concern another, so items without a place are looked up again.
    """
    placed: dict[int, Place | None] = {}
    async with pool.acquire() as db:
        for _ in range(_ROUNDS):
            left = {n: item for n, item in enumerate(items) if n not in placed}
            if not left:
                return [placed[n] for n in range(len(items))]
            senders = list(dict.fromkeys((item.phone_number_id, *item.sender.ids) for item in left.values()))
            rows = dict(zip(senders, await find_senders(db, senders), strict=True))
            unknown: dict[int, IdentityRequest] = {}
            for n, item in left.items():
                row = rows[item.phone_number_id, *item.sender.ids]
                if row.org_id is None or row.phone_number_id is None:
                    raise Transient("a business number was taken out of the directory meanwhile")
                if isinstance(item, IdentityChange) or not is_known(row, item):
                    unknown[n] = IdentityRequest(row.org_id, row.phone_number_id, item)
                elif row.conversation_id is not None and row.identity_version is not None:
                    placed[n] = Place(row.org_id, row.conversation_id, row.identity_version)
            fixed = await _fixed(db, unknown)
            placed |= fixed
            unknown = {n: one for n, one in unknown.items() if n not in fixed}
            if not unknown:
                return [placed[n] for n in range(len(items))]
            placed = {n: place for n, place in placed.items() if n not in left}
            async with db.transaction():
                resolved = await resolve(db, list(unknown.values()), now)
                placed = await _refreshed(db, placed) | dict(zip(unknown, resolved, strict=True))
    raise Transient("identities change all the time")


async def _fixed(db: Connection, unknown: Mapping[int, IdentityRequest]) -> dict[int, Place | None]:
    """A message that stays where it is stored (rule 4); a call and a notice of one who was erased go nowhere."""
    again: dict[int, tuple[str, str, str, str]] = {}
    asked: list[tuple[int, tuple[str, str, datetime]]] = []
    for n, (org_id, _, item) in unknown.items():
        if not isinstance(item, IdentityChange | CustomerCall):
            again[n] = (org_id, "meta", item.phone_number_id, item.provider_id)
            continue
        ids = _number(item.sender.wa_id), item.sender.bsuid
        asked += [(n, (org_id, identity, item.at)) for identity in ids if identity is not None]
    stored = zip(again, await fixed_places(db, list(again.values())), strict=True)
    over = await erased_identities.over(db, [row for _, row in asked])
    return {n: place for n, place in stored if place is not None} | {asked[place][0]: None for place in over}


async def resolve(db: Connection, requests: Sequence[IdentityRequest], now: datetime) -> list[Place | None]:
    """Register every sender, and apply every change of identity. Call inside a transaction of its own."""
    resolved = await identities.resolve(db, [_seen(request) for request in requests], now)
    await conversations.ensure(db, _addresses(requests, resolved))
    await _follow_changes(db, requests, resolved)
    alarmed = [
        (request.org_id, who.customer_id, request.item.at)
        for request, who in zip(requests, resolved, strict=True)
        if isinstance(request.item, IdentityChange)
        and request.item.alarm
        and who.customer_id is not None
        and not _stale(request.item)
    ]
    await end_access_of_customers(db, [(org_id, customer_id) for org_id, customer_id, _ in alarmed])
    await conversations.close_windows(db, alarmed)
    known = [
        (n, request, who.customer_id)
        for n, (request, who) in enumerate(zip(requests, resolved, strict=True))
        if who.customer_id is not None
    ]
    threads = await conversations.find(
        db, [(request.org_id, customer_id, request.phone_number_id) for _, request, customer_id in known]
    )
    found: list[Place | None] = [None] * len(requests)
    for (n, request, _), thread in zip(known, threads, strict=True):
        if thread is None and not isinstance(request.item, IdentityChange):
            raise Transient("a business number moved meanwhile")
        found[n] = None if thread is None else Place(request.org_id, thread.conversation_id, thread.identity_version)
    return found


async def _follow_changes(db: Connection, requests: Sequence[IdentityRequest], resolved: Sequence[Resolved]) -> None:
    """What was written before a change, and comes after it, may have made the conversation just now."""
    changed = {
        who.customer_id: (request.org_id, who.customer_id, *who.later)
        for request, who in zip(requests, resolved, strict=True)
        if who.customer_id is not None and who.later is not None
    }
    people = [changed[key] for key in sorted(changed)]
    await conversations.replace_foreign_addresses(db, people)
    await conversations.close_windows(db, [one[:3] for one in people])


async def _refreshed(db: Connection, placed: dict[int, Place | None]) -> dict[int, Place | None]:
    """The same places with the present identity version, so that the changes of this call outdate none of them."""
    known = {n: place for n, place in placed.items() if place is not None}
    versions = await conversations.identity_versions(db, [(p.org_id, p.conversation_id) for p in known.values()])
    return placed | {
        n: place if version is None else place._replace(identity_version=version)
        for (n, place), version in zip(known.items(), versions, strict=True)
    }


def _seen(request: IdentityRequest) -> Observation | Notice:
    org_id, _, item = request
    wa_id, bsuid = item.sender.ids
    number = _number(wa_id)
    if not isinstance(item, IdentityChange):
        source: Source = "stale" if _stale(item) else "message"
        name, also = item.sender.name, item.sender.also
        return Observation(org_id, number, wa_id, bsuid, item.at, source, name=name, origin="inbound", also=also)
    if item.alarm or _stale(item) or item.now.ids == (None, None):  # a look-up only: nothing is bound
        return Observation(org_id, number, wa_id, bsuid, item.at, "stale")
    new = _number(item.now.wa_id)
    return Notice(org_id, _line(number), bsuid, _line(new), item.now.bsuid, item.at, new)


def _stale(item: Placeable) -> bool:
    return item.received_at - item.at > STALE


def _number(wa_id: str | None) -> str | None:
    return None if wa_id is None else f"+{wa_id}"


def _line(number: str | None) -> str | None:
    return None if number is None else canonical(number)


def _addresses(requests: Sequence[IdentityRequest], resolved: Sequence[Resolved]) -> list[ConversationAddress]:
    """Per customer and business number the newest word on how to reach them.

    A notice has one only for conversations of messages here.
    """
    newest: dict[tuple[str, str], ConversationAddress] = {}
    for request, who in zip(requests, resolved, strict=True):
        if isinstance(request.item, IdentityChange):
            continue
        if who.customer_id is None:
            raise RuntimeError("a message has no customer")
        key = str(who.customer_id), request.phone_number_id
        newest[key] = ConversationAddress(request.org_id, who.customer_id, request.phone_number_id)
    for request, who in sorted(zip(requests, resolved, strict=True), key=lambda pair: pair[0].item.at):
        own = str(who.customer_id), request.phone_number_id
        of_customer = [key for key in newest if key[0] == own[0]]
        for key in of_customer if isinstance(request.item, IdentityChange) else [own]:
            if who.wa_id is not None:
                newest[key] = newest[key]._replace(wa_id=who.wa_id, wa_id_at=request.item.at)
            if who.bsuid is not None:
                newest[key] = newest[key]._replace(bsuid=who.bsuid, bsuid_at=request.item.at)
    return [newest[key] for key in sorted(newest)]
