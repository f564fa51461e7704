"""Concatenated SMS: parts that come in any order, over batches and replicas, become one message.

Rule 1: a part is stored before its offset is committed, once for each provider id.
Rule 2: a message is complete when all its parts are there. A phone uses the same reference again after some messages,
        so a second part of one number begins another message.
Rule 3: a part that never comes holds the others for ``WAIT`` at most. Then what is there is published, marked as
        ``incomplete``. A part that comes later is a message of its own, marked alike.
Rule 4: a message that was closed is published until that has happened: by the batch that closed it, else by the task.
Rule 5: a batch costs no more where a sender leaves very many messages incomplete. Of those with one reference the
        oldest are looked at (``sms_queries.MOST_OPEN``).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID, uuid4

from libs.common.countries import ANYWHERE, country_of
from libs.common.db.pool import Pool
from services.ingest import sms_queries
from services.ingest.items import InboundSms, SmsPart
from services.ingest.sms_queries import Concat, JoinRow, PartRow

WAIT = timedelta(seconds=60)
CHECK_EVERY = timedelta(seconds=5)
AT_ONCE = 200
ROUNDS = 50
"""How many times as many the task publishes in one run. Who sends parts alone cannot delay the others for long."""
GAP = "[…]"
"""Stands in the text where a part is missing."""


class OrgSms(NamedTuple):
    """An SMS and whose it is. ``join_id`` and ``parts`` are of one that was joined; ``parts`` are the numbers there."""

    org_id: str
    country: str | None
    sms: InboundSms
    join_id: UUID | None = None
    parts: tuple[int, ...] = ()
    total: int = 0


def country_called(told: str | None, number: str) -> str | None:
    """The organisation's country: the one that it tells, else that of its number. None: neither is known."""
    found = told or country_of(number)
    return None if found == ANYWHERE else found


@dataclass(slots=True)
class Plan:
    """What to store for a batch of parts, and which messages are complete by them, or were before."""

    joins: list[JoinRow]
    parts: list[PartRow]
    complete: dict[UUID, JoinRow]


def plan(known: Iterable[JoinRow], arrived: Sequence[OrgSms]) -> Plan:
    """Sort the parts to their messages. Pure but for the ids of new joins."""
    joins = {join.join_id: join for join in known}
    waiting: dict[Concat, list[UUID]] = {}
    for known_one in joins.values():
        if not known_one.closed:
            waiting.setdefault(known_one.concat, []).append(known_one.join_id)
    there = {join_id: {part.number for part in join.parts} for join_id, join in joins.items()}
    stored = {_key(part): join_id for join_id, join in joins.items() for part in join.parts}
    made = Plan([], [], {})
    fresh: list[UUID] = []
    touched: list[UUID] = []
    for one in arrived:
        sms, part = one.sms, one.sms.part
        if part is None:
            raise ValueError("this SMS is no part")
        key = (sms.provider, sms.to, sms.provider_id)
        if key in stored:
            touched.append(stored[key])
            continue
        concat = _concat(one, part)
        open_ones = waiting.setdefault(concat, [])
        join = next((joins[j] for j in open_ones if part.number not in there[j]), None)
        if join is None:
            join = JoinRow(uuid4(), *concat, closed=False)
            fresh.append(join.join_id)
            open_ones.append(join.join_id)
            there[join.join_id] = set()
        there[join.join_id].add(part.number)
        row = PartRow(
            *(sms.provider, sms.to, sms.provider_id, one.org_id, join.join_id, part.number, sms.text),
            *(sms.at or sms.received_at, sms.received_at),
        )
        joins[join.join_id] = replace(join, parts=tuple(sorted((*join.parts, row), key=lambda p: p.number)))
        stored[key] = join.join_id
        made.parts.append(row)
        touched.append(join.join_id)
    made.joins = [joins[join_id] for join_id in fresh]
    made.complete = {
        join_id: joins[join_id]
        for join_id in touched
        if joins[join_id].closed or len(joins[join_id].parts) == joins[join_id].total
    }
    return made


def _key(part: PartRow) -> tuple[str, str, str]:
    return part.provider, part.account, part.provider_id


def _concat(one: OrgSms, part: SmsPart) -> Concat:
    sms = one.sms
    return Concat(one.org_id, sms.provider, sms.to, sms.sender, part.ref, part.total)


def joined(join: JoinRow, country: str | None) -> OrgSms:
    """The message of these parts, under the provider id of its first. Missing ones leave a gap in the text."""
    there = {part.number: part for part in join.parts}
    pieces: list[str] = []
    for number in range(1, join.total + 1):
        if number in there:
            pieces.append(there[number].text or "")
        elif not pieces or pieces[-1] != GAP:
            pieces.append(GAP)
    binary = all(part.text is None for part in join.parts)
    first = join.parts[0]
    sms = InboundSms(
        provider=join.provider,  # type: ignore[arg-type]  # as it was stored
        account="",
        provider_id=first.provider_id,
        to=join.account,
        sender=join.sender,
        text=None if binary else "".join(pieces),
        received_at=min(part.received_at for part in join.parts),
        at=min(part.at for part in join.parts),
    )
    return OrgSms(join.org_id, country, sms, join.join_id, tuple(sorted(there)), join.total)


async def join_parts(pool: Pool, arrived: Sequence[OrgSms]) -> list[OrgSms]:
    """Store these parts. Returns the messages that are complete, each once."""
    if not arrived:
        return []
    countries = {one.org_id: one.country for one in arrived}
    senders = sorted({(one.org_id, one.sms.to, one.sms.sender) for one in arrived})
    concats = sorted({_concat(one, one.sms.part) for one in arrived if one.sms.part is not None})
    ids = sorted({(one.sms.provider, one.sms.to, one.sms.provider_id) for one in arrived})
    async with pool.acquire() as db, db.transaction():
        await sms_queries.lock_senders(db, senders)
        made = plan(await sms_queries.joins_of(db, concats, ids), arrived)
        await sms_queries.add_parts(db, made.joins, made.parts, list(made.complete))
    return [joined(join, countries.get(join.org_id)) for join in made.complete.values()]
