"""Which intents of a batch ask for a bridge slot, and what its holder makes of their decisions."""

from uuid import UUID

from services.router.bridging import apply_holders, bridge_requests, known_holders
from services.router.decide import Bridge, Session, Silent, decide
from services.router.facts import Facts
from services.router.outcome import Case
from tests.unit.services.router.builders import CONVERSATION, NOW, OTHER, an_intent, closed_facts, some_facts

ELSEWHERE = UUID(int=1)


def a_case(intent_id: int, facts: Facts, known_holder: UUID | None = None) -> Case:
    return Case(an_intent(intent_id=UUID(int=intent_id)), facts, 1, intent_id, known_holder=known_holder)


def test_the_first_bridge_of_each_conversation_asks_in_the_order_of_conversations() -> None:
    cases = [
        a_case(1, some_facts()),
        a_case(2, closed_facts()),
        a_case(3, closed_facts()),
        a_case(4, closed_facts(conversation_id=ELSEWHERE)),
    ]
    decisions = [decide(case.intent, case.facts, NOW) for case in cases]
    assert [type(decision) for decision in decisions] == [Session, Bridge, Bridge, Bridge]
    requests = bridge_requests(cases, decisions)
    assert [(r.conversation_id, r.intent_id) for r in requests] == [
        (ELSEWHERE, UUID(int=4)),
        (CONVERSATION, UUID(int=2)),
    ]


def test_a_conversation_that_is_not_opened_yet_asks_for_nothing() -> None:
    case = a_case(1, closed_facts(conversation_id=None))
    assert bridge_requests([case], [Bridge()]) == []
    assert known_holders([case]) == {}


def test_all_but_the_holder_are_silent_and_their_facts_name_the_holder() -> None:
    cases = [a_case(n, closed_facts(), OTHER) for n in (1, 2)]
    decisions = [Bridge(), Bridge()]
    assert known_holders(cases) == {CONVERSATION: OTHER}
    assert apply_holders(cases, decisions, {CONVERSATION: UUID(int=1)}, NOW) == [
        Bridge(),
        Silent("bridge_already_sent", UUID(int=1)),
    ]
    assert [case.facts.slot_holder for case in cases] == [None, UUID(int=1)]
