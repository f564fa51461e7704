"""Which intents ask for a bridge slot, and what its holder makes of their decisions. Pure.

Only an intent whose decision would be *bridge* asks, at most one per conversation and batch: the first. The answer
holds for the others as well.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from libs.common.bridge.slot import Slot
from services.router.decide import Bridge, Decision, decide
from services.router.outcome import Case


def bridge_requests(cases: Sequence[Case], decisions: Sequence[Decision]) -> list[Slot]:
    """The slots to ask for, each conversation once, in the order in which slots are locked everywhere."""
    requests: dict[UUID, Slot] = {}
    for case, decision in zip(cases, decisions, strict=True):
        conversation_id = case.facts.conversation_id
        if isinstance(decision, Bridge) and conversation_id is not None and conversation_id not in requests:
            requests[conversation_id] = Slot(case.intent.org_id, conversation_id, case.intent.intent_id)
    return sorted(requests.values(), key=lambda slot: slot.conversation_id)


def known_holders(cases: Sequence[Case]) -> dict[UUID, UUID | None]:
    """By conversation, the intent that held the slot when the facts were read."""
    return {at: case.known_holder for case in cases if (at := case.facts.conversation_id) is not None}


def apply_holders(
    cases: Sequence[Case], decisions: Sequence[Decision], holders: Mapping[UUID, UUID], now: datetime
) -> list[Decision]:
    """The decisions once the holder of each slot is known; the facts of the cases that it concerns are completed."""
    found = list(decisions)
    for index, case in enumerate(cases):
        conversation_id = case.facts.conversation_id
        if isinstance(found[index], Bridge) and conversation_id is not None:
            holder = holders[conversation_id]
            if holder != case.intent.intent_id:
                case.facts = case.facts._replace(slot_holder=holder)
                found[index] = decide(case.intent, case.facts, now)
    return found
