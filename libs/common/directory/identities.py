"""Which ids belong to which customer: each from a time on and until a time (docs/architecture/identities.md).

``resolve`` finds or creates the customers of messages, of intents' numbers and of notices. ``bind`` is for what Meta
says of a customer beside their messages: a Graph answer, a status, a number shared on request. Both follow the
register.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from libs.common.db.locks import IDENTITIES, lock
from libs.common.db.pool import Connection
from libs.common.directory import erased_identities, identity_changes, phone_claims, suppressions
from libs.common.directory.identity_facts import Id, Misattribution, Notice, Observation, notice_time
from libs.common.directory.identity_history import Origin, Person, Source
from libs.common.directory.identity_queries import (
    keep_notices,
    load,
    load_sharing,
    notices_of,
    write_customers,
    write_identities,
)
from libs.common.directory.identity_register import Register
from libs.common.directory.merge import Merge, merge_customers
from libs.common.directory.portal_access import end_access_of_customers
from libs.common.directory.suppressions import Acquired
from libs.common.errors import Transient
from libs.common.phone import canonical, from_wa_id, spellings
from libs.common.thread import conversations, parting
from libs.common.thread.conversations import ConversationAddress
from libs.common.thread.parting import SenderFilter, ThreadMessage

STALE = timedelta(days=7)
"""How long Meta tries to deliver a webhook. What is older changes no identity."""

__all__ = [
    "STALE",
    "Binding",
    "Notice",
    "Observation",
    "Resolved",
    "Source",
    "bind",
    "finish",
    "open_register",
    "resolve",
]


@dataclass(frozen=True, slots=True)
class Binding:
    """These ids are one person as of ``at``, by ``source``.

    At least one of ``wa_id``, ``bsuid`` and ``phone`` is named.
    ``wa_id`` is digits, ``phone`` E.164. Of a message of ours ``phone`` is the number that it was sent to, and
    ``customer_id`` whom it was meant for: they get the ids that have no other holder. The conversation with
    ``phone_number_id`` gets the address.
    """

    org_id: str
    phone_number_id: str | None
    customer_id: UUID | None
    wa_id: str | None
    bsuid: str | None
    phone: str | None
    at: datetime
    source: Source


class LaterIds(NamedTuple):
    """The ids that a customer has now, since a notice."""

    since: datetime
    wa_id: str | None
    bsuid: str | None


class Resolved(NamedTuple):
    """Whose ids they are; ``customer_id`` is None where they have no known holder.

    ``wa_id`` and ``bsuid`` (of a notice the new ones) are None where they are not the customer's any more. ``later``:
    of ids that the customer gave up, by a notice, after they were seen.
    """

    customer_id: UUID | None
    wa_id: str | None
    bsuid: str | None
    later: LaterIds | None = None


async def bind(db: Connection, bindings: Sequence[Binding], now: datetime) -> None:
    """Let these ids lead to one customer each.

    Idempotent, and the same in any order. What is older than seven days has no effect.

    Call in a transaction that holds no messages, sends or conversations yet: a merge of customers locks them in its own
    order.
    """
    useful = [one for one in bindings if (one.wa_id or one.bsuid or one.phone) and now - one.at <= STALE]
    if not useful:
        return
    found = await resolve(db, [_observation(one) for one in useful], now)
    addresses: dict[tuple[str, str], ConversationAddress] = {}
    for one, who in sorted(zip(useful, found, strict=True), key=lambda pair: pair[0].at):
        if one.phone_number_id is not None and who.customer_id is not None and (who.wa_id or who.bsuid):
            key = (str(who.customer_id), one.phone_number_id)
            before = addresses.get(key, ConversationAddress(one.org_id, who.customer_id, one.phone_number_id))
            if who.wa_id is not None:
                before = before._replace(wa_id=who.wa_id, wa_id_at=one.at)
            if who.bsuid is not None:
                before = before._replace(bsuid=who.bsuid, bsuid_at=one.at)
            addresses[key] = before
    await conversations.readdress(db, [addresses[key] for key in sorted(addresses)])


def _observation(one: Binding) -> Observation:
    number = from_wa_id(one.wa_id) or one.phone
    origin: Origin = "inbound" if one.source == "shared" else "outbound"
    sent_to = None if one.phone is None else canonical(one.phone)
    return Observation(
        *(one.org_id, number, one.wa_id, one.bsuid, one.at, one.source),
        meant=one.customer_id,
        origin=origin,
        sent_to=sent_to,
    )


async def resolve(db: Connection, facts: Sequence[Observation | Notice], now: datetime) -> list[Resolved]:
    """Whose each of these is, in the order given; for a notice: who changed.

    Unknown customers are created where an observation allows it. What was meant for a customer who was erased is
    nobody's, and binds nothing.

    Merges, parted threads and moved addresses are done in the same transaction, which the caller opens. Raises
    Transient where another transaction resolves the same ids at this moment.
    """
    meant = {one.meant for one in facts if isinstance(one, Observation) and one.meant is not None}
    register = await open_register(db, {i for one in facts for i in one.ids}, meant)
    mine = [one for one in facts if isinstance(one, Notice)]
    await keep_notices(db, mine, now)
    kept = sorted(set(register.notices) - set(mine), key=notice_time)
    register.notices.add(*mine)
    mistakes: list[Misattribution] = []
    found: dict[int, Person | None] = {}
    last: dict[Notice, Person] = {}
    # of one second the notice comes first: a message of that second has the new ids already
    for place, one in sorted(
        [*enumerate(facts), *((-1, n) for n in kept)], key=lambda p: (p[1].at, isinstance(p[1], Observation))
    ):
        if isinstance(one, Notice):
            found[place], ended = identity_changes.change(register, one)
            mistakes += ended
        else:
            found[place] = None if register.is_erased(one.meant) else register.see(one)
    for notice in sorted(register.notices, key=notice_time):
        person, ended = identity_changes.change(register, notice)
        mistakes += ended
        if person is not None:
            last[notice] = person
    found |= {place: last[one] for place, one in enumerate(facts) if isinstance(one, Notice) and one in last}
    await finish(db, register, mistakes)
    return [_resolved(register, one, found[place]) for place, one in enumerate(facts)]


async def open_register(db: Connection, ids: Iterable[Id], customers: Iterable[UUID]) -> Register:
    """The register with these identities and customers, and with every notice that concerns them.

    They are locked until the end.
    """
    named, notices = set(ids), set[Notice]()
    while more := await notices_of(db, named) - notices:  # a notice leads to ids that other notices may name
        notices |= more
        named |= {i for notice in more for i in notice.ids}
    names = {_lock_name(*i) for i in named} | {f"customer:{customer_id}" for customer_id in customers}
    await lock(db, IDENTITIES, names)
    register = Register()
    register.notices.add(*await notices_of(db, named))
    if any(i not in named for notice in register.notices for i in notice.ids):
        raise Transient("a notice came meanwhile")
    await load(db, register, named, customers)
    lines = {(org_id, value) for org_id, kind, value in named if kind == "phone"}
    register.given_up = await erased_identities.given_up(db, lines)
    return register


def _lock_name(org_id: str, kind: str, value: str) -> str:
    """All numbers of a line have one name: a message from a number and an intent to it create one customer."""
    return f"identity:{org_id}:{kind}:{canonical(value) if kind == 'phone' else value}"


async def finish(db: Connection, register: Register, mistakes: Sequence[Misattribution]) -> None:
    """Write all that changed, and what follows for merged, parted and moved customers."""
    mistakes = [
        one for one in (*register.mistakes, *mistakes) if one.stranger is None or one.stranger.now is not one.person.now
    ]
    if register.freed:
        await load_sharing(db, register, {(one.person.org_id, one.line) for one in register.freed})
        phone_claims.inherit(register)
    asked = [_asked(register, mistake) for mistake in mistakes]
    parted = [
        (identity_changes.part(register, mistake, first), messages)
        for mistake, messages in zip(mistakes, await parting.messages_from(db, asked), strict=True)
        if (first := _first_seen(mistake, messages)) is not None
    ]
    await write_customers(db, [*register.people.values(), *register.fresh])
    touched = register.touched.values()
    await end_access_of_customers(db, [(p.org_id, p.customer_id) for p in touched if p.customer_id is not None])
    merges = {
        Merge(loser.org_id, loser.customer_id, loser.now.customer_id)
        for loser, _ in register.joins
        if loser.customer_id is not None and loser.now.customer_id is not None
    }
    await merge_customers(db, sorted(merges, key=str))
    await write_identities(db, register)
    await _follow(db, register)
    # several notices may take the same message out of a thread: it goes to the last of their strangers, once
    moved = {one.message_id: (stranger.now, one) for stranger, messages in parted for one in messages}
    theirs: dict[int, tuple[Person, list[ThreadMessage]]] = {}
    for stranger, one in moved.values():
        theirs.setdefault(id(stranger), (stranger, []))[1].append(one)
    for stranger, messages in theirs.values():
        await _split(db, stranger, messages)
    await suppressions.follow(db, _acquired(register))
    # notices that contradict each other: what one takes out of a thread, another one may put there
    if any(one.message_id not in moved for left in await parting.messages_from(db, asked) for one in left):
        raise Transient("a message was stored meanwhile")  # before the conversation was locked, which it is now


def _acquired(register: Register) -> Iterator[Acquired]:
    """Every number and BSUID that a customer has now, and had not before."""
    for person in (*register.people.values(), *register.fresh):
        had = None if person.stored is None else person.stored[1]
        if person.customer_id is not None and person.phone is not None and person.phone != had:
            yield person.org_id, person.customer_id, person.phone
    for (org_id, _, value), history in register.histories.items():
        now = history.current
        if now is not None and now.customer_id is not None and (now.stored is None or now.stored[0] is not now.owner):
            yield org_id, now.customer_id, value


def _first_seen(mistake: Misattribution, messages: Sequence[ThreadMessage]) -> datetime | None:
    """When a stranger was first seen, who wrote these messages; None where nothing shows one."""
    if messages:
        return min(one.occurred_at for one in messages)
    return mistake.at if mistake.bsuids and mistake.stranger is None else None


def _asked(register: Register, mistake: Misattribution) -> SenderFilter:
    """What a stranger wrote in the threads of the person who had given the line up."""
    ids = {p.customer_id for p in register.people.values() if p.now is mistake.person.now and p.customer_id is not None}
    wa_ids = [number.removeprefix("+") for number in spellings(mistake.line)]
    return SenderFilter(mistake.person.org_id, sorted(ids), wa_ids, list(mistake.bsuids), mistake.at, mistake.until)


async def _split(db: Connection, stranger: Person, messages: list[ThreadMessage]) -> None:
    if stranger.customer_id is not None:
        who, org_id = stranger.customer_id, stranger.org_id
        numbers = sorted({one.phone_number_id for one in messages}, key=lambda number: number or "")
        await conversations.ensure(db, [ConversationAddress(org_id, who, number) for number in numbers])
        await parting.split(db, org_id, who, messages)


async def _follow(db: Connection, register: Register) -> None:
    """No conversation keeps an address that is not its customer's.

    Moved customers get the new ids and a closed window.
    """
    own: dict[UUID, tuple[str, UUID, datetime | None, str | None, str | None]] = {}
    for person in register.touched.values():
        if person.now.customer_id is not None:
            own[person.now.customer_id] = (person.org_id, person.now.customer_id, None, None, None)
    closed: dict[UUID, tuple[str, UUID, datetime]] = {}
    for one in sorted(register.moves, key=lambda m: m.at):
        who = one.person.now
        if who.customer_id is not None:
            wa_id, bsuid = _theirs(register, who, one.wa_id, one.bsuid)
            if wa_id is None and bsuid is None:
                wa_id, bsuid = _present(register, who)
            own[who.customer_id] = (who.org_id, who.customer_id, one.at, wa_id, bsuid)
            closed[who.customer_id] = (who.org_id, who.customer_id, one.at)
    await conversations.replace_foreign_addresses(db, [own[key] for key in sorted(own)])
    await conversations.close_windows(db, [closed[key] for key in sorted(closed)])


def _resolved(register: Register, one: Observation | Notice, person: Person | None) -> Resolved:
    if person is None:
        return Resolved(None, None, None)
    who = person.now
    if isinstance(one, Notice):
        new = None if one.new_number is None else one.new_number.removeprefix("+")
        return Resolved(who.customer_id, *_theirs(register, who, new, one.new_bsuid))
    return Resolved(who.customer_id, *_theirs(register, who, one.wa_id, one.bsuid), _later(register, one, who))


def _later(register: Register, one: Observation, who: Person) -> LaterIds | None:
    """The ids that this person has now, where those of the observation were given up since."""
    given_up = (
        h.owner is who and h.ended_by == "notice" and h.until is not None and h.until >= one.at
        for identity in one.ids
        for h in register.history(identity).holdings
    )
    if not any(given_up):
        return None
    ended = (h.until for h in register.held_by(who) if h.ended_by == "notice" and h.until is not None)
    return LaterIds(max(ended), *_present(register, who))


def _present(register: Register, who: Person) -> tuple[str | None, str | None]:
    """wa_id and BSUID that this person has now, of several the last."""
    wa_ids = [(h.since, wa_id) for (_, wa_id), h in register.spelled.items() if _theirs(register, who, wa_id, None)[0]]
    bsuids = [(h.since, h.value) for h in register.held_by(who) if h.kind == "bsuid" and h.until is None]
    return max(wa_ids)[1] if wa_ids else None, max(bsuids)[1] if bsuids else None


def _theirs(register: Register, who: Person, wa_id: str | None, bsuid: str | None) -> tuple[str | None, str | None]:
    """Those of the two that this person has now."""
    spelled = None if wa_id is None else register.spelled.get((who.org_id, wa_id))
    if spelled is not None:
        there = register.history((who.org_id, "phone", spelled.line or "")).current
        wa_id = wa_id if there is not None and there.owner is who else None
    else:
        wa_id = None
    known = None if bsuid is None else register.history((who.org_id, "bsuid", bsuid)).current
    return wa_id, bsuid if known is not None and known.owner is who else None
