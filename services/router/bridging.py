"""The intents that ask for a bridge slot, and their decisions once its holder is known. Pure.

Only the first intent of a conversation and batch whose decision would be *bridge* asks. The answer holds for the
others too.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from libs.common.bridge.slot import Slot
from services.router.decide import Bridge, Decision, decide
from services.router.facts import Attempt


def bridge_requests(attempts: Sequence[Attempt], decisions: Sequence[Decision]) -> list[Slot]:
    """The slots to ask for, each conversation once, in the order in which slots are locked everywhere."""
    requests: dict[UUID, Slot] = {}
    for attempt, decision in zip(attempts, decisions, strict=True):
        conversation_id = attempt.facts.conversation_id
        if isinstance(decision, Bridge) and conversation_id is not None and conversation_id not in requests:
            requests[conversation_id] = Slot(attempt.intent.org_id, conversation_id, attempt.intent.intent_id)
    return sorted(requests.values(), key=lambda slot: slot.conversation_id)


def known_holders(attempts: Sequence[Attempt]) -> dict[UUID, UUID | None]:
    """By conversation, the intent that held the slot when the facts were read."""
    return {at: attempt.known_holder for attempt in attempts if (at := attempt.facts.conversation_id) is not None}


def apply_holders(
    attempts: Sequence[Attempt], decisions: Sequence[Decision], holders: Mapping[UUID, UUID], now: datetime
) -> list[Decision]:
    """The decisions once the holder of each slot is known; the facts of the attempts that it concerns are completed."""
    found = list(decisions)
    for index, attempt in enumerate(attempts):
        conversation_id = attempt.facts.conversation_id
        if isinstance(found[index], Bridge) and conversation_id is not None:
            holder = holders[conversation_id]
            if holder != attempt.intent.intent_id:
                attempt.facts = attempt.facts._replace(slot_holder=holder)
                found[index] = decide(attempt.intent, attempt.facts, now)
    return found
