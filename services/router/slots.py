"""The bridge slot between its two gates: who asks, and what Redis must be told afterwards. Pure.

Only an intent whose decision would be *bridge* touches a slot, at most one per conversation and batch: the first one. The others of its
conversation are told its answer.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from libs.common.bridge.slot import Slot
from services.router.decide import Bridge, Decision, decide
from services.router.outcome import Case


class Alignment(NamedTuple):
    """How Redis must change to agree with what Postgres has committed."""

    held: Sequence[Slot] = ()
    lost: Sequence[Slot] = ()


def wanted(cases: Sequence[Case], decisions: Sequence[Decision]) -> list[Slot]:
    """The slots to ask for, each conversation once, in the order that everybody locks them in."""
    found: dict[UUID, Slot] = {}
    for case, decision in zip(cases, decisions, strict=True):
        conversation_id = case.facts.conversation_id
        if isinstance(decision, Bridge) and conversation_id is not None and conversation_id not in found:
            found[conversation_id] = Slot(case.intent.org_id, conversation_id, case.intent.intent_id)
    return sorted(found.values(), key=lambda slot: slot.conversation_id)


def judged(
    cases: Sequence[Case], decisions: Sequence[Decision], holders: Mapping[UUID, UUID], now: datetime
) -> list[Decision]:
    """The decisions once Postgres has said who holds each slot; the facts of those that it concerns are completed."""
    found = list(decisions)
    for index, case in enumerate(cases):
        conversation_id = case.facts.conversation_id
        if isinstance(found[index], Bridge) and conversation_id is not None:
            holder = holders[conversation_id]
            if holder != case.intent.intent_id:
                case.facts = case.facts._replace(slot_holder=holder)
                found[index] = decide(case.intent, case.facts, now)
    return found


def alignment(asked: Sequence[Slot], redis: Mapping[UUID, UUID | None], holders: Mapping[UUID, UUID]) -> Alignment:
    """Postgres believed: what Redis has otherwise. Where Redis could not say, nothing is done."""
    held = [
        slot
        for slot in asked
        if holders[slot.conversation_id] == slot.intent_id and redis[slot.conversation_id] not in (None, slot.intent_id)
    ]
    lost = [
        slot
        for slot in asked
        if holders[slot.conversation_id] != slot.intent_id and redis[slot.conversation_id] == slot.intent_id
    ]
    return Alignment(held, lost)
