"""The bridge slot of a conversation: at most one bridge SMS per conversation in any 24 hours. Pure.

Redis and PostgreSQL both name a holder. What a request for a slot comes to:

| Redis | the facts, read from PostgreSQL before | the request |
| --- | --- | --- |
| held by another intent | held by the same one | refused: PostgreSQL is not asked again |
| held by another intent | free, or held by a third | PostgreSQL decides: the key or the facts are out of date |
| free, or held by this intent | anything | PostgreSQL decides: Redis may have lost its keys |
| unavailable | anything | PostgreSQL decides |
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from libs.common.events.outbound import OutboundRefused


class Slot(NamedTuple):
    """The bridge of ``intent_id`` holds, or asks for, the slot of ``conversation_id``."""

    org_id: str
    conversation_id: UUID
    intent_id: UUID


class Silenced(NamedTuple):
    """An intent whose attempt ``attempt`` is silent because the bridge of ``holder`` held the slot."""

    org_id: str
    conversation_id: UUID
    intent_id: UUID
    attempt: int
    holder: UUID

    def freed(self, now: datetime) -> OutboundRefused:
        """The event by which the router decides the intent again: its slot is free."""
        return OutboundRefused.of((self.org_id, self.intent_id, self.attempt), self.conversation_id, "slot_freed", now)


Holders = Mapping[UUID, UUID | None]
"""By conversation, the intent that holds its slot; None where that is not known or none does."""


def refused_by_redis(requests: Sequence[Slot], redis_holders: Holders, known_holders: Holders) -> dict[UUID, UUID]:
    """By conversation, the other intent that holds the slot, where Redis and the facts name the same one."""
    refused = {}
    for request in requests:
        holder = redis_holders[request.conversation_id]
        if holder is not None and holder != request.intent_id and holder == known_holders[request.conversation_id]:
            refused[request.conversation_id] = holder
    return refused


def stale_in_redis(requests: Sequence[Slot], redis_holders: Holders, holders: Mapping[UUID, UUID]) -> list[Slot]:
    """The slots as PostgreSQL has them, where Redis names another holder or was not asked.

    Where it was unavailable it is left alone.
    """
    held = [request._replace(intent_id=holders[request.conversation_id]) for request in requests]
    return [slot for slot in held if redis_holders.get(slot.conversation_id, slot) not in (None, slot.intent_id)]
