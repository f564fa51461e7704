"""Which intents of a batch ask for a bridge slot, and what its holder makes of their decisions."""

from uuid import UUID

from services.router.bridging import apply_holders, bridge_requests, known_holders
from services.router.decide import Bridge, Session, Silent, decide
from services.router.facts import Attempt, Facts
from tests.unit.services.router.builders import CONVERSATION, NOW, OTHER, an_intent, closed_facts, some_facts

ELSEWHERE = UUID(int=1)


def an_attempt(intent_id: int, facts: Facts, known_holder: UUID | None = None) -> Attempt:
    return Attempt(an_intent(intent_id=UUID(int=intent_id)), 1, intent_id, facts, known_holder=known_holder)


def test_the_first_bridge_of_each_conversation_asks_in_the_order_of_conversations() -> None:
    attempts = [
        an_attempt(1, some_facts()),
        an_attempt(2, closed_facts()),
        an_attempt(3, closed_facts()),
        an_attempt(4, closed_facts(conversation_id=ELSEWHERE)),
    ]
    decisions = [decide(attempt.intent, attempt.facts, NOW) for attempt in attempts]
    assert [type(decision) for decision in decisions] == [Session, Bridge, Bridge, Bridge]
    requests = bridge_requests(attempts, decisions)
    assert [(r.conversation_id, r.intent_id) for r in requests] == [
        (ELSEWHERE, UUID(int=4)),
        (CONVERSATION, UUID(int=2)),
    ]


def test_a_conversation_that_is_not_opened_yet_asks_for_nothing() -> None:
    attempt = an_attempt(1, closed_facts(conversation_id=None))
    assert bridge_requests([attempt], [Bridge()]) == []
    assert known_holders([attempt]) == {}


def test_all_but_the_holder_are_silent_and_their_facts_name_the_holder() -> None:
    attempts = [an_attempt(n, closed_facts(), OTHER) for n in (1, 2)]
    decisions = [Bridge(), Bridge()]
    assert known_holders(attempts) == {CONVERSATION: OTHER}
    assert apply_holders(attempts, decisions, {CONVERSATION: UUID(int=1)}, NOW) == [
        Bridge(),
        Silent("bridge_already_sent", UUID(int=1)),
    ]
    assert [attempt.facts.slot_holder for attempt in attempts] == [None, UUID(int=1)]
